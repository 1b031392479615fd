"""Files that are whole or absent: atomic writes, Parquet with a header of facts, locks, archives."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from oof.errors import DfensError, StoreError

_HEADER = b"dfens"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to, and move it to `path` when the block ends well.

    The temporary file lies in the same folder, is flushed to disk before the move
    (after a power cut the old or the new file is there, never half of one), and is
    removed when the block fails.

    Raises:
        DfensError: when the disk is full or the folder may not be written to, naming it.
    """
    with _telling_why(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            part.chmod(0o666 & ~_umask())
            yield part
            _flush(part)
            part.replace(path)
            _flush(path.parent)
        except Exception as err:
            is_full = not isinstance(err, OSError) and _tells_full_disk(err, part)
            part.unlink(missing_ok=True)
            if is_full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from err
            raise
        except BaseException:
            part.unlink(missing_ok=True)
            raise


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, a quota, ulimit -f
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


@contextlib.contextmanager
def _telling_why(path: Path) -> Iterator[None]:
    """Turn what the system says of a file that cannot be written into a named error."""
    try:
        yield
    except OSError as err:
        if err.errno in _DISK_FULL:
            raise DfensError(
                f"The disk is full: {path} could not be written, and nothing of it was kept. "
                f"Free space in {path.parent}, then run the same command again."
            ) from err
        told = Path(os.fsdecode(err.filename or path))  # not of another file that the block opened
        if err.errno in _NOT_ALLOWED and (told in path.parents or told.parent == path.parent):
            raise DfensError(
                f"{path} cannot be written ({err.strerror}). Expected a folder that this user may write to: correct "
                f"the owner or the rights of {path.parent}, or work in another folder (dfens -C DIR)."
            ) from err
        raise


def _tells_full_disk(err: Exception, part: Path) -> bool:
    """Whether a library's own error stands for a full disk: Rust's name the number, after C++'s a page is tried."""
    number = re.search(r"\(os error (\d+)\)", str(err))
    if number:
        return int(number[1]) in _DISK_FULL
    try:
        with part.open("ab") as file:
            file.write(bytes(1 << 16))
            file.flush()
            os.fsync(file.fileno())
    except OSError as full:
        return full.errno in _DISK_FULL
    return False


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8, with the line ends that the text has."""
    with atomic_path(path) as part:
        part.write_bytes(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, with sorted keys so that equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON that `write_json` wrote.

    Raises:
        StoreError: if the file is not JSON, naming it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as err:
        raise StoreError(
            f"{path} is not readable JSON ({err}). It was cut or edited by hand: "
            f"restore it, or move it away and run dfens status."
        ) from err


def write_parquet(path: Path, table: pd.DataFrame, header: Mapping[str, Any]) -> None:
    """Write a table as Parquet, atomically, with a JSON header in the file's metadata.

    `pandas.read_parquet` opens it; the header (format version, fingerprints) stands
    under the metadata key `dfens`.
    """
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    metadata = {**(arrow.schema.metadata or {}), _HEADER: json.dumps(header, sort_keys=True).encode()}
    with atomic_path(path) as part:
        pq.write_table(arrow.replace_schema_metadata(metadata), part, compression="zstd")


def read_parquet(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a table and its header written by `write_parquet`; text columns hold plain `str`.

    Raises:
        StoreError: if the file is cut, no Parquet, or has no dfens header.
    """
    with _telling_parquet(path):
        arrow = pq.read_table(path)
    return arrow.to_pandas(), _header_of(path, arrow.schema)


def read_header(path: Path) -> dict[str, Any]:
    """Read the header of a table alone; raises as `read_parquet` does."""
    with _telling_parquet(path):
        schema = pq.read_schema(path)
    return _header_of(path, schema)


@contextlib.contextmanager
def _telling_parquet(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as err:
        reason = str(err).splitlines()[0].rpartition(f"'{path}': ")[2].split(". ")[0].rstrip(".")
        raise StoreError(
            f"{path} cannot be read as Parquet ({reason}). It was cut or overwritten: move it away, then dfens status "
            f"names the command that makes it again."
        ) from err


def _header_of(path: Path, schema: pa.Schema) -> dict[str, Any]:
    raw = (schema.metadata or {}).get(_HEADER)
    if raw is None:
        raise StoreError(f"{path} was not written by dfens (its metadata holds no 'dfens' header).")
    header: dict[str, Any] = json.loads(raw)
    return header


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal, read in a stream."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock among processes of this machine; freed by the kernel when a process dies."""
    with _telling_why(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def archive(path: Path, archive_dir: Path) -> Path:
    """Move a file or folder aside, under the time of the move; nothing is ever deleted.

    Returns:
        Where it lies now: `archive_dir/20261123T101500.123456Z-name`.
    """
    archive_dir.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    target = archive_dir / f"{stamp}-{path.name}"
    path.rename(target)
    return target


def free_path(path: Path) -> Path:
    """Return the path, or with `-2`, `-3`, … after its name where something is there already."""
    number, free = 1, path
    while free.exists() or free.is_symlink():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
