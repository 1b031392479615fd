"""Unpack an untrusted ZIP file safely: nothing outside the folder, no links, no bombs, only complete files."""

import contextlib
import errno
import hashlib
import lzma
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path, PurePosixPath
from typing import IO

from oof.errors import DataError, DfensError, examples, write_remedy
from oof.progress import SILENT, Progress

_CHUNK = 1 << 20
_SPARE = 64 << 20  # space to leave free on the disk
_TELL_BYTES = 8 << 20


@dataclass(frozen=True)
class Unpacked:
    """The outcome of unpacking.

    sizes: bytes of each file in the archive. written: number of new files.
    kept: existing files with different content, which were left unchanged.
    replaced: replaced files, with the new path of the old file.
    """

    sizes: dict[str, int]
    written: int
    kept: tuple[str, ...] = ()
    replaced: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Destination:
    """The destination of an archive, and what it must not change.

    folder: folder for the files. aside: folder for replaced files; None to keep existing files with other content.
    protected: files and folders of dfens, which no member may replace.
    """

    folder: Path
    aside: Path | None = None
    protected: tuple[Path, ...] = ()


def unpack(archive: Path, to: Destination, progress: Progress = SILENT) -> Unpacked:
    """Unpack a ZIP file; existing files are left as they are, even if changed by the user.

    Each file is written under a temporary name and moved into place, so that an interrupted run leaves
    no partial file, and the next run resumes.

    Raises:
        DataError: if it is not a ZIP file, is damaged, or has unsafe members: an absolute name, `..`, a link, an
            encrypted or duplicate member, a file of dfens, impossible sizes.
        DfensError: if it needs more than the free disk space.
    """
    try:
        with writing_into(to.folder), zipfile.ZipFile(archive) as opened:
            members = check_members(opened, archive, to)
            _check_room(sum(info.file_size for name, info in members if _is_missing(name, info, to)), to.folder)
            return _unpack(opened, members, to, progress)
    except ZIP_DAMAGE as err:
        raise DataError(
            f"{archive} is not a readable ZIP file ({err}). Run dfens download --force to download it again."
        ) from err


# exceptions of zipfile and its decompressors for damaged bytes
ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    ValueError,
    RuntimeError,
)


