"""Write files atomically: Parquet with a metadata header, JSON, text; locks and archives."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from oof.errors import DISK_FULL, DfensError, StoreError, write_remedy
from oof.native_sources import native_file
from oof.progress import SILENT, Progress

_HEADER = b"dfens"
_TEMPORARY = ".*.part"
_PART = re.compile(r"\.(.+)\.\w{8}\.part", re.DOTALL)  # the name of a temporary file or folder
_MOMENT_S = 1.0  # without a lock before a process says that it waits for it


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and move it to `path` when the block succeeds.

    The temporary file is in the same folder, is flushed to disk before the move (after a power cut either the old or
    the new file exists, never half of one), and is removed if the block fails, or by the next writer after a kill.

    Raises:
        DfensError: if the disk is full, the folder is not writable or `path` is a folder, naming it.
    """
    with _named_write_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _own_part(path, _make_file) as part:
            try:
                part.chmod(0o666 & ~_umask())
                yield part
                _flush(part)
                part.replace(path)
                _flush(path.parent)
            except Exception as err:
                is_full = not isinstance(err, OSError) and _means_full_disk(err, part)
                part.unlink(missing_ok=True)
                if is_full:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from err
                raise
            except BaseException:
                part.unlink(missing_ok=True)
                raise


def _make_file(**place: Any) -> str:
    handle, name = tempfile.mkstemp(**place)
    os.close(handle)
    return str(name)


