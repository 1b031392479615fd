"""Detect damage and value ranges that image decoders silently ignore.

libjpeg fills missing data with grey and prints a message without a file name; decoders of formats without checksums
accept a run of zeros as image data; values with more than 8 bits are clipped or scaled by a guessed factor.
"""

import re
import struct
import zlib
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL.Image import Image as Picture

from trainers.media.arrays import Image

MOST_PIXELS = 178_956_970  # same limit as in Pillow; half a gigabyte as RGB
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = struct.Struct(">IIBBBBB")
_PALETTE = 3  # a colour type
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), _PALETTE: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # bits by colour type
# warnings of libjpeg about headers of intact files, such as those of phones
_HARMLESS = re.compile(r"SOS parameters|JFIF revision|Adobe color transform|extraneous bytes before marker 0xd8")
_HOLE = bytes(64)  # entropy-coded data look random: 512 consecutive zero bits indicate a lost disk or download block
_KINDS = {
    b"\xff\xd8": "JPEG",
    _PNG: "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
}


class ImageDamageError(ValueError):
    """A truncated or damaged image file; the message contains the location, and `what` describes the problem."""

    what = "is cut or damaged"


class ImageFormatError(ImageDamageError):
    """An intact image that is too large, or has values without a known range."""

    what = "cannot be used"


