"""Image decoders: formats, broken files, and agreement between the decoders."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from oof.errors import ConfigError, DataError, TrainingError
from trainers.kinds.timm.settings import TimmSettings
from trainers.media.arrays import Image
from trainers.media.image import DECODES, decode_bytes, decode_image, image_size, load_image, resize_image
from trainers.media.image_gpu import decode_on_device
from trainers.media.image_info import inspect_image
from trainers.media.image_store import ImageStore, Subset
from trainers.media.loader import Loader


def photo(height: int = 48, width: int = 64) -> Image:
    """Return a smooth image whose four quarters have different colours."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (200, 40, 30)
    picture[: height // 2, width // 2 :] = (30, 180, 60)
    picture[height // 2 :, : width // 2] = (40, 60, 210)
    picture[height // 2 :, width // 2 :] = (220, 220, 90)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 3), np.uint8)


def saved(picture: Pillow.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png16(values: NDArray[np.uint16]) -> bytes:
    """Return a 16-bit PNG, grey or RGB, written from the definition of the format."""
    height, width = values.shape[:2]
    kind = 2 if values.ndim == 3 else 0

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def decoded(data: bytes, tmp_path: Path, name: str = "x.jpg") -> Image:
    (tmp_path / name).write_bytes(data)
    return decode_image(tmp_path / name)


def far(a: Image, b: Image) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_common_formats_give_the_same_rgb(kind: str, tmp_path: Path) -> None:
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    found = decoded(saved(Pillow.fromarray(photo()), kind, **options), tmp_path)
    assert found.dtype == np.uint8
    assert found.shape == (48, 64, 3)
    assert found.flags["C_CONTIGUOUS"]
    assert far(found, photo()) < 4


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG"):
        grey = Pillow.fromarray(photo()).convert("L")
        found = decoded(saved(grey, kind), tmp_path)
        assert (found[..., 0] == found[..., 1]).all()
        assert far(found[..., 0], np.asarray(grey)) < 2


def test_palette_is_looked_up_and_its_transparency_dropped(tmp_path: Path) -> None:
    palette = Pillow.fromarray(photo()).quantize(64)
    expected = np.asarray(palette.convert("RGB"))
    for kind, options in (("PNG", {}), ("PNG", {"transparency": 0}), ("GIF", {}), ("GIF", {"transparency": 0})):
        assert far(decoded(saved(palette, kind, **options), tmp_path), expected) == 0


def test_cmyk_jpeg_keeps_its_colors(tmp_path: Path) -> None:
    found = decoded(saved(Pillow.fromarray(photo()).convert("CMYK"), "JPEG", quality=95), tmp_path)
    assert far(found, photo()) < 4


def test_sixteen_bits_are_reduced_to_the_upper_eight(tmp_path: Path) -> None:
    wide = photo().astype(np.uint16) * 256 + 77
    assert far(decoded(png16(wide), tmp_path), photo()) == 0
    assert far(decoded(png16(wide[..., 0]), tmp_path)[..., 1], photo()[..., 0]) == 0
    tiff = saved(Pillow.fromarray(wide[..., 0]), "TIFF")
    assert far(decoded(tiff, tmp_path)[..., 2], photo()[..., 0]) == 0


def test_alpha_is_dropped_and_not_painted_over(tmp_path: Path) -> None:
    clear = Pillow.fromarray(np.dstack([photo(), np.zeros((48, 64), np.uint8)]))
    assert far(decoded(saved(clear, "PNG"), tmp_path), photo()) == 0
    assert far(decoded(saved(clear, "WEBP", lossless=True, exact=True), tmp_path), photo()) == 0


def with_orientation(kind: str, orientation: int) -> bytes:
    """Return the photo in a format, with an orientation."""
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    xmp = f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'
    itxt = PngInfo()
    itxt.add_itxt("XML:com.adobe.xmp", xmp)
    image, second = Pillow.fromarray(photo()), Pillow.fromarray(photo()[::-1].copy())
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "JPEG": ("JPEG", {"exif": exif}),
        "CMYK": ("JPEG", {"exif": exif}),
        "JPEG with XMP": ("JPEG", {"xmp": xmp.encode()}),
        "PNG": ("PNG", {"exif": exif}),
        "PNG with XMP": ("PNG", {"pnginfo": itxt}),
        "animated PNG": ("PNG", {"exif": exif, "save_all": True, "append_images": [second]}),
        "WebP": ("WEBP", {"exif": exif}),
        "WebP with XMP": ("WEBP", {"xmp": xmp.encode()}),
        "animated WebP": ("WEBP", {"exif": exif, "save_all": True, "append_images": [second]}),
        "AVIF": ("AVIF", {"exif": exif}),
        "TIFF": ("TIFF", {"tiffinfo": {0x0112: orientation}}),
    }
    form, options = kinds[kind]
    quality = {"quality": 95} if form in ("JPEG", "WEBP", "AVIF") else {}
    return saved(image.convert("CMYK") if kind == "CMYK" else image, form, **quality, **options)


ORIENTED = "JPEG, CMYK, JPEG with XMP, PNG, PNG with XMP, animated PNG, WebP, WebP with XMP, animated WebP, AVIF, TIFF"


@pytest.mark.parametrize("kind", ORIENTED.split(", "))
def test_the_orientation_is_applied_in_every_format_by_every_decoder(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "turned"
    upright = {1: photo(), 3: photo()[::-1, ::-1], 5: photo().transpose(1, 0, 2), 6: np.rot90(photo(), -1)}
    for orientation, expected in upright.items():
        path.write_bytes(with_orientation(kind, orientation))
        assert decode_image(path).shape == expected.shape
        assert far(decode_image(path), expected) < 4
        for decode in DECODES:
            assert far(load_image(path, expected.shape[:2], decode), expected) < 4
        info = inspect_image(str(path))
        assert (info.height, info.width) == expected.shape[:2]


def test_damaged_exif_data_do_not_make_an_image_unreadable(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG", "WebP"):
        data = with_orientation(kind, 6)
        at = data.index(b"MM\0*") if b"MM\0*" in data else data.index(b"II*\0")
        damaged = data[: at + 4] + b"\xff" * 4 + data[at + 8 :]  # the offset of the first directory
        assert far(decoded(damaged, tmp_path), photo()) < 4


def test_the_first_frame_of_an_animation_is_read(tmp_path: Path) -> None:
    first, second = photo(), photo()[::-1].copy()
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        data = saved(Pillow.fromarray(first), kind, save_all=True, append_images=[Pillow.fromarray(second)], **options)
        assert far(decoded(data, tmp_path), first) < far(decoded(data, tmp_path), second) / 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_file_is_an_error_that_names_it(kind: str, kept: float, tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = saved(Pillow.fromarray(noisy), kind)
    with pytest.raises(DataError, match=r"cut\.jpg is .*dfens check --decode"):
        decoded(data[: int(kept * len(data))], tmp_path, "cut.jpg")


def test_zero_bytes_after_a_complete_jpeg_are_accepted(tmp_path: Path) -> None:
    data = saved(Pillow.fromarray(photo()), "JPEG")
    assert far(decoded(data + bytes(20), tmp_path), decoded(data, tmp_path)) == 0
    assert far(decoded(data + b"more", tmp_path), decoded(data, tmp_path)) < 2


def test_the_type_of_files_that_are_not_images_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.jpg is not a valid image \(12 bytes, beginning with 'hello world\.'"):
        decoded(b"hello world\n", tmp_path)
    with pytest.raises(DataError, match=r"x\.jpg is empty \(0 bytes\)"):
        decoded(b"", tmp_path)
    with pytest.raises(DataError, match=r"gone\.jpg is missing\. Run dfens check"):
        decode_image(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match=r"cannot be read"):
        decode_image(tmp_path)
    with pytest.raises(DataError, match=r"clip\.mp4 is a clip, and this model reads images\. Set kind"):
        decode_image(tmp_path / "clip.mp4")


def test_decoders_agree_on_a_smooth_image(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    path.write_bytes(saved(Pillow.fromarray(cv2.resize(photo(), (512, 512))), "JPEG", quality=95))
    results = {decode: load_image(path, 128, decode) for decode in DECODES}
    for found in results.values():
        assert found.shape == (128, 128, 3)
        assert far(found, results["pil"]) < 2


def test_scaled_decoding_never_goes_below_the_requested_size(tmp_path: Path) -> None:
    data = saved(Pillow.fromarray(cv2.resize(photo(), (512, 400))), "JPEG")
    (tmp_path / "x.jpg").write_bytes(data)
    assert load_image(tmp_path / "x.jpg", (200, 256), "scaled").shape == (200, 256, 3)
    assert far(load_image(tmp_path / "x.jpg", (200, 256), "scaled"), decode_bytes(data, "x", reduce=2)) == 0
    assert (
        far(load_image(tmp_path / "x.jpg", (201, 256), "scaled"), resize_image(decode_bytes(data, "x"), (201, 256)))
        == 0
    )


def test_scaled_decoding_of_a_turned_photo_never_goes_below_the_requested_size(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    data = saved(Pillow.fromarray(cv2.resize(photo(), (512, 256))), "JPEG", exif=exif)  # upright 512 high, 256 wide
    (tmp_path / "x.jpg").write_bytes(data)
    expected = resize_image(decode_bytes(data, "x", reduce=2), (256, 128))
    assert far(load_image(tmp_path / "x.jpg", (256, 128), "scaled"), expected) == 0
    whole = resize_image(decode_bytes(data, "x"), (128, 256))
    assert far(load_image(tmp_path / "x.jpg", (128, 256), "scaled"), whole) == 0


def test_sizes_are_read_from_the_header() -> None:
    for kind in ("JPEG", "PNG"):
        assert image_size(saved(Pillow.fromarray(photo()), kind)[:600]) == (48, 64)
    assert image_size(b"hello") is None
    assert image_size(b"\xff\xd8\xff\xe0") is None


def mixed_files(folder: Path) -> tuple[list[bytes], list[str]]:
    """Return a JPEG, a grey JPEG, a PNG, a CMYK JPEG and a JPEG with an EXIF orientation: bytes and paths."""
    exif = Pillow.Exif()
    exif[0x0112] = 6
    large = Pillow.fromarray(cv2.resize(photo(), (160, 120)))
    files = [
        saved(large, "JPEG", quality=95),
        saved(large.convert("L"), "JPEG", quality=95),
        saved(large, "PNG"),
        saved(large.convert("CMYK"), "JPEG", quality=95),
        saved(large, "JPEG", quality=95, exif=exif),
    ]
    paths = [str(folder / f"{row}.jpg") for row in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        Path(path).write_bytes(data)
    return files, paths


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_batch_decoded_on_a_device_is_close_to_the_cpu_result(device: str, tmp_path: Path) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    files, paths = mixed_files(tmp_path)
    batch = decode_on_device(files, paths, 64, torch.device(device))
    assert batch.device.type == device
    assert tuple(batch.shape) == (5, 64, 64, 3)
    for row, path in enumerate(paths):
        assert far(batch[row].cpu().numpy(), load_image(path, 64)) < (2 if row < 2 else 0.01)


def test_truncated_and_unknown_files_are_errors_on_a_device_too(tmp_path: Path) -> None:
    files, paths = mixed_files(tmp_path)
    for broken in (files[0][:500], b"hello"):
        with pytest.raises(DataError, match=r"0\.jpg is "):
            decode_on_device([broken, *files[1:]], paths, 64, torch.device("cpu"))


def test_a_hole_that_the_device_decoder_ignores_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nvJPEG takes zeros for image data, and a header for the size to allocate."""
    files, paths = mixed_files(tmp_path)
    middle = len(files[0]) // 2
    hole = files[0][:middle] + bytes(300) + files[0][middle + 300 :]
    frame = files[0].index(b"\xff\xc0")
    huge = files[0][: frame + 5] + b"\xff\xff\xff\xff" + files[0][frame + 9 :]

    def accepting(found: Any, **_: object) -> Any:
        return [torch.zeros((3, 64, 64), dtype=torch.uint8) for _ in found]

    monkeypatch.setattr("torchvision.io.decode_jpeg", accepting)
    for broken, message in ((hole, r"0\.jpg is cut or damaged .*zeros from byte"), (huge, r"0\.jpg cannot be used")):
        with pytest.raises(DataError, match=message):
            decode_on_device([broken, *files[1:]], paths, 64, torch.device("cpu"))


@pytest.mark.parametrize(("error", "raised", "message"), [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"), TrainingError, "5 images do not fit into"),
    (RuntimeError("CUDA error: an illegal memory access was encountered"), RuntimeError, "illegal memory access"),
    (RuntimeError("decode_jpegs_cuda: not compiled with nvJPEG support"), TrainingError, "not in this build"),
])  # fmt: skip
def test_device_errors_never_switch_to_another_decoder(
    error: Exception, raised: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    files, paths = mixed_files(tmp_path)
    monkeypatch.setattr("torchvision.io.decode_jpeg", failing)
    with pytest.raises(raised, match=message):
        decode_on_device(files, paths, 64, torch.device("cpu"))


def test_a_file_that_the_device_decoder_refuses_is_read_by_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.io import decode_jpeg

    files, paths = mixed_files(tmp_path)
    every = decode_on_device(files, paths, 64, torch.device("cpu"))

    def refusing(found: Any, **options: Any) -> Any:
        if isinstance(found, list) or len(found) == len(files[1]):
            raise RuntimeError("nvjpegDecode failed with status 2")
        return decode_jpeg(found, **options)

    monkeypatch.setattr("torchvision.io.decode_jpeg", refusing)
    batch = decode_on_device(files, paths, 64, torch.device("cpu"))
    assert torch.equal(batch[0], every[0])
    np.testing.assert_array_equal(batch[1].numpy(), load_image(paths[1], 64))


def test_decoding_on_a_gpu_is_refused_without_one() -> None:
    rows = Subset(ImageStore(["a.jpg"], 8, "gpu", 1), np.arange(1), np.array(["a"], object), np.zeros(1, np.int8))
    with pytest.raises(TrainingError, match='decode = "gpu" needs a CUDA device'):
        Loader(1).rows([np.arange(1)], rows, torch.device("cpu"))
    with pytest.raises(ConfigError, match='Set decode = "area"'):
        TimmSettings(backbone="resnet18", decode="gpu", self_blend=0.5)