@contextlib.contextmanager
def _own_part(path: Path, make: Callable[..., str]) -> Iterator[Path]:
    """Yield a new temporary file or folder next to `path`, locked so that other processes see that it is in use.

    Args:
        path: what will be written.
        make: creates it, `tempfile.mkdtemp` or `_make_file`.
    """
    remove_leftovers(path.parent, path.name)
    while True:
        part = Path(make(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        try:
            handle = os.open(part, os.O_RDONLY)
        except FileNotFoundError:  # taken for a leftover before it was locked
            continue
        with contextlib.suppress(OSError):  # a file system without locks, where nothing is taken for a leftover
            fcntl.flock(handle, fcntl.LOCK_EX)
        if _is_same(part, handle):
            break
        os.close(handle)
    try:
        yield part
    finally:
        os.close(handle)


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove the temporary files and folders of processes that were killed while they wrote `name` ("": anything)."""
    with contextlib.suppress(OSError):
        for part in os.listdir(folder):  # noqa: PTH208 (also called for folders of many files)
            found = _PART.fullmatch(part)
            if found and name in ("", found[1]):
                with contextlib.suppress(OSError), _opened(folder / part) as handle:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(folder / part)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Yield the descriptor of a file or folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def _is_same(path: Path, handle: int) -> bool:
    """Return whether an open file or folder is still the one at a path."""
    found = os.fstat(handle)
    return identity(path) == (found.st_dev, found.st_ino)


@contextlib.contextmanager
def _named_write_error(path: Path) -> Iterator[None]:
    """Turn a system error during a write into a DfensError with the remedy for its cause."""
    try:
        yield
    except OSError as err:
        if err.errno in DISK_FULL:
            raise DfensError(
                f"The disk is full: {path} could not be written, and no partial file was kept. "
                f"Free space in {path.parent}, then run the same command again."
            ) from err
        named = Path(os.fsdecode(err.filename or path))
        # the error is about another file opened by the block
        if not (named in path.parents or named.parent == path.parent):
            raise
        raise DfensError(f"{path} cannot be written ({err.strerror}). {write_remedy(path, err)}") from err


def _means_full_disk(err: Exception, part: Path) -> bool:
    """Return whether a library's error means a full disk.

    Errors from Rust contain the error number; after any other error, writing one page is tried.
    """
    number = re.search(r"\(os error (\d+)\)", str(err))
    if number:
        return int(number[1]) in DISK_FULL
    try:
        with part.open("ab") as file:
            file.write(bytes(1 << 16))
            file.flush()
            os.fsync(file.fileno())
    except OSError as full:
        return full.errno in DISK_FULL
    return False


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


def _flush(path: Path) -> None:
    with _opened(path) as handle:
        os.fsync(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8, without changing its line ends."""
    with atomic_path(path) as part:
        part.write_bytes(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, with sorted keys so that equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """Read a JSON object written by `write_json`.

    Args:
        keys: keys that it must have.

    Raises:
        FileNotFoundError: if there is no such file.
        StoreError: if the file cannot be read, is not a JSON object or lacks a key, naming it and the remedy.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as err:
        raise StoreError(read_error(path, err)) from err
    except (ValueError, RecursionError) as err:
        raise StoreError(
            f"{path} is not readable JSON ({err}). It was truncated or edited by hand: "
            f"restore it, or move it away and run dfens status."
        ) from err
    if not isinstance(value, dict):
        raise StoreError(f"{path} contains a {type(value).__name__}, not an object. {_RESTORE}")
    missing = [key for key in keys if key not in value]
    if missing:
        raise StoreError(f"{path} lacks the key '{missing[0]}'. {_RESTORE}")
    return value


def read_json_if_any(path: Path) -> dict[str, Any] | None:
    """Read a JSON object as `read_json` does; None if there is none, or another process has just moved it away."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return None


_RESTORE = "It was edited by hand: restore it, or move it away and run dfens status."


def read_error(path: Path, err: OSError) -> str:
    """Return the message for a file that cannot be read, with the remedy for its cause."""
    if isinstance(err, PermissionError):
        remedy = "It may be intact: give this user permission to read it, or run dfens as its owner."
    elif isinstance(err, FileNotFoundError):
        remedy = "Restore it, or run dfens status for the command that creates it again."
    elif isinstance(err, IsADirectoryError):
        remedy = "It is a folder where a file is expected: move it away."
    else:
        remedy = "It may be intact: check the disk, then run the same command again."
    return f"{path} cannot be read ({err.strerror or err}). {remedy}"


def write_parquet(path: Path, table: pd.DataFrame, header: Mapping[str, Any]) -> None:
    """Write a table as Parquet, atomically, with a JSON header in the file's metadata.

    `pandas.read_parquet` opens it; the header (format version, fingerprints) is under the metadata key `dfens`.
    """
    with new_parquet(path, table, header):
        pass


@contextlib.contextmanager
def new_parquet(path: Path, table: pd.DataFrame, header: Mapping[str, Any]) -> Iterator[None]:
    """Write a table as `write_parquet` does, but move it into place only after the block, if this succeeds.

    The block moves what the table replaces to the archive, which a full disk must not leave without a successor.
    """
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    metadata = {**(arrow.schema.metadata or {}), _HEADER: json.dumps(header, sort_keys=True).encode()}
    with atomic_path(path) as part:
        # checksums find changed bits, which otherwise would be read as other values
        pq.write_table(arrow.replace_schema_metadata(metadata), part, compression="zstd", write_page_checksum=True)
        yield


def read_parquet(path: Path, *columns: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a table and its header written by `write_parquet`; text columns contain plain `str`.

    Args and errors as in `read_arrow`.
    """
    arrow, header = read_arrow(path, *columns)
    return arrow.to_pandas(), header


def read_arrow(path: Path, *columns: str) -> tuple[pa.Table, dict[str, Any]]:
    """Read a table and its header written by `write_parquet`, as an Arrow table, without creating an object per text.

    Args:
        columns: columns that it must have.

    Raises:
        FileNotFoundError: if there is no such file.
        StoreError: if the file cannot be read, is truncated, is not Parquet, has no dfens header or lacks a column.
    """
    with _named_parquet_error(path):
        arrow = pq.read_table(native_file(path), page_checksum_verification=True)
        arrow.validate(full=True)  # text that is not UTF-8
        names = arrow.column_names
    header = _header_of(path, arrow.schema)
    missing = [name for name in columns if name not in names]
    if missing:
        raise StoreError(
            f"{path} lacks the column '{missing[0]}': it was replaced by another file. Restore it, or move it away and "
            f"run dfens status."
        )
    return arrow.replace_schema_metadata(), header  # what pandas wrote there is not needed, and may be damaged


def read_header(path: Path) -> dict[str, Any]:
    """Read only the header of a table; raises as `read_parquet`."""
    with _named_parquet_error(path):
        schema = pq.read_schema(native_file(path))
    return _header_of(path, schema)


@contextlib.contextmanager
def _named_parquet_error(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, pa.ArrowException) as err:  # ValueError: a name that is not UTF-8
        if isinstance(err, OSError) and err.errno is not None and not isinstance(err, pa.ArrowException):
            raise StoreError(read_error(path, err)) from err
        reason = str(err).splitlines()[0].split(". ")[0].rstrip(".")
        raise StoreError(
            f"{path} cannot be read as Parquet ({reason}). It was truncated or overwritten: move it away; dfens status "
            f"then shows the command that creates it again."
        ) from err


def _header_of(path: Path, schema: pa.Schema) -> dict[str, Any]:
    raw = (schema.metadata or {}).get(_HEADER)
    if raw is None:
        raise StoreError(f"{path} was not written by dfens (its metadata has no 'dfens' header).")
    with contextlib.suppress(ValueError):
        header = json.loads(raw)
        if isinstance(header, dict):
            return header
    raise StoreError(f"The header of {path} is not a JSON object. Move it away, and run dfens status.")


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, read as a stream."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def file_lock(path: Path, progress: Progress = SILENT) -> Iterator[None]:
    """Hold an exclusive lock among the processes of this machine; the kernel releases it when a process dies.

    Args:
        path: the lock file. progress: told once if another process has the lock for more than a moment.
    """
    with _locked(path, progress) as file:
        with contextlib.suppress(OSError):
            os.utime(file.fileno())  # records when the lock was acquired, for `locked_since`
        try:
            yield
        finally:  # closing would not suffice if a process that was forked in the meantime has the file open
            fcntl.flock(file, fcntl.LOCK_UN)


def _locked(path: Path, progress: Progress) -> IO[str]:
    """Open and lock a file, again if it was moved or removed while another process had it locked."""
    while True:
        with _named_write_error(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a")
        try:
            if progress is not SILENT and not _is_free_soon(file):
                progress.note(f"Another dfens process is working in {path.parent}; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as err:
            file.close()
            raise StoreError(
                f"The file system of {path} cannot lock files ({err.strerror}). Keep the folder work/ on a local disk."
            ) from err
        if _is_same(path, file.fileno()):
            return file
        file.close()


def _is_free_soon(file: IO[str]) -> bool:
    """Lock a file that no other process has locked for more than a moment; return whether it is locked now."""
    last = time.monotonic() + _MOMENT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > last:
                return False
            time.sleep(_MOMENT_S / 20)
        else:
            return True


def locked_since(path: Path) -> datetime | None:
    """Return when the current holder acquired the exclusive lock of a file, or None if it is free."""
    try:
        file = path.open()
    except OSError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
        except OSError:
            return None
    return None


@contextlib.contextmanager
def shared_lock(path: Path) -> Iterator[None]:
    """Wait for the exclusive lock to be free, and keep others from acquiring it; readers do not exclude each other.

    If the lock file cannot be opened (nothing was written yet, or this user cannot write to the
    disk), there is no writer to wait for, and the block runs without a lock.
    """
    try:
        file = path.open()
    except OSError:
        yield
        return
    with file:
        with contextlib.suppress(OSError):  # a file system without locks: no writer has one either
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def temporary_folder(place: Path) -> Iterator[Path]:
    """Create a hidden folder next to `place`, to be filled and moved there; remove it if it was not moved.

    That of a killed process is removed by the next one that makes a folder for `place`.
    """
    with contextlib.ExitStack() as stack:
        with _named_write_error(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(_own_part(place, tempfile.mkdtemp))
            folder.chmod(0o777 & ~_umask())
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode, which distinguish a file or folder from a later one at the same path, or None."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def archive(path: Path, archive_dir: Path) -> Path:
    """Move a file or folder to `archive_dir/20261123T101500.123456Z-name` and return this path; nothing is deleted."""
    remove_leftovers(path.parent)  # of a move to another disk that was killed while it removed the source
    remove_partial_copies(archive_dir)
    target = archive_path(path.name, archive_dir)
    with _named_write_error(target):
        archive_dir.mkdir(parents=True, exist_ok=True)
        move(path, target)
    return target


def archive_path(name: str, archive_dir: Path) -> Path:
    """Return where `archive` would move a file or folder now."""
    return archive_dir / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{name}"


def move(path: Path, target: Path) -> None:
    """Move a file or folder atomically, also to another disk, without the temporary files of those that write there.

    Writers that are not finished end with the error that the folder was moved at the same time.
    """
    try:
        path.rename(target)
        remove_temporary(target)
    except OSError as err:
        if err.errno != errno.EXDEV:
            raise
        with temporary_folder(target) as folder:  # a copy takes time: it gets its name once it is complete
            copy = folder / path.name
            if path.is_dir():
                shutil.copytree(path, copy, symlinks=True, ignore=shutil.ignore_patterns(_TEMPORARY))
            else:
                shutil.copy2(path, copy)
            copy.rename(target)
            with temporary_folder(path) as removed:  # also takes time: half of a model must not remain
                path.rename(removed / path.name)


def remove_partial_copies(archive_dir: Path) -> None:
    """Remove what killed processes left that copied to an archive on another disk, where each name has its own time."""
    with contextlib.suppress(OSError):
        for part in list(archive_dir.rglob(_TEMPORARY)):
            remove_leftovers(part.parent)


def remove_temporary(folder: Path) -> None:
    """Remove the temporary files and folders of `atomic_path` and `temporary_folder` below a folder."""
    for part in list(folder.rglob(_TEMPORARY)):
        with contextlib.suppress(OSError):
            _remove(part)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def free_path(path: Path) -> Path:
    """Return the path, or one with `-2`, `-3`, … after its name if it exists already."""
    number, free = 1, path
    while free.exists() or free.is_symlink():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
