"""Read image files of any common format as RGB arrays, consistently and with errors that name the file.

All decoders behave as follows:

- the result is uint8 RGB; grey is repeated, palettes are applied, CMYK is converted, of 16 bits the upper 8 are kept;
- transparency is dropped, not composited over a background: the colours stored in transparent pixels remain;
- the orientation in EXIF or XMP data is applied in every format, so that photos are upright (timm and torchvision
  ignore it);
- the first frame of an animation is used;
- a file that is truncated, or damaged in the middle, raises an error instead of returning a partly grey image; so does
  a file whose values have no known range (floats, 32-bit integers, 8 bits stored in 16).
"""

import io
import re
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from oof.errors import DataError
from trainers.media.arrays import Image
from trainers.media.image_damage import (
    ImageDamageError,
    check_hole,
    check_jpeg,
    check_png,
    check_size,
    check_strips,
    decode_jpeg,
    file_kind,
    narrow_values,
)
from trainers.media.settings import Decode

DECODES: dict[Decode, str] = {
    "area": "whole image by OpenCV, reduced by pixel areas",
    "scaled": "JPEG decoded at 1/2, 1/4 or 1/8 in its DCT, then reduced by pixel areas; fastest, loses fine traces",
    "pil": "whole image by Pillow, bicubic with antialiasing: what most loaders do",
}
_CLIPS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
# swapping the channels afterwards took as long as decoding (512 x 512 px); OpenCV ignores the orientation of animations
_RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_SCALES = (1, 2, 4, 8)  # reductions supported by libjpeg
_TURNS: dict[int, Callable[[Image], Image]] = {  # inverse of each EXIF orientation
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image),
}
_FIRST_TRANSPOSED = 5  # orientations from here on exchange height and width
# what a file with an orientation contains: EXIF in JPEG, EXIF and ImageMagick's form of it in PNG, XMP in both
_ORIENTATION_MARKS = (b"Exif", b"eXIf", b"Raw profile type", b"Orientation", b"XML:com.adobe.xmp")
_LIBPNG_LIMIT = 1_000_000  # maximum width and height in pixels
# messages of OpenCV do not name the file; version 5 moved this function
_set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
_set_log_level(0)


def is_clip(path: str | Path) -> bool:
    """Return whether a file is a clip, according to its extension."""
    return Path(path).suffix.lower() in _CLIPS


def load_image(path: str | Path, size: int | tuple[int, int], decode: Decode = "area") -> Image:
    """Read an image at the input size of a model, with the given decoder.

    Detectors rely on traces that decoding and resizing change, so the decoder is a setting that is recorded with the
    model and is the same in training and prediction.

    Args:
        path: of the file.
        size: edge length in pixels, or (height, width); other aspect ratios are squeezed, not cropped.
        decode: one of DECODES.

    Returns:
        RGB, shape (height, width, 3).

    Raises:
        DataError: as in `decode_image`.
    """
    return decode_at(read_bytes(path), path, size, decode)


def decode_at(data: bytes, path: str | Path, size: int | tuple[int, int], decode: Decode = "area") -> Image:
    """Decode the bytes of a file as `load_image` does; `path` names them in messages."""
    shape = (size, size) if isinstance(size, int) else size
    if decode == "pil":
        whole = Pillow.fromarray(decode_bytes(data, path))
        return np.asarray(whole.resize(shape[::-1], Pillow.Resampling.BICUBIC)).copy()
    reduce = _dct_scale(data, shape) if decode == "scaled" else 1
    return resize_image(decode_bytes(data, path, reduce=reduce), shape)


def decode_image(path: str | Path, *, reduce: Literal[1, 2, 4, 8] = 1) -> Image:
    """Read an image file at its original size.

    Args:
        path: of the file.
        reduce: 2, 4 or 8 to decode a JPEG at 1/2, 1/4 or 1/8 of its size.

    Returns:
        RGB, shape (height, width, 3).

    Raises:
        DataError: if the file is missing, empty, truncated or not an image; the message names it and what was found.
    """
    return decode_bytes(read_bytes(path), path, reduce=reduce)


