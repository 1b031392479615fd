"""Provenance of a model: versions of packages, and the files that it was trained on."""

import hashlib
import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from oof.ids import text_fingerprint

_PACKAGES = ("dfens", "torch", "torchvision", "timm", "ttach", "numpy", "opencv-python-headless", "scikit-learn")
_MOST_READ, _BYTES_READ = 100, 1 << 16
_MOST_FILES = 10_000  # maximum number of files inspected, evenly spaced; 500,000 take minutes on a network disk


@cache
def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _spread(count: int, most: int) -> list[int]:
    """Return at most `most` of `count` positions, evenly spaced."""
    return [int(row) for row in np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))]


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return -1


def _first_bytes(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.sha256(file.read(_BYTES_READ)).hexdigest()
    except FileNotFoundError:
        return ""


def files_fingerprint(paths: Sequence[str]) -> dict[str, Any]:
    """Return a fingerprint of files: names and sizes of at most 10,000, and the first bytes of at most 100 of them.

    It does not depend on the order of the paths, or on folders and times, which differ between machines.
    """
    ordered = sorted(paths, key=lambda path: (Path(path).name, path))
    chosen = [ordered[row] for row in _spread(len(ordered), _MOST_FILES)]
    texts = [f"{Path(path).name}:{_size(path)}" for path in chosen]
    texts += [_first_bytes(chosen[row]) for row in _spread(len(chosen), _MOST_READ)]
    return {"files": len(paths), "looked_at": len(chosen), "fingerprint": text_fingerprint(texts)}
