"""Where a model came from: versions, the state of the folder in git, the files it learnt from."""

import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from oof.ids import text_fingerprint

_PACKAGES = ("dfens", "torch", "torchvision", "timm", "ttach", "numpy", "opencv-python-headless", "scikit-learn")
_MOST_FILES = 10_000  # looked at, evenly drawn; asking each of 500,000 files takes minutes on a network disk


@cache
def package_versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of a folder and whether anything in it is uncommitted; None outside of git."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.strip()


def files_fingerprint(paths: Sequence[str]) -> dict[str, Any]:
    """Return a fingerprint of names and sizes of files, whatever their order; of many, of 10,000 spread evenly."""
    ordered = sorted(paths)
    chosen = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), _MOST_FILES)).astype(int))
    texts = [f"{Path(ordered[row]).name}:{Path(ordered[row]).stat().st_size}" for row in chosen]
    return {"files": len(paths), "looked_at": len(chosen), "fingerprint": text_fingerprint(sorted(texts))}
