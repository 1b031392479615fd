"""Checkpoints of a running fold on disk: everything that the rest of the training depends on."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from oof.errors import StoreError
from oof.files import atomic_path, read_error
from trainers.runtime.device import is_out_of_memory

FORMAT_VERSION = 1


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors, numbers, strings, lists and mappings atomically."""
    with atomic_path(path) as part:
        torch.save({"version": FORMAT_VERSION, **state}, part)


def keep_as(path: Path, other: Path) -> None:
    """Keep the current state of `path` as `other` by a hard link, so that nothing is written twice.

    Raises:
        OSError: on file systems without hard links.
    """
    link = other.with_name(f".{other.name}.link.part")
    link.unlink(missing_ok=True)
    os.link(path, link)
    link.replace(other)


def load(path: Path) -> dict[str, Any]:
    """Read a state without executing any code in the file.

    Raises:
        StoreError: if the file cannot be read, is broken or has a different format version.
    """
    try:
        state: dict[str, Any] = dict(torch.load(path, map_location="cpu", weights_only=True))
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:  # torch does not verify checksums: changed bits would be other weights
                raise zipfile.BadZipFile
    except OSError as err:  # of this machine: the file may be intact
        raise StoreError(read_error(path, err)) from err
    except Exception as err:  # torch, zipfile and pickle raise different exceptions for a broken file
        if isinstance(err, MemoryError) or is_out_of_memory(err):
            raise
        raise StoreError(
            f"The checkpoint {path} cannot be read ({type(err).__name__}). Move it away; the fold then restarts."
        ) from err
    if state.get("version") != FORMAT_VERSION:
        raise StoreError(
            f"The checkpoint {path} has format version {state.get('version')}; this dfens reads {FORMAT_VERSION}. "
            f"Move it away; the fold then restarts."
        )
    return state
