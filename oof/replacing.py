"""Replace a folder by a finished one, without a moment at which neither is in place."""

import contextlib
import ctypes
import os
from pathlib import Path

from oof import files

_CURRENT_FOLDER = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE


def replace_folder(new: Path, place: Path, archive_dir: Path) -> Path | None:
    """Move a finished folder into place, and the folder that it replaces, if any, to the archive.

    The new folder is moved to the archive and there exchanged with the old one in one step, so that a process killed at
    any moment leaves one of them in place. If the system or the disk cannot do so, the old one is moved away first.

    Returns:
        The new path of the replaced folder, or None.
    """
    if not place.exists():
        new.rename(place)
        return None
    target = files.archive_path(place.name, archive_dir)
    with contextlib.suppress(OSError):  # such as an archive on another disk
        archive_dir.mkdir(parents=True, exist_ok=True)
        new.rename(target)
        if _exchange(target, place):
            files.remove_temporary(target)
            return target
        target.rename(new)
    target = files.archive(place, archive_dir)
    new.rename(place)
    return target


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; return False if that is not possible, as on macOS or on some network disks."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # Python has no function for it
    paths = (_CURRENT_FOLDER, os.fsencode(one), _CURRENT_FOLDER, os.fsencode(other))
    return renameat2 is not None and renameat2(*paths, _EXCHANGE) == 0
