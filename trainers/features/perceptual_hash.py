"""Perceptual hashes of images, to find copies that are re-encoded, resized, brightened or slightly cropped."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from oof.errors import ConfigError, DataError
from oof.progress import SILENT, Progress
from trainers.media.arrays import Image
from trainers.media.file_scan import FileScan, scan_files
from trainers.media.image import load_image

VERSION = 1
DISTANCE = 24
_EDGE = 64
_FREQUENCIES = 16
_WORDS = _FREQUENCIES * _FREQUENCIES // 64
_COLUMNS = tuple(f"hash{word}" for word in range(_WORDS))

Hashes = NDArray[np.uint64]


def image_hash(image: Image) -> Hashes:
    """Return the perceptual hash of an image: which of its 255 lowest frequencies are stronger than their median.

    The usual 64 bits do not distinguish aligned faces: among 800 photos of different people, the closest
    two differ in 6 bits, and a crop by 4 % changes 4 bits. With 256 bits the closest two differ in 62;
    JPEG at quality 30, blur, noise or half the size change up to 8 bits, 20 % more brightness up to 22.

    Args:
        image: RGB, any size.

    Returns:
        256 bits, shape (4,).
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_EDGE, _EDGE), interpolation=cv2.INTER_AREA).astype(np.float32)
    strengths = cv2.dct(small)[:_FREQUENCIES, :_FREQUENCIES].ravel()
    bits = strengths > np.median(strengths[1:])
    bits[0] = False  # the mean brightness
    # neighbouring frequencies change together, so each band of 16 bits gets some from the whole range
    spread = bits.reshape(-1, 16).T.ravel()
    return np.packbits(spread, bitorder="little").view(np.uint64)


def hash_files(
    paths: Sequence[str],
    *,
    root: Path,
    cache: Path | None = None,
    threads: int = 1,
    progress: Progress = SILENT,
) -> tuple[Hashes, NDArray[np.bool_]]:
    """Return perceptual hashes of image files.

    Args:
        paths: paths of the files. root, cache, threads, progress: as in `scan_files`.

    Returns:
        Hashes, shape (n_files, 4), and whether each file could be read, shape (n_files,).
    """
    scan = FileScan("phash", VERSION, "hash images", _COLUMNS, np.uint64, _hash_file)
    return scan_files(scan, paths, root=root, cache=cache, threads=threads, progress=progress)


def _hash_file(path: str) -> Hashes | None:
    try:
        return image_hash(load_image(path, _EDGE, "scaled"))
    except DataError:
        return None


def near_groups(hashes: Hashes, distance: int = DISTANCE) -> NDArray[np.int64]:
    """Return the set of near-duplicates of each image, numbered by the first row of the set.

    The result is exact: every pair that differs in at most `distance` bits is in one set, for any number of images.

    Args:
        hashes: (n_images, 4).
        distance: number of bits out of 256, 0 to 31.

    Returns:
        Shape (n_images,).
    """
    from trainers.features.hash_kernels import link_near

    _check_distance(distance)
    distinct, first, of = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    parent = np.arange(len(distinct))
    link_near(distinct, distance, parent)
    for row in range(len(parent)):  # parents come before their children
        parent[row] = parent[parent[row]]
    earliest = np.full(len(distinct), len(hashes))
    np.minimum.at(earliest, parent, first)
    return earliest[parent][of.reshape(-1)]


def nearest_hashes(
    hashes: Hashes, queries: Hashes, distance: int = DISTANCE
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find for each query the nearest hash within `distance` bits.

    Returns:
        Position in `hashes`, -1 if none is near, and number of different bits; both of shape (n_queries,).
    """
    from trainers.features.hash_kernels import nearest

    _check_distance(distance)
    found, apart = np.empty(len(queries), np.int64), np.empty(len(queries), np.int64)
    nearest(hashes, queries, distance, found, apart)
    return found, apart


def _check_distance(distance: int) -> None:
    if not 0 <= distance <= 31:
        raise ConfigError(f"distance = {distance}: expected 0 to 31 of 256 bits.")
