"""Perceptual hashes of images, to find copies that are re-encoded, resized, brightened or slightly cropped."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oof.errors import ConfigError, DataError, StoreError
from oof.files import read_parquet, write_parquet
from oof.progress import SILENT, Progress
from trainers.media.arrays import Image
from trainers.media.image import load_image
from trainers.media.image_info import in_threads

VERSION = 1
DISTANCE = 24
_EDGE = 64
_FREQUENCIES = 16
_AT_ONCE = 1000  # files between two updates of the progress
_PARTS_SAVED = 20  # of these, after which the hashes are stored
_WORDS = _FREQUENCIES * _FREQUENCIES // 64
_COLUMNS = [f"hash{word}" for word in range(_WORDS)]

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
        paths: paths of the files.
        root: the data folder, to which paths in the cache are relative.
        cache: Parquet file of earlier hashes; a file whose size or time has changed is hashed again. It is also written
            now and then while files are hashed, so that a killed run resumes.
        threads: number of threads.
        progress: receives progress by file.

    Returns:
        Hashes, shape (n_files, 4), and whether each file could be read, shape (n_files,).
    """
    names = pd.Index([path.removeprefix(f"{root}/") for path in paths])
    stamps = np.array([_stamp(path) for path in paths], np.int64).reshape(-1, 2)
    hashes = np.zeros((len(paths), _WORDS), np.uint64)
    known = np.zeros(len(paths), bool)
    old = None if cache is None else _read_cache(cache)
    if old is not None:
        at = old.index.get_indexer(names)
        same = (at >= 0) & (old[["size", "mtime_ns"]].to_numpy(np.int64)[at] == stamps).all(axis=1)
        hashes[same] = old[_COLUMNS].to_numpy(np.uint64)[at[same]]
        known = same
    new = np.flatnonzero(~known)
    if not len(new):
        return hashes, known
    parts = np.array_split(new, -(-len(new) // _AT_ONCE))
    with progress.task("hash images", total=len(new), unit="file") as task:
        for number, part in enumerate(parts, 1):
            made = in_threads(_hash_file, [paths[row] for row in part.tolist()], threads, SILENT, "")
            for row, value in zip(part, made, strict=True):
                if value is not None:
                    hashes[row] = value
                    known[row] = True
            task.advance(len(part))
            if cache is not None and (number % _PARTS_SAVED == 0 or number == len(parts)):
                _write_cache(cache, old, names[known], stamps[known], hashes[known])
    return hashes, known


def _write_cache(
    cache: Path, old: pd.DataFrame | None, names: "pd.Index[str]", stamps: NDArray[np.int64], hashes: Hashes
) -> None:
    """Write the hashes of files, and the older ones of other files."""
    table = pd.DataFrame({"file": names, "size": stamps[:, 0], "mtime_ns": stamps[:, 1]})
    table[_COLUMNS] = hashes
    if old is not None:
        kept = old[~old.index.isin(table["file"])].reset_index()
        table = pd.concat([kept, table], ignore_index=True)
    write_parquet(cache, table, {"version": VERSION, "kind": "phash"})


def _stamp(path: str) -> tuple[int, int]:
    try:
        facts = Path(path).stat()
    except OSError:
        return -1, -1
    return facts.st_size, facts.st_mtime_ns


def _hash_file(path: str) -> Hashes | None:
    try:
        return image_hash(load_image(path, _EDGE, "scaled"))
    except DataError:
        return None


def _read_cache(cache: Path) -> pd.DataFrame | None:
    try:
        table, header = read_parquet(cache)
    except (FileNotFoundError, StoreError):
        return None
    return table.set_index("file") if header.get("version") == VERSION else None


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