@contextlib.contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Convert system errors about a folder that cannot be written into a DfensError."""
    try:
        yield
    except OSError as err:
        if err.errno is None:  # from bz2, for damaged bytes
            raise zipfile.BadZipFile(str(err)) from err
        paths = [Path(os.fsdecode(name)) for name in (err.filename, err.filename2) if name]  # two for a move
        named = next((path for path in paths if folder in path.parents), paths[0] if paths else folder)
        remedy = write_remedy(named, err)
        if isinstance(err, PermissionError):
            remedy = (
                f"Correct the permissions of {folder}, or set [data] root to another folder; then run the same command "
                f"again, which keeps existing files."
            )
        raise DfensError(f"{named} cannot be written ({err.strerror}). {remedy}") from err


def check_members(opened: zipfile.ZipFile, archive: Path, to: Destination) -> list[tuple[str, zipfile.ZipInfo]]:
    """Return the files of a ZIP file with safe, normalised relative names (no `./`, no `//`).

    Raises:
        DataError: if members are unsafe, naming them.
    """
    faults: list[str] = []
    found: dict[str, zipfile.ZipInfo] = {}
    for info in opened.infolist():
        if info.is_dir():
            continue
        raw = info.filename.replace("\\", "/")
        name = PurePosixPath(raw).as_posix()
        fault = _fault(raw, info)
        if not fault and name in found:
            fault = "duplicate"
        if not fault and is_protected(to.folder / name, to.protected):
            fault = "a file of dfens"
        if fault:
            faults.append(f"{info.filename!r} ({fault})")
        found[name] = info
    parents = {str(parent) for name in found for parent in PurePosixPath(name).parents}
    faults += [f"{name!r} (a file and a folder)" for name in found if name in parents]
    if faults:
        raise DataError(
            f"{archive} contains {len(faults)} members that are not safe to unpack: {examples(faults)}. Nothing was "
            f"unpacked. Unpack trusted members by hand."
        )
    if sum(info.compress_size for info in found.values()) > archive.stat().st_size:
        raise DataError(f"{archive} has overlapping members, as in a ZIP bomb. Nothing was unpacked.")
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
        return "not a regular file"
    if info.flag_bits & 1:
        return "encrypted"
    return ""


def _is_missing(name: str, info: zipfile.ZipInfo, to: Destination) -> bool:
    """Return whether a member needs space on the disk: it has no file yet, or replaces one of another size."""
    path = to.folder / name
    if to.aside is None:
        return not (path.exists() or path.is_symlink())
    return path.is_symlink() or not path.is_file() or path.stat().st_size != info.file_size


def _check_room(wanted: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if wanted + _SPARE > free:
        raise DfensError(
            f"Unpacking needs {_size(wanted)}, but the disk of {folder} has only {_size(free)} free. Nothing was "
            f"unpacked. Free space, or set [data] root to another disk, then run the same command again."
        )


def is_protected(path: Path, protected: Sequence[Path]) -> bool:
    """Return whether a path is one of these files, or inside one of these folders."""
    # Path.resolve fails for a loop of links
    path = Path(os.path.realpath(path))
    return any(path.is_relative_to(os.path.realpath(other)) for other in protected)


def _unpack(
    opened: zipfile.ZipFile, members: Sequence[tuple[str, zipfile.ZipInfo]], to: Destination, progress: Progress
) -> Unpacked:
    sizes, written, untold = {}, 0, 0
    kept, replaced = [], {}
    with progress.task("unpack", total=sum(info.file_size for _, info in members), unit="B") as task:
        for name, info in members:
            path = to.folder / name
            is_there = path.exists() or path.is_symlink()
            if not is_there or (to.aside is not None and not _same(path, info)):
                if is_there and to.aside is not None:
                    replaced[name] = move_aside(path, to.aside / name)
                with opened.open(info) as source:
                    _write(source, path)  # zipfile never yields more than the declared size, and checks the CRC
                written += 1
            elif not _same(path, info):
                kept.append(name)
            sizes[name] = info.file_size
            untold += info.file_size
            if untold > _TELL_BYTES:
                task.advance(untold)
                untold = 0
        task.advance(untold)
    os.sync()  # before reporting that everything is there
    return Unpacked(sizes, written, tuple(kept), replaced)


def move_aside(path: Path, to: Path) -> Path:
    """Move a file that is about to be replaced to a free name, and return its new path."""
    to.parent.mkdir(parents=True, exist_ok=True)
    names = (to.with_name(f"{number}-{to.name}"[:200]) for number in count(1))
    free = next(name for name in names if not os.path.lexists(name))  # a link that leads nowhere is kept too
    try:
        path.rename(free)
    except OSError as err:
        if err.errno != errno.EXDEV:
            raise
        shutil.move(path, free)  # to another disk
    return free


def _same(path: Path, info: zipfile.ZipInfo) -> bool:
    """Return whether a file exists with the member's size and checksum."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size != info.file_size:
        return False
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum == info.CRC


def move_into_place(source: Path, path: Path) -> None:
    """Move a file, also to another disk; an interrupted move leaves no partial file at the new path."""
    try:
        source.rename(path)
    except OSError as err:
        if err.errno != errno.EXDEV:
            raise
        with source.open("rb") as opened:
            _write(opened, path)
        os.sync()  # before the other complete copy is removed
        source.unlink()


def _write(source: IO[bytes], path: Path) -> None:
    """Copy a stream to a temporary name next to `path`, and move it into place once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{hashlib.sha256(path.name.encode()).hexdigest()[:16]}.part")
    try:
        with part.open("wb") as file:
            shutil.copyfileobj(source, file, _CHUNK)
        part.replace(path)
    except BaseException as err:
        if isinstance(err, OSError) and err.filename == str(part):
            err.filename = str(path)
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