def read_bytes(path: str | Path) -> bytes:
    """Return the bytes of an image file.

    Raises:
        DataError: if it is missing, empty, or a clip.
    """
    path = Path(path)
    if is_clip(path):
        raise DataError(
            f'{path} is a clip, and this model reads images. Set kind = "frames", "audio", "av" or "linear" for '
            f"models on clips (docs/clips.md)."
        )
    try:
        data = path.read_bytes()
    except FileNotFoundError as err:
        raise DataError(f"{path} is missing. Run dfens check for the list of all missing files.") from err
    except OSError as err:
        raise DataError(
            f"{path} cannot be read: {err.strerror}. Run dfens check --decode to find all such files."
        ) from err
    if not data:
        raise _broken(path, "is empty (0 bytes)")
    return data


def decode_bytes(data: bytes, path: str | Path, *, reduce: int = 1) -> Image:
    """Decode the bytes of an image; `path` names them in messages. Arguments and errors as in `decode_image`."""
    try:
        image = _decode_plain(data, reduce)
        return _with_pillow(data, path) if image is None else image
    except ImageDamageError as err:
        raise _broken(path, f"{err.what} ({len(data)} bytes: {err})") from err


def _decode_plain(data: bytes, reduce: int) -> Image | None:
    """Decode a JPEG of 1 or 3 components or an intact PNG, upright; return None for files that Pillow must decode.

    Raises:
        ImageDamageError: if the file is damaged, with the kind of damage.
    """
    frame = _jpeg_frame(data)
    if frame is not None:
        if frame[2] in (1, 3):
            return _upright(decode_jpeg(data, frame[:2], reduce=reduce), _orientation(data))
        check_jpeg(data)
        return None
    kind = file_kind(data)
    check_hole(data, kind)
    if kind != "PNG":
        return None
    check_png(data)
    if max(struct.unpack(">II", data[16:24])) > _LIBPNG_LIMIT:
        return None
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), _RGB)
    if decoded is None:
        return None
    if data[24] == 16:  # bits per channel
        wide = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
        narrow_values(wide if wide.ndim == 2 else wide[..., :3])  # without the alpha channel
    return _upright(np.asarray(decoded, np.uint8), _orientation(data))


def _upright(image: Image, orientation: int) -> Image:
    """Return an image rotated according to an EXIF orientation."""
    turn = _TURNS.get(orientation)
    return image if turn is None else np.ascontiguousarray(turn(image))


def _orientation(data: bytes) -> int:
    """Return the orientation of a JPEG or PNG, 1 to 8; 1 if it is missing or unreadable."""
    end = _header_length(data)  # within the pixel data of a JPEG, these letters have no meaning
    if not any(data.find(mark, 0, end) >= 0 for mark in _ORIENTATION_MARKS):
        return 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Pillow.open(io.BytesIO(data)) as picture:
                return _orientation_of(picture)
        except Exception:  # as in _with_pillow
            return 1


def _orientation_of(picture: Pillow.Image) -> int:
    """Return the orientation in the EXIF or XMP data of an image, 1 to 8; 1 if it is missing or unreadable."""
    try:
        found = int(picture.getexif().get(0x0112, 1))
    except Exception:  # damaged metadata affect no pixel; Pillow's parsers raise errors of many kinds
        return 1
    return found if found in _TURNS else 1


def resize_image(image: Image, size: int | tuple[int, int]) -> Image:
    """Resize to (height, width) with area interpolation for shrinking and bicubic interpolation for enlarging."""
    height, width = (size, size) if isinstance(size, int) else size
    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(resized, np.uint8)


