"""Inspect many image files in threads: sizes on disk, identical bytes, decodability, pixels.

OpenCV, reading and hashing release the interpreter lock, so threads are as fast as processes and need no copies of the
lists.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from oof.errors import DataError
from oof.progress import Progress
from trainers.media.image import count_frames, decode_bytes, read_bytes

T = TypeVar("T")
_CHUNK = 64
_BLOCK = 4096


@dataclass(frozen=True)
class ImageInfo:
    """Properties of an image file.

    frames: number of frames or pages; only the first is used. error: the reason why the file cannot be used, without
    its name, or None.
    """

    height: int = 0
    width: int = 0
    frames: int = 1
    error: str | None = None


def inspect_image(path: str) -> ImageInfo:
    """Decode one image file, and return its properties or the reason why it cannot be read."""
    try:
        data = read_bytes(path)
        image = decode_bytes(data, path)
    except DataError as err:
        return ImageInfo(error=str(err).removeprefix(f"{path} ").split(". Get the file again")[0])
    return ImageInfo(image.shape[0], image.shape[1], count_frames(data))


def in_threads(
    function: Callable[[str], T], paths: Sequence[str], threads: int, progress: Progress, title: str
) -> list[T]:
    """Return the result of a function for each path, in order, computed in threads with a progress bar."""
    results: list[T] = []
    source = iter(paths)
    chunks: Iterator[list[str]] = iter(lambda: list(islice(source, _CHUNK)), [])
    pool = ThreadPoolExecutor(threads)
    try:
        with progress.task(title, total=len(paths), unit="file") as task:
            for part in pool.map(lambda chunk: [function(path) for path in chunk], chunks):
                results += part
                task.advance(len(part))
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def file_sizes(paths: Sequence[str], threads: int, progress: Progress) -> list[int]:
    """Return the size of each file in bytes, -1 if it does not exist."""

    def size(path: str) -> int:
        try:
            return Path(path).stat().st_size
        except OSError:
            return -1

    return in_threads(size, paths, threads, progress, "file sizes")


def identical_files(paths: Sequence[str], sizes: Sequence[int], threads: int, progress: Progress) -> list[list[int]]:
    """Return the positions of identical files, in groups of two or more; empty and missing files are ignored.

    Files of the same size are compared by a block from their middle, and only those that agree are read completely:
    among half a million photos, nearly all have the same size as another one.
    """
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for position, size in enumerate(sizes):
        if size > 0:
            by_size[size].append(position)
    suspects = [rows for rows in by_size.values() if len(rows) > 1]

    def middle(path: str) -> bytes:
        return _digest(path, whole=False)

    def whole(path: str) -> bytes:
        return _digest(path, whole=True)

    for function, title in ((middle, "compare files"), (whole, "compare files whole")):
        flat = [position for rows in suspects for position in rows]
        if not flat:
            return []
        digests = dict(
            zip(flat, in_threads(function, [paths[row] for row in flat], threads, progress, title), strict=True)
        )
        suspects = [same for rows in suspects for same in _alike(rows, digests)]
    return sorted(suspects)


def _alike(rows: list[int], digests: dict[int, bytes]) -> list[list[int]]:
    sets: defaultdict[bytes, list[int]] = defaultdict(list)
    for row in rows:
        if digests[row]:
            sets[digests[row]].append(row)
    return [same for same in sets.values() if len(same) > 1]


def _digest(path: str, *, whole: bool) -> bytes:
    """Return the hash of a file, or of a block from its middle; empty if the file cannot be read."""
    try:
        with Path(path).open("rb") as file:
            if whole:
                return hashlib.file_digest(file, "blake2b").digest()
            file.seek(0, 2)
            file.seek(max(0, file.tell() // 2 - _BLOCK // 2))
            return hashlib.blake2b(file.read(_BLOCK)).digest()
    except OSError:
        return b""
