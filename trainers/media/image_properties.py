"""Read the header of an image file without decoding pixels: encoder traces, tags, sizes."""

import hashlib
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import JpegImagePlugin

from oof.errors import DataError
from trainers.media.image_damage import file_kind

_HEADER_BYTES = 1 << 16  # tables, tags and sizes precede the pixels
_SUBSAMPLINGS = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0", -1: "other"}


@dataclass(frozen=True)
class ImageProperties:
    """The header of an image file; "" or None for fields that the format does not have.

    size_bytes: size of the file. quality: JPEG quality on the scale of the IJG library, 1 to 100, estimated from its
    tables. tables: fingerprint of the quantisation tables. progressive: "progressive" or "baseline". exif: software or
    camera that wrote the EXIF data, or "present". profile: description of the colour profile. tags: sorted names of
    other text fields.
    """

    width: int
    height: int
    size_bytes: int
    format: str
    mode: str
    quality: float | None = None
    tables: str = ""
    subsampling: str = ""
    progressive: str = ""
    exif: str = ""
    profile: str = ""
    density: str = ""
    tags: str = ""


def read_image_properties(path: str) -> ImageProperties:
    """Read the header of an image file without decoding its pixels.

    Raises:
        DataError: if the file cannot be read, or is not an image according to its header.
    """
    try:
        size_bytes = Path(path).stat().st_size
        with Path(path).open("rb") as file:
            data = file.read(_HEADER_BYTES)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    return _properties(data, size_bytes)
                except Exception:  # a longer header, or tags at the end, as in TIFF
                    return _properties(data + file.read(), size_bytes)
    except Exception as err:  # Pillow's parsers raise OSError, SyntaxError, ValueError, struct.error and others
        raise DataError(f"{path} has no readable image header ({err}). Run dfens check.") from err


def _properties(data: bytes, size_bytes: int) -> ImageProperties:
    with Pillow.open(io.BytesIO(data)) as picture:
        info = picture.info
        is_jpeg = isinstance(picture, JpegImagePlugin.JpegImageFile)
        tables: dict[int, list[int]] = getattr(picture, "quantization", {}) if is_jpeg else {}
        known = ("icc_profile", "exif", "dpi", "jfif_density", "jfif_unit", "progressive", "progression")
        noise = ("jfif", "jfif_version", "adobe", "adobe_transform", "transparency", "background", "duration", "loop")
        return ImageProperties(
            width=picture.width,
            height=picture.height,
            size_bytes=size_bytes,
            format=file_kind(data) or str(picture.format),
            mode=picture.mode,
            quality=_quality(tables[0]) if tables.get(0) else None,
            tables=_fingerprint(tables) if tables else "",
            subsampling=_SUBSAMPLINGS.get(JpegImagePlugin.get_sampling(picture), "other") if is_jpeg else "",
            progressive=("progressive" if info.get("progressive") else "baseline") if is_jpeg else "",
            exif=_exif_writer(picture),
            profile=_profile_name(info.get("icc_profile")),
            density=str(info.get("dpi", "")),
            tags=" ".join(sorted(str(name) for name in info if name not in (*known, *noise))),
        )


def _quality(table: Sequence[int]) -> float:
    """Return the IJG quality, 1 to 100, whose standard luminance table has the closest sum."""
    return float(np.abs(_sums_by_quality() - sum(table)).argmin() + 1)


@cache
def _sums_by_quality() -> NDArray[np.float64]:
    """Return the sum of the standard luminance table (ITU T.81, table K.1) for each quality from 1 to 100."""
    rows = (
        "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
        "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
    )
    standard = np.array(rows.split(), np.float64)
    scales = [5000 / quality if quality < 50 else 200 - 2 * quality for quality in range(1, 101)]
    return np.array([np.clip(np.floor((standard * scale + 50) / 100), 1, 255).sum() for scale in scales])


def _fingerprint(tables: Mapping[int, Sequence[int]]) -> str:
    return hashlib.blake2b(repr(sorted(tables.items())).encode(), digest_size=4).hexdigest()


def _exif_writer(picture: Pillow.Image) -> str:
    """Return the software or camera in the EXIF data; "present" if they contain none, "" without EXIF data."""
    exif = picture.getexif()
    if not exif:
        return ""
    named = exif.get(0x0131) or exif.get(0x0110) or exif.get(0x010F)  # software, model, make
    return str(named).strip("\0 ") or "present" if named else "present"


def _profile_name(profile: bytes | None) -> str:
    if not profile:
        return ""
    return f"{len(profile)} bytes, {hashlib.blake2b(profile, digest_size=4).hexdigest()}"