def image_size(data: bytes) -> tuple[int, int] | None:
    """Return height and width from the header of a JPEG or PNG, or None."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return height, width
    frame = _jpeg_frame(data)
    return None if frame is None else frame[:2]


def count_frames(data: bytes) -> int:
    """Return the number of frames or pages of a readable image file; 1 for every JPEG."""
    if file_kind(data) not in ("GIF", "WebP", "PNG", "TIFF", "AVIF"):
        return 1
    if data[:8] == b"\x89PNG\r\n\x1a\n" and b"acTL" not in data[:65536]:
        return 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Pillow.open(io.BytesIO(data)) as picture:
                return int(getattr(picture, "n_frames", 1))
        except Exception:  # as in _with_pillow; only the first frame is used
            return 1


def _jpeg_frame(data: bytes) -> tuple[int, int, int] | None:
    """Return height, width and number of components from a JPEG's frame header, or None."""
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, components = struct.unpack(">HHB", data[at + 5 : at + 10])
            return height, width, components
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _header_length(data: bytes) -> int:
    """Return the number of bytes before the compressed pixels of a JPEG; the length of any other file."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:  # start of scan
            return at
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return len(data)


def is_plain_jpeg(data: bytes) -> bool:
    """Return whether this is a JPEG of 1 or 3 components with an end marker, which is stored upright."""
    frame = _jpeg_frame(data)
    has_end = frame is not None and frame[2] in (1, 3) and data.rstrip(b"\0")[-2:] == b"\xff\xd9"
    return has_end and _orientation(data) == 1


def _dct_scale(data: bytes, size: tuple[int, int]) -> int:
    """Return the largest reduction whose result, upright, is at least `size`."""
    frame = _jpeg_frame(data)
    if frame is None:
        return 1
    height, width = size if size[0] == size[1] or _orientation(data) < _FIRST_TRANSPOSED else size[::-1]
    able = (scale for scale in _SCALES if min(frame[0] // scale - height, frame[1] // scale - width) >= 0)
    return max(able, default=1)


def _with_pillow(data: bytes, path: str | Path) -> Image:
    """Decode with Pillow, or with OpenCV if Pillow does not support the format."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata; serious problems raise exceptions
            with Pillow.open(io.BytesIO(data)) as picture:
                check_size(picture.height, picture.width)
                check_strips(picture, data)
                picture.load()
                wide = _wide_colours(picture, data)
                if wide is not None:
                    return wide
                rgb = np.asarray(_to_rgb(picture, picture.format), np.uint8).copy()
                return _upright(rgb, _orientation_of(picture))
    except UnidentifiedImageError as err:
        decoded = _by_opencv_alone(data)
        if decoded is not None:
            return decoded
        kind = file_kind(data)
        start = re.sub(r"[^ -~]", ".", data[:16].decode("latin-1"))
        if kind is not None:
            raise _broken(
                path, f"is cut or damaged ({len(data)} bytes: it begins as {kind}, but does not decode)"
            ) from err
        raise _broken(path, f"is not a valid image ({len(data)} bytes, beginning with {start!r})") from err
    except ImageDamageError:
        raise
    except Exception as err:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        raise _broken(path, f"is cut or damaged ({len(data)} bytes: {err})") from err


def _wide_colours(picture: Pillow.Image, data: bytes) -> Image | None:
    """Return a colour TIFF or JPEG 2000 with 16 bits as RGB, upright; None for other files.

    Pillow only returns the upper 8 bits of such a TIFF, and in JPEG 2000 white overflows to black. OpenCV applies the
    orientation of a TIFF itself.

    Raises:
        ImageFormatError: if the values have no known range.
    """
    if picture.mode not in ("RGB", "RGBA") or picture.format not in ("TIFF", "JPEG2000"):
        return None
    try:
        wide = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if wide is None or wide.dtype != np.uint16 or wide.ndim != 3:
        return None
    return np.ascontiguousarray(narrow_values(wide[..., 2::-1]))


def _to_rgb(picture: Pillow.Image, format_name: str | None) -> Pillow.Image:
    if picture.mode.startswith(("I", "F")):  # grey with more than 8 bits; Pillow's own conversion clips at 255
        values = np.asarray(picture)
        if picture.mode == "I" and format_name in ("PNG", "PPM"):  # formats with at most 16 bits
            values = values.astype(np.uint16)
        return Pillow.fromarray(narrow_values(values.astype(values.dtype.newbyteorder("=")))).convert("RGB")
    if picture.mode in ("P", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")  # avoids a warning from Pillow; the colours of transparent pixels remain
    return picture.convert("RGB")


def _by_opencv_alone(data: bytes) -> Image | None:
    """Decode a format that Pillow does not support; return None if OpenCV does not support it either.

    Raises:
        ImageDamageError: for values without a known range, as in Radiance and OpenEXR files.
    """
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if decoded is None:
            return None
        narrow_values(np.asarray(decoded))
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), _RGB)
    except cv2.error:
        return None
    return None if decoded is None else np.asarray(decoded, np.uint8)


def _broken(path: str | Path, what: str) -> DataError:
    return DataError(
        f"{path} {what}. Get the file again, or run dfens check --decode to find all such files; with [data] "
        f"skip_broken = true it also leaves broken training images out."
    )
