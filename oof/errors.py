"""The errors that a user can act on; every message says what was found, what was expected and what to do.

    DfensError
    ├── ConfigError        dfens.toml or an option
    ├── DataError          labels, images, clips of the competition
    ├── FoldError          folds that cannot be assigned, or that do not match
    ├── PredictionError    predictions that cannot be used (NaN, wrong ids, wrong shape)
    │   └── StoreError     a file of the workspace that is broken, stale or missing
    ├── TrainingError      a model that cannot be built or trained
    ├── BlendError         members that cannot be blended
    └── SubmissionError    a table that is invalid, or an upload that failed

The command `dfens` prints a DfensError without a traceback and exits with 1.
"""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk full, quota exceeded, ulimit -f


class DfensError(Exception):
    """Base class of all errors that dfens raises deliberately."""


class ConfigError(DfensError):
    """A setting is unknown, misspelt or out of range."""


class DataError(DfensError):
    """The competition's labels or media differ from what was declared."""


class FoldError(DfensError):
    """Folds cannot be assigned to these rows, or do not match what depends on them."""


class PredictionError(DfensError):
    """Predictions contain values or ids that cannot be scored or blended."""


class StoreError(PredictionError):
    """A file of the workspace is broken, stale or missing."""


class TrainingError(DfensError):
    """A model cannot be built, loaded or trained."""


class BlendError(DfensError):
    """These members cannot be blended in this way."""


class SubmissionError(DfensError):
    """A submission table is invalid, or its upload failed."""


def examples(items: Sequence[str], most: int = 5) -> str:
    """Return the first few items of a list for a message, and the number of further ones.

    >>> examples(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = ", ".join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"


def disk_remedy(number: int | None) -> str:
    """Return the remedy for an error number (`OSError.errno`) if the disk is full or read-only, or an empty string.

    >>> disk_remedy(errno.ENOSPC)
    'Free space on this disk, then run the same command again.'
    """
    if number in DISK_FULL:
        return "Free space on this disk, then run the same command again."
    if number == errno.EROFS:
        return "Mount this disk with write access, or work in a copy of the folder on another disk (dfens -C DIR)."
    return ""


def write_remedy(path: Path, err: OSError) -> str:
    """Return what to do after a system error while writing a file or creating its folder."""
    if disk_remedy(err.errno):
        return disk_remedy(err.errno)
    if isinstance(err, PermissionError):
        refusing = next((item for item in path.parents if item.exists()), path.parent)
        return (
            f"Expected a folder that this user can write to: correct the owner or the permissions of "
            f"{refusing}, or work in another folder (dfens -C DIR)."
        )
    if err.errno in (errno.ENOTDIR, errno.EEXIST) and not path.is_dir():
        obstacle = next((item for item in (path, *path.parents) if os.path.lexists(item) and not item.is_dir()), path)
        if obstacle.is_symlink() and not obstacle.exists():
            return f"{obstacle} is a link to a folder that does not exist: mount its disk, or correct the link."
        return f"{obstacle} is a file where a folder is expected: move it away, or choose another folder."
    if err.errno == errno.EISDIR:
        return f"{path} is a folder: move it away, or choose another name."
    if err.errno == errno.ENOENT:
        return f"The folder {path.parent} was moved or removed at the same time: run the same command again."
    if err.errno == errno.ENAMETOOLONG:
        return "Choose a shorter name."
    return f"Check the disk and the folder {path.parent}."


def memory_is_full(error: BaseException) -> str:
    """Return the message for an error that says that memory cannot be allocated."""
    return (
        f"The memory of this machine is full ({str(error) or 'no details'}). Set smaller inputs or batches, or fewer "
        f"--workers or --threads. Finished work is kept; run the same command again to resume."
    )
