"""A zip unpacked without trust in it: nothing outside the folder, no links, no bomb, whole files only."""

import contextlib
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from oof.errors import DataError, DfensError, examples
from oof.progress import SILENT, Progress

_CHUNK = 1 << 20
_SPARE = 64 << 20  # left free on the disk
_TELL_BYTES = 8 << 20


@dataclass(frozen=True)
class Unpacked:
    """names -> bytes of all files that the archive holds; written: how many were not there yet."""

    sizes: dict[str, int]
    written: int


def unpack(archive: Path, folder: Path, progress: Progress = SILENT) -> Unpacked:
    """Unpack a zip into a folder; a file that is there already, whole, is left as it is.

    Each file is written under another name and moved into place, so that an interrupted run leaves
    no half of one, and the next goes on.

    Raises:
        DataError: no zip, a broken one, or a member that is not safe: an absolute name, `..`, a link,
            an encrypted or doubled one, sizes that can't be.
        DfensError: more bytes than the disk has free.
    """
    try:
        with zipfile.ZipFile(archive) as opened, writing_into(folder):
            members = check_members(opened, archive)
            _check_room(sum(info.file_size for _, info in members), folder)
            return _unpack(opened, members, folder, progress)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as err:
        raise DataError(
            f"{archive} is not a zip that can be read ({err}). Run dfens download --force to fetch it again."
        ) from err


@contextlib.contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Turn what the system says of a folder that can't be written into a named error."""
    try:
        yield
    except OSError as err:
        raise DfensError(
            f"{err.filename or folder} cannot be written ({err.strerror}). Free space, correct the rights of {folder}, "
            f"or point [data] root to another folder; then run the same command again: what is there is kept."
        ) from err


def check_members(opened: zipfile.ZipFile, archive: Path) -> list[tuple[str, zipfile.ZipInfo]]:
    """The files of a zip with their safe relative names.

    Raises:
        DataError: naming the members that are not safe.
    """
    faults: list[str] = []
    found: dict[str, zipfile.ZipInfo] = {}
    for info in opened.infolist():
        if info.is_dir():
            continue
        name = info.filename.replace("\\", "/")
        fault = _fault(name, info)
        if not fault and name in found:
            fault = "doubled"
        if fault:
            faults.append(f"{info.filename!r} ({fault})")
        found[name] = info
    parents = {str(parent) for name in found for parent in PurePosixPath(name).parents}
    faults += [f"{name!r} (a file and a folder)" for name in found if name in parents]
    if faults:
        raise DataError(
            f"{archive} holds {len(faults)} members that are not safe to unpack: {examples(faults)}. Nothing was "
            f"unpacked. Unpack what you trust by hand."
        )
    if sum(info.compress_size for info in found.values()) > archive.stat().st_size:
        raise DataError(f"{archive} holds members that lie over one another, as in a zip bomb. Nothing was unpacked.")
    return list(found.items())


def _fault(name: str, info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    parts = PurePosixPath(name).parts
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "absolute"
    if ".." in parts or not parts:
        return "leads outside"
    if kind == stat.S_IFLNK:
        return "a link"
    if kind not in (0, stat.S_IFREG):
        return "no plain file"
    if info.flag_bits & 1:
        return "encrypted"
    return ""


def _check_room(wanted: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if wanted + _SPARE > free:
        raise DfensError(
            f"Unpacking needs {_size(wanted)} and the disk of {folder} has {_size(free)} free. Nothing was unpacked. "
            f"Free space, or point [data] root to another disk, then run the same command again."
        )


def _unpack(
    opened: zipfile.ZipFile, members: Sequence[tuple[str, zipfile.ZipInfo]], folder: Path, progress: Progress
) -> Unpacked:
    sizes, written, untold = {}, 0, 0
    with progress.task("unpack", total=sum(info.file_size for _, info in members), unit="B") as task:
        for name, info in members:
            path = folder / name
            if not _same(path, info):
                _write(opened, info, path)
                written += 1
            sizes[name] = info.file_size
            untold += info.file_size
            if untold > _TELL_BYTES:
                task.advance(untold)
                untold = 0
        task.advance(untold)
    os.sync()  # before anyone is told that all is there
    return Unpacked(sizes, written)


def _same(path: Path, info: zipfile.ZipInfo) -> bool:
    """Whether a file is there with the member's size and checksum."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size != info.file_size:
        return False
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum == info.CRC


def _write(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:200]}.part")
    try:
        with opened.open(info) as source, part.open("wb") as file:
            shutil.copyfileobj(source, file, _CHUNK)  # zipfile gives no more than the declared size, and checks the CRC
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
