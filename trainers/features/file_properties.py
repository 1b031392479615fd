"""Numbers that describe a file and not its content: size, JPEG quality, blur, bit rate; features for blends."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from oof.arrays import Vector
from oof.errors import ConfigError, DataError
from oof.progress import SILENT, Progress
from trainers.media.arrays import Image
from trainers.media.clip_info import probe_clip
from trainers.media.file_scan import FileScan, scan_files
from trainers.media.image import load_image
from trainers.media.image_properties import read_image_properties

VERSION = 1
BLUR_EDGE = 256  # pixels; blur depends on the size of the image, so all are compared at one size
_SIZE = ("width", "height", "bytes")


def image_header(path: str) -> Vector:
    """Return width and height in pixels, bytes, and JPEG quality (1 to 100, NaN for other formats) of an image."""
    image = read_image_properties(path)
    quality = np.nan if image.quality is None else image.quality
    return np.array([image.width, image.height, image.size_bytes, quality])


def blur_of(image: Image) -> float:
    """Return the variance of the Laplacian of the grey image, which is low for blurred images (Pech-Pacheco 2000)."""
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def _blur(path: str) -> Vector:
    return np.array([blur_of(load_image(path, BLUR_EDGE))])


def clip_header(path: str) -> Vector:
    """Return width and height in pixels, bytes, and bits per second of a clip; NaN for what its header lacks."""
    clip = probe_clip(path)
    shape = (clip.picture.width, clip.picture.height) if clip.picture else (np.nan, np.nan)
    return np.array([*shape, clip.size_bytes, clip.bit_rate or np.nan])


def _or_none(read: Callable[[str], Vector], path: str) -> Vector | None:
    try:
        return read(path)
    except DataError:
        return None


def _scan(kind: str, title: str, columns: tuple[str, ...], read: Callable[[str], Vector]) -> FileScan:
    return FileScan(kind, VERSION, title, columns, np.float64, partial(_or_none, read))


_IMAGE_HEADER = _scan("image_header", "image headers", (*_SIZE, "quality"), image_header)
_BLUR = _scan("blur", "blur of images", ("blur",), _blur)
_CLIP_HEADER = _scan("clip_header", "clip headers", (*_SIZE, "bitrate"), clip_header)

# by kind of media: each feature with its scan and columns
_FEATURES: Mapping[str, Mapping[str, tuple[FileScan, tuple[str, ...]]]] = {
    "images": {"size": (_IMAGE_HEADER, _SIZE), "quality": (_IMAGE_HEADER, ("quality",)), "blur": (_BLUR, ("blur",))},
    "clips": {"size": (_CLIP_HEADER, _SIZE), "bitrate": (_CLIP_HEADER, ("bitrate",))},
}


def file_properties(
    paths: Sequence[str],
    names: Sequence[str],
    media: Literal["images", "clips"],
    *,
    root: Path,
    cache_dir: Path,
    threads: int = 1,
    progress: Progress = SILENT,
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Return features of files; each file is read once, until it changes.

    Args:
        paths: paths of the files.
        names: features. Images: size (width, height, bytes), quality (of JPEG), blur (variance of the Laplacian at
            256 x 256 pixels). Clips: size, bitrate (bits per second).
        media: kind of files.
        root: the data folder. cache_dir: folder of the caches, one file per scan. threads, progress: as in
            `scan_files`.

    Returns:
        By feature and column, (n_files,); NaN for unknown values, such as those of files that cannot be read.

    Raises:
        ConfigError: if this kind of files does not have a feature, naming those that it has.
    """
    known = _FEATURES[media]
    absent = [name for name in names if name not in known]
    if absent:
        raise ConfigError(
            f"{media.capitalize()} do not have the features {', '.join(absent)}; they have {', '.join(known)}."
        )
    columns: dict[str, NDArray[np.float32]] = {}
    for scan in dict.fromkeys(known[name][0] for name in names):
        values, is_read = scan_files(
            scan, paths, root=root, cache=cache_dir / f"{scan.kind}.parquet", threads=threads, progress=progress
        )
        values[~is_read] = np.nan
        columns |= dict(zip(scan.columns, values.T.astype(np.float32), strict=True))
    return {name: {column: columns[column] for column in known[name][1]} for name in names}
