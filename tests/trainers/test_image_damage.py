"""Damage and value ranges that decoders ignore silently are errors that name the file; intact files are accepted."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

from oof.errors import DataError
from trainers.media.image import DECODES, count_frames, decode_image, load_image
from trainers.media.image_damage import MOST_PIXELS, file_kind
from trainers.media.image_info import inspect_image

RNG = np.random.default_rng(0)
NOISE = np.asarray(RNG.integers(0, 255, (64, 64, 3)), np.uint8)


def saved(image: NDArray[Any], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def written(data: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "x.img"
    path.write_bytes(data)
    return path


def refused(data: bytes, tmp_path: Path, message: str) -> None:
    """Check that every decoder refuses the file, and that `check` names its problem."""
    path = written(data, tmp_path)
    for decode in DECODES:
        with pytest.raises(DataError, match=rf"x\.img .*{message}.*dfens check --decode"):
            load_image(path, 32, decode)
    assert inspect_image(str(path)).error is not None


def hole(data: bytes, at: float, length: int) -> bytes:
    start = int(len(data) * at)
    return data[:start] + bytes(length) + data[start + length :]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}])
def test_a_jpeg_with_a_hole_is_refused(options: dict[str, Any], tmp_path: Path, capfd: Any) -> None:
    data = saved(NOISE, "JPEG", quality=90, **options)
    half = len(data) // 2
    refused(data[:half] + b"\xff\xd9", tmp_path, "is cut or damaged")
    refused(hole(data, 0.5, 300), tmp_path, "is cut or damaged")
    refused(data[:half], tmp_path, "is cut or damaged")
    refused(data[:-2], tmp_path, "is cut or damaged")
    assert capfd.readouterr().err == ""  # messages of libjpeg do not name the file


def test_a_hole_that_leaves_valid_codes_is_refused(tmp_path: Path) -> None:
    """Zeros are codes too: of many files with a hole, the decoder alone notices only some."""
    rng = np.random.default_rng(1)
    for seed in range(30):
        image = np.clip(128 + np.cumsum(rng.normal(0, 3, (96, 96, 3)), axis=1), 0, 255).astype(np.uint8)
        data = saved(image, "JPEG", quality=85)
        refused(hole(data, 0.4 + seed / 100, 96), tmp_path, "is cut or damaged")


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}, {"quality": 1}])
def test_a_flat_jpeg_is_not_a_hole(value: int, options: dict[str, Any], tmp_path: Path) -> None:
    flat = np.full((512, 512, 3), value, np.uint8)
    for kind in ("JPEG", "WEBP"):
        given = options if kind == "JPEG" else {}
        assert np.ptp(decode_image(written(saved(flat, kind, **given), tmp_path))) <= 1
    assert np.ptp(decode_image(written(saved(flat[..., 0], "JPEG", **options), tmp_path))) <= 1


def test_pixels_are_those_of_opencv_and_pillow(tmp_path: Path) -> None:
    for shape in ((64, 64), (61, 47), (9, 130)):
        image = np.asarray(np.random.default_rng(0).integers(0, 255, (*shape, 3)), np.uint8)
        for options in ({}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}):
            for grey in (False, True):
                data = saved(image[..., 0] if grey else image, "JPEG", quality=80, **options)
                found = decode_image(written(data, tmp_path))
                by_opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
                np.testing.assert_array_equal(found, by_opencv)
                np.testing.assert_array_equal(found, np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")))
                half = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_2)
                np.testing.assert_array_equal(decode_image(tmp_path / "x.img", reduce=2), np.asarray(half)[..., ::-1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_applied_like_in_pillow(orientation: int, tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    data = saved(NOISE[:40], "JPEG", quality=95, exif=exif)
    upright = ImageOps.exif_transpose(Pillow.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(decode_image(written(data, tmp_path)), np.asarray(upright))


def chunks(data: bytes) -> dict[bytes, int]:
    """Return the offset of each chunk of a PNG."""
    at, found = 8, {}
    while at < len(data):
        found[data[at + 4 : at + 8]] = at
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return found


@pytest.mark.parametrize("name", [b"IHDR", b"IDAT", b"IEND"])
def test_a_png_with_a_wrong_checksum_names_the_chunk(name: bytes, tmp_path: Path, capfd: Any) -> None:
    data = bytearray(saved(NOISE, "PNG"))
    at = chunks(bytes(data))[name]
    end = at + 8 + int.from_bytes(data[at : at + 4], "big")
    data[end] ^= 255
    refused(bytes(data), tmp_path, f"the checksum of its chunk '{name.decode()}' is wrong")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("fields", "pixels", "message"),
    [
        ((3, 2, 0, 0, 0), zlib.compress(bytes(400)), "its header .IHDR. is invalid"),
        ((8, 5, 0, 0, 0), zlib.compress(bytes(400)), "its header .IHDR. is invalid"),
        ((8, 2, 1, 0, 0), zlib.compress(bytes(400)), "its header .IHDR. is invalid"),
        ((8, 2, 0, 0, 7), zlib.compress(bytes(400)), "its header .IHDR. is invalid"),
        ((8, 3, 0, 0, 0), zlib.compress(bytes(72)), "it has no palette .PLTE."),
        ((8, 2, 0, 0, 0), bytes(range(100)), "its chunk 'IDAT' contains no compressed data"),
    ],
)
def test_a_png_that_libpng_refuses_is_named_without_its_line(
    fields: tuple[int, ...], pixels: bytes, message: str, tmp_path: Path, capfd: Any
) -> None:
    refused(png_of(struct.pack(">IIBBBBB", 8, 8, *fields), pixels), tmp_path, message)
    assert capfd.readouterr().err == ""
    refused(png_of(b"\0", pixels), tmp_path, "its header .IHDR. is invalid")


def test_a_png_truncated_at_any_length_is_refused(tmp_path: Path) -> None:
    data = saved(NOISE, "PNG")
    for kept in (20, 33, 60, len(data) // 2, len(data) - 13, len(data) - 1):
        refused(data[:kept], tmp_path, "it ends (within|before)")
    assert decode_image(written(data + b"more", tmp_path)).shape == (64, 64, 3)


def test_a_wrong_checksum_of_an_optional_chunk_is_accepted(tmp_path: Path) -> None:
    data = saved(NOISE, "PNG")
    body = b"tEXtSoftware\0x"
    extra = struct.pack(">I", len(body) - 4) + body + b"\0\0\0\0"
    whole = data[:33] + extra + data[33:]
    np.testing.assert_array_equal(decode_image(written(whole, tmp_path)), NOISE)


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "AVIF", "PPM"])
def test_other_formats_are_refused_if_truncated(kind: str, tmp_path: Path) -> None:
    data = saved(NOISE, kind)
    for kept in (0.3, 0.5, 0.9):
        refused(data[: int(len(data) * kept)], tmp_path, "is cut or damaged")


@pytest.mark.parametrize("kind", ["WEBP", "JPEG2000", "AVIF"])
def test_compressed_formats_without_checksums_are_refused_with_a_hole(kind: str, tmp_path: Path) -> None:
    refused(hole(saved(NOISE, kind), 0.6, 128), tmp_path, "its compressed data are zeros from byte")


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_a_file_whose_end_was_never_written_is_refused(kind: str, tmp_path: Path) -> None:
    data = saved(NOISE, kind)
    kept = int(len(data) * 0.7)
    refused(data[:kept] + bytes(len(data) - kept), tmp_path, "its compressed data are zeros from byte")
    assert decode_image(written(data + bytes(4096), tmp_path)).shape == NOISE.shape  # zeros after the image


@pytest.mark.parametrize("method", [0, 2, 4])
@pytest.mark.parametrize("quality", [1, 100])
def test_a_webp_with_large_flat_areas_is_not_a_hole(method: int, quality: int, tmp_path: Path) -> None:
    image = np.full((1024, 1024, 3), 255, np.uint8)
    image[400:464, 400:464] = NOISE
    image[-1, -1] = 0
    data = saved(image, "WEBP", method=method, quality=quality)
    assert decode_image(written(data, tmp_path)).shape == image.shape


def test_a_deflated_tiff_with_a_hole_is_refused(tmp_path: Path) -> None:
    data = saved(np.cumsum(NOISE, axis=1).astype(np.uint8), "TIFF", compression="tiff_adobe_deflate")
    for at in (0.3, 0.5, 0.7):
        refused(hole(data, at, 64), tmp_path, "its strip at byte .* does not decompress")
    assert decode_image(written(data, tmp_path)).shape == NOISE.shape


@pytest.mark.parametrize("ending", [".tif", ".jp2"])
def test_colours_of_16_bits_keep_their_upper_8_bits(ending: str, tmp_path: Path) -> None:
    wide = NOISE.astype(np.uint16) * 257
    wide[:8] = 65535
    lossless = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
    data = bytes(cv2.imencode(ending, wide[..., ::-1], lossless)[1])
    np.testing.assert_array_equal(decode_image(written(data, tmp_path)), wide >> 8)
    for narrow in (NOISE.astype(np.uint16), NOISE.astype(np.uint16) * 16):
        refused(bytes(cv2.imencode(ending, narrow, lossless)[1]), tmp_path, f"largest 16-bit value is {narrow.max()}")


def tiff(values: NDArray[Any]) -> bytes:
    return bytes(cv2.imencode(".tif", values)[1])


RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (saved(RAMP.astype(np.float32), "TIFF"), "values are of type float32, from 0 to 1"),
        (saved((RAMP * 255).astype(np.float32), "TIFF"), "values are of type float32, from 0 to 255"),
        (saved((RAMP * 255).astype(np.int32), "TIFF"), "values are of type int32"),
        (tiff(np.dstack([RAMP] * 3).astype(np.float32)), "values are of type float32"),
        (bytes(cv2.imencode(".hdr", np.dstack([RAMP] * 3).astype(np.float32))[1]), "values are of type float32"),
        (bytes(cv2.imencode(".png", (RAMP * 255).astype(np.uint16))[1]), "largest 16-bit value is 255"),
        (bytes(cv2.imencode(".png", (np.dstack([RAMP] * 3) * 4095).astype(np.uint16))[1]), "16-bit value is 4095"),
        (saved((RAMP * 255).astype(np.uint16), "TIFF"), "largest 16-bit value is 255"),
    ],
)
def test_values_without_a_known_range_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    refused(data, tmp_path, f"cannot be used .*{message}")


def test_sixteen_bits_of_full_range_and_black_are_read(tmp_path: Path) -> None:
    wide = (RAMP * 65535).astype(np.uint16)
    for data in (saved(wide, "PNG"), saved(wide, "TIFF"), saved(wide, "PPM")):
        np.testing.assert_array_equal(decode_image(written(data, tmp_path))[..., 0], wide >> 8)
    assert not decode_image(written(saved(wide * 0, "PNG"), tmp_path)).any()


def huge_png(width: int, height: int) -> bytes:
    return png_of(struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), zlib.compress(b""))


def png_of(header: bytes, pixels: bytes) -> bytes:
    parts = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )


def with_size(kind: str, at: bytes, offset: int, form: str, *size: int) -> bytes:
    data = bytearray(saved(NOISE, kind))
    start = data.find(at) + offset
    data[start : start + struct.calcsize(form)] = struct.pack(form, *size)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        huge_png(60_000, 60_000),
        huge_png(2_000_000_000, 2),
        with_size("JPEG", b"\xff\xc0", 5, ">HH", 65_000, 65_000),
        with_size("BMP", b"BM", 18, "<ii", 60_000, 60_000),
        with_size("GIF", b"GIF", 6, "<HH", 65_535, 65_535),
    ],
)
def test_a_size_beyond_what_is_decoded_is_named(data: bytes, tmp_path: Path) -> None:
    refused(data, tmp_path, rf"{MOST_PIXELS}")


def test_a_size_of_zero_is_named(tmp_path: Path) -> None:
    refused(with_size("JPEG", b"\xff\xc0", 5, ">HH", 0, 64), tmp_path, "its header declares 64 x 0 pixels")
    refused(huge_png(0, 10), tmp_path, "its header declares 0 x 10 pixels")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_frames_of_an_animation_are_counted(kind: str, tmp_path: Path) -> None:
    more = [Pillow.fromarray(np.roll(NOISE, shift, 0)) for shift in (3, 9)]
    data = saved(NOISE, kind, save_all=True, append_images=more)
    assert count_frames(data) == 3
    assert inspect_image(str(written(data, tmp_path))).frames == 3
    assert count_frames(saved(NOISE, kind)) == 1
    assert count_frames(saved(NOISE, "JPEG")) == 1


def test_formats_are_recognised_by_their_first_bytes() -> None:
    kinds = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "GIF", "TIFF": "TIFF", "BMP": "BMP", "AVIF": "AVIF"}
    for kind, name in kinds.items():
        assert file_kind(saved(NOISE, kind)) == name
    assert file_kind(b"<html>") is None


def test_random_damage_is_refused_or_stays_local(tmp_path: Path) -> None:
    """After any change of bytes, the result is an image or a named error."""
    rng = np.random.default_rng(2)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "ICO", "TGA", "PPM"):
        data = saved(NOISE, kind)
        for _ in range(12):
            damaged = bytearray(data)
            at = int(rng.integers(0, len(data)))
            damaged[at : at + int(rng.integers(1, 40))] = rng.bytes(int(rng.integers(1, 40)))
            info = inspect_image(str(written(bytes(damaged), tmp_path)))
            assert info.error is not None or (info.height > 0 and info.width > 0)