def file_kind(data: bytes) -> str | None:
    """Return the name of an image format from the first bytes of a file, or None if it is unknown.

    >>> file_kind(b"GIF89a...")
    'GIF'
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    return next((kind for start, kind in _KINDS.items() if data.startswith(start)), None)


def decode_jpeg(data: bytes, shape: tuple[int, int], *, reduce: int = 1) -> Image:
    """Return the pixels of a JPEG of 1 or 3 components as RGB, without its orientation applied.

    The pixels are identical to those of OpenCV and Pillow, which use the same library, but its warnings are errors.

    Args:
        data: bytes of the file.
        shape: height and width from its header.
        reduce: 1, 2, 4 or 8 to decode at 1/1 to 1/8 of the size.

    Raises:
        ImageDamageError: if data are missing or cannot be decoded.
    """
    check_size(*shape)
    check_hole(data, "JPEG")
    smallest = [-(-length // reduce) for length in shape]
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, "RGB", min_height=smallest[0], min_width=smallest[1]))
    except (ValueError, MemoryError) as err:
        if not _HARMLESS.search(str(err)):
            raise ImageDamageError(str(err) or "too large for the memory") from err
    return np.asarray(simplejpeg.decode_jpeg(data, "RGB", min_height=smallest[0], min_width=smallest[1], strict=False))


def check_jpeg(data: bytes) -> None:
    """Check a JPEG of 4 components (CMYK), which Pillow decodes, for damage.

    Raises:
        ImageDamageError: as `decode_jpeg`.
    """
    try:
        simplejpeg.decode_jpeg(data, "CMYK")
    except (ValueError, MemoryError) as err:
        if not _HARMLESS.search(str(err)):
            raise ImageDamageError(str(err) or "too large for the memory") from err


def check_png(data: bytes) -> None:
    """Check the structure of a PNG: header, palette, and every chunk with its checksum, up to the end.

    What libpng refuses is found here where that is cheap, since libpng prints a line without a file name.

    Raises:
        ImageDamageError: if a chunk is truncated or damaged (the message names it), or the image is too large.
    """
    at, names = len(_PNG), set[bytes]()
    while True:
        if at + 12 > len(data):
            raise ImageDamageError("it ends before its last chunk (IEND)")
        length = int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        end = at + 12 + length
        label = name.decode("latin-1")
        if end > len(data):
            raise ImageDamageError(f"it ends within its chunk {label!r}")
        # chunks with a lower-case first letter are optional; a wrong checksum there affects no pixel
        if not name[:1].islower() and zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ImageDamageError(f"the checksum of its chunk {label!r} is wrong")
        if name == b"IHDR":
            if length != _PNG_HEADER.size:
                raise ImageDamageError("its header (IHDR) is invalid")
            width, height, depth, colour, packing, filters, interlaced = _PNG_HEADER.unpack(data[at + 8 : end - 4])
            check_size(height, width)
            if depth not in _PNG_DEPTHS.get(colour, ()) or packing or filters or interlaced > 1:
                raise ImageDamageError("its header (IHDR) is invalid")
        if name == b"IDAT" and name not in names:
            if data[25:26] == bytes([_PALETTE]) and b"PLTE" not in names:
                raise ImageDamageError("it has no palette (PLTE)")
            if length > 1 and (data[at + 8] & 15 != 8 or int.from_bytes(data[at + 8 : at + 10], "big") % 31):
                raise ImageDamageError("its chunk 'IDAT' contains no compressed data")
        if name == b"IEND":
            return
        names.add(name)
        at = end


def check_strips(picture: Picture, data: bytes) -> None:
    """Check the checksums of a TIFF with deflate compression, which libtiff ignores; other images pass.

    Args:
        picture: opened by Pillow, at its first page. data: bytes of its file.

    Raises:
        ImageDamageError: if a strip or tile is damaged; the message contains its offset.
    """
    tags = getattr(picture, "tag_v2", {})
    if tags.get(259) not in (8, 32946):
        return
    starts, lengths = (tags.get(273), tags.get(279)) if 273 in tags else (tags.get(324), tags.get(325))
    for start, length in zip(starts or (), lengths or (), strict=False):
        try:
            zlib.decompress(data[start : start + length])
        except zlib.error as err:
            raise ImageDamageError(f"its strip at byte {start} does not decompress ({err})") from err


def check_size(height: int, width: int) -> None:
    """Check that an image does not exceed the size limit.

    Raises:
        ImageFormatError: if it is too large, with its size and the limit, or if its size is 0.
    """
    if height * width > MOST_PIXELS:
        raise ImageFormatError(f"its header declares {width} x {height} pixels; the limit is {MOST_PIXELS}")
    if height * width == 0:
        raise ImageFormatError(f"its header declares {width} x {height} pixels")


def check_hole(data: bytes, kind: str | None) -> None:
    """Check the compressed data of formats without checksums for a run of zeros, which decoders do not detect.

    Raises:
        ImageDamageError: if there is one; the message contains the offset.
    """
    if _HOLE not in data:  # nearly always
        return
    start, end, shortest = _coded_part(data, kind)
    at = data.find(bytes(shortest), start, end)
    if at >= 0:
        raise ImageDamageError(f"its compressed data are zeros from byte {at} on")


def _coded_part(data: bytes, kind: str | None) -> tuple[int, int, int]:
    """Return start and end of the entropy-coded data, and how many zeros cannot occur in them; 0, 0, 1 if unknown."""
    none, end = (0, 0, 1), len(data.rstrip(b"\0"))  # zeros after the image are harmless
    if kind == "JPEG":
        start = data.find(b"\xff\xda")
        # with the standard luminance tables the end-of-block code is 1010, so flat blocks are not zeros
        return (start, end, len(_HOLE)) if start > 0 and _STANDARD_AC in data[:start] else none
    if kind == "WebP":
        start = data.find(b"VP8 ", 12, 1 << 16)
        if start < 0:
            return none
        width, height = (size & 0x3FFF for size in struct.unpack("<HH", data[start + 14 : start + 18]))
        # flat areas are coded as zeros, up to 1 byte per 360 pixels of libwebp's files at quality 100
        shortest = max(len(_HOLE), width * height // 256)
        return start, start + 8 + int.from_bytes(data[start + 4 : start + 8], "little"), shortest
    if kind == "AVIF":
        start = data.find(b"mdat")
        length = int.from_bytes(data[start - 4 : start], "big")
        return (start, start - 4 + length if length > 8 else end, len(_HOLE)) if start > 0 else none
    if kind == "JPEG 2000":
        start = data.find(b"\xff\x93")
        return (start, end, len(_HOLE)) if start > 0 else none
    return none


# counts of codes by length, and the first symbols, of the AC table for luminance (ITU T.81, table K.5)
_STANDARD_AC = b"\x10" + bytes.fromhex("0002010303020403050504040000017d01020300041105122131410613516107")


def narrow_values(values: NDArray[Any]) -> Image:
    """Return 16-bit values as their upper 8 bits.

    Raises:
        ImageFormatError: for floats and 32-bit integers, whose range no header specifies, and for 16-bit values
            whose upper 4 bits are all 0, such as 8 or 12 bits stored in 16.
    """
    if values.dtype == np.uint8:
        return np.asarray(values, np.uint8)
    low, high = values.min(), values.max()
    if values.dtype != np.uint16:
        raise ImageFormatError(
            f"its values are of type {values.dtype}, from {low:g} to {high:g}, and their range is unknown: save it "
            f"with 8 or 16 bits"
        )
    if 0 < high < 4096:
        raise ImageFormatError(
            f"its largest 16-bit value is {high}, so the upper 8 bits contain almost no information: scale the values "
            f"to 65535, or save them with 8 bits"
        )
    return (values >> 8).astype(np.uint8)
