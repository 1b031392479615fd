"""Download the competition's files: streamed, resumable, verified, unpacked."""

import contextlib
import fcntl
import json
import os
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from oof import files
from oof.errors import DataError, DfensError, StoreError, examples
from oof.progress import SILENT, Progress, Task
from submissions.kaggle.client import KaggleClient, KaggleError
from submissions.kaggle.unpack import (
    ZIP_DAMAGE,
    Destination,
    is_protected,
    move_aside,
    move_into_place,
    unpack,
    writing_into,
)

FORMAT_VERSION = 1
_SPARE = 64 << 20
_LONGEST_PAUSE_S = 60.0
_LOOK_S = 0.2


@dataclass(frozen=True)
class Downloaded:
    """The outcome of a download.

    files, bytes: number and size of the requested files. fetched: bytes downloaded, 0 if everything was
    there. archives: files that are archives themselves and were not unpacked. changed: existing files with
    different content, e.g. corrected by the user, which were left unchanged. replaced: with `force`, the replaced
    files and the new paths of the old ones. written: number of files that were not there before, or were replaced.
    """

    files: int
    bytes: int
    fetched: int
    archives: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    replaced: Mapping[str, Path] = field(default_factory=dict)
    written: int = field(default=0, compare=False)  # the outcome is the same, whatever was there before


@dataclass(frozen=True)
class DownloadTarget:
    """The destination of a download.

    folder: folder for the competition's files. state_dir: folder for partial downloads, see `download_all`.
    protected: files and folders that no downloaded file may replace.
    """

    folder: Path
    state_dir: Path
    protected: tuple[Path, ...] = ()


def download_all(
    client: KaggleClient,
    to: DownloadTarget,
    *,
    keep_archive: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> Downloaded:
    """Download all files of the competition as one archive.

        state_dir/
            lock                 locked while a download is running
            SLUG.zip.part        partial download, which the next run resumes
            SLUG.zip.part.json   what it belongs to: version on the server, size
            SLUG.zip             complete; removed after unpacking unless it is to be kept
            SLUG.zip.json        its version on the server; a kept archive is used again as long as this is the newest
            SLUG.json            list of unpacked files; if present, a second run does nothing, except that it removes
                                 the archive if the first one was killed before it could
            replaced/            files replaced by --force

    Memory use is constant: data is copied in pieces of 1 MiB. An existing file is never overwritten: one with
    different content may have been corrected by the user, and is reported.

    Args:
        force: whether to download again although all files are there, and replace those that differ.

    Raises:
        KaggleError: with Kaggle's reason; the partial download is kept.
        DataError, DfensError: see `submissions.kaggle.unpack.unpack`; also if the disk is too small, before
            downloading.
    """
    slug, folder, state_dir = client.competition, to.folder, to.state_dir
    record_path, archive = state_dir / f"{slug}.json", state_dir / f"{slug}.zip"
    destination = Destination(folder, state_dir / "replaced" if force else None, to.protected)
    with _alone(state_dir, client, progress):
        known = None if force else _unpacked_before(record_path, folder)
        if known is not None:
            if not files.read_json(record_path).get("keeps_archive", True):  # the last run was killed before this
                _remove_archive(archive)
            changed = tuple(name for name, size in known.items() if not _has_size(folder / name, size))
            return Downloaded(len(known), sum(known.values()), 0, _inner(known), changed)
        fetched = 0
        if force or not _is_newest(client, archive, progress):
            fetched = _fetch(client, "", archive, progress)
            if not zipfile.is_zipfile(archive):
                archive.unlink()
                raise DataError(
                    f"The files of {slug} arrived incomplete or as something other than a ZIP file, such as the login "
                    f"page of a network, and were discarded. Run the same command again."
                )
        unpacked = unpack(archive, destination, progress)
        files.write_json(
            record_path,
            {
                "version": FORMAT_VERSION,
                "competition": slug,
                "folder": os.path.realpath(folder),
                "relative_folder": _relative(folder, state_dir),
                "files": unpacked.sizes,
                "keeps_archive": keep_archive,
            },
        )
        if not keep_archive:
            _remove_archive(archive)
    return Downloaded(
        len(unpacked.sizes),
        sum(unpacked.sizes.values()),
        fetched,
        _inner(unpacked.sizes),
        unpacked.kept,
        unpacked.replaced,
        unpacked.written,
    )


def _is_newest(client: KaggleClient, archive: Path, progress: Progress) -> bool:
    """Return whether an archive exists and is Kaggle's version, or may be since Kaggle cannot be asked."""
    if not archive.exists():
        return False
    try:
        version = client.archive_version()
    except KaggleError as err:
        made = datetime.fromtimestamp(archive.stat().st_mtime, UTC)
        progress.note(
            f"{err} The archive of {made:%Y-%m-%d %H:%M} UTC is used, without knowing if there is a newer one."
        )
        return True
    try:
        known = json.loads(_version_path(archive).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # of an earlier version of dfens, or truncated
        known = None
    if known == version and version["validator"]:
        return True
    progress.note(f"The archive {archive.name} is not known to be Kaggle's newest; downloading it again.")
    return False


def _remove_archive(archive: Path) -> None:
    archive.unlink(missing_ok=True)
    _version_path(archive).unlink(missing_ok=True)


def _version_path(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.json")


@contextlib.contextmanager
def _alone(state_dir: Path, client: KaggleClient, progress: Progress) -> Iterator[None]:
    """Ensure that only one download runs per folder, since two would mix their bytes in the partial file."""
    state_dir.mkdir(parents=True, exist_ok=True)
    deadline, waiting = time.monotonic() + client.settings.lock_limit_s, False
    with (state_dir / "lock").open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    progress.note("Another dfens download is running here; waiting for it.")
                waiting = True
            if time.monotonic() > deadline:
                raise DfensError(
                    f"Another dfens download has been running in {state_dir} for more than "
                    f"{client.settings.lock_limit_s:g} s. Wait for it or stop it, then run the same command again."
                )
            time.sleep(_LOOK_S)
        client.process.kill()
        client.process.held = (file.fileno(),)
        try:
            yield
        finally:
            client.process.kill()  # it holds the lock too
            client.process.held = ()


def download_some(
    client: KaggleClient,
    names: Sequence[str],
    to: DownloadTarget,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> Downloaded:
    """Download files of the competition by name, each verified against the size in Kaggle's list.

    An existing file of a different size is left unchanged, unless `force` moves it to state_dir/replaced.

    Raises:
        DataError: if a name is not in Kaggle's list, or leads outside the folder.
    """
    listed = client.files()
    unknown = [name for name in names if name not in listed]
    if unknown:
        raise DataError(
            f"{client.competition} has no file {examples(unknown)}; it has {examples(sorted(listed), 12)}. "
            f"Run dfens download --list."
        )
    folder, state_dir = to.folder, to.state_dir
    fetched, changed, replaced, written = 0, [], {}, 0
    with _alone(state_dir, client, progress):
        for name in names:
            path = _safe_path(to, name)
            if os.path.lexists(path) and not force:  # a link may lead to a disk that is not mounted
                if not _has_size(path, listed[name]):
                    changed.append(name)
                continue
            fetched += _fetch_one(client, name, listed[name], state_dir, progress)
            held = state_dir / "files" / f"{name}.held"
            with writing_into(folder):
                if os.path.lexists(path):
                    replaced[name] = move_aside(path, state_dir / "replaced" / name)
                path.parent.mkdir(parents=True, exist_ok=True)
                move_into_place(held, path)
            written += 1
    total = sum(listed[name] for name in names)
    return Downloaded(len(names), total, fetched, changed=tuple(changed), replaced=replaced, written=written)


def _safe_path(to: DownloadTarget, name: str) -> Path:
    path = to.folder / name
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or name.startswith("/") or is_protected(path, to.protected):
        raise DataError(
            f"The file name {name!r} leads outside {to.folder}, or to a file of dfens. Download it by hand."
        )
    return path


def _fetch_one(client: KaggleClient, name: str, size: int, state_dir: Path, progress: Progress) -> int:
    """Download one file to state_dir/files/NAME.held, with the size in Kaggle's list; return the bytes downloaded."""
    held = state_dir / "files" / f"{name}.held"
    fetched = _fetch(client, name, held, progress)
    found = held.stat().st_size
    if found != size:  # Kaggle sends large text files zipped
        unpacked = _unpacked_size(held, PurePosixPath(name).name)
        if unpacked == size:
            _unzip(held, name, progress)
        found = found if unpacked is None else unpacked
    if found != size:
        held.unlink()
        raise DataError(
            f"{name} has {found} bytes, but {size} in Kaggle's list. It may just have been replaced there: run the "
            f"same command again."
        )
    return fetched


def _unzip(held: Path, name: str, progress: Progress) -> None:
    """Replace a ZIP file by its only member."""
    inner = held.with_name(f"{held.name}.unpacked")
    try:
        unpack(held, Destination(inner, aside=inner), progress)
    except DataError as err:
        held.unlink()
        raise DataError(
            f"{name} arrived in a damaged ZIP file, which was discarded. Run the same command again."
        ) from err
    else:
        (inner / PurePosixPath(name).name).replace(held)
    finally:
        shutil.rmtree(inner, ignore_errors=True)


def _unpacked_size(path: Path, name: str) -> int | None:
    """Return the declared size of the only member of a ZIP file, or None if it is something else or damaged.

    It is compared with Kaggle's list before unpacking, so that a ZIP bomb does not fill the disk.
    """
    try:
        with zipfile.ZipFile(path) as opened:
            members = opened.infolist()
    except ZIP_DAMAGE:
        return None
    return members[0].file_size if [info.filename for info in members] == [name] else None


def _unpacked_before(record_path: Path, folder: Path) -> dict[str, int] | None:
    """Return the sizes of files unpacked by an earlier run, if every file still exists, changed or not; else None."""
    if not record_path.exists():
        return None
    try:
        record = files.read_json(record_path, "version", "folder", "files")
    except StoreError:
        return None
    is_moved = record.get("relative_folder") == _relative(folder, record_path.parent)  # with the whole project
    if record["version"] != FORMAT_VERSION or not (is_moved or record["folder"] == os.path.realpath(folder)):
        return None
    sizes = record["files"]
    if not isinstance(sizes, dict) or not all(type(size) is int for size in sizes.values()):  # edited by hand
        return None
    return sizes if all(os.path.lexists(folder / name) for name in sizes) else None


def _relative(folder: Path, state_dir: Path) -> str:
    return os.path.relpath(os.path.realpath(folder), os.path.realpath(state_dir))


def _has_size(path: Path, size: int) -> bool:
    """Return whether a file exists with this size; a link may lead to a disk that is not mounted."""
    return path.exists() and path.stat().st_size == size


def _inner(sizes: dict[str, int]) -> tuple[str, ...]:
    endings = (".zip", ".7z", ".tar", ".tar.gz", ".tgz", ".rar")
    return tuple(name for name in sorted(sizes) if name.lower().endswith(endings))


def _fetch(client: KaggleClient, name: str, path: Path, progress: Progress) -> int:
    """Download one file to `path`, retrying as long as attempts make progress; return the bytes downloaded.

    Without progress, a lost connection is retried `retries` times, and a silent one once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    settings = client.settings
    with contextlib.ExitStack() as stack:
        meter = _Meter(stack, progress, f"download {name or client.competition}", path.parent)
        idle, pause = 0, settings.retry_first_s
        while True:
            before = meter.received
            try:
                facts = client.download(name, part, meter.handle)
                break
            except KaggleError as err:
                idle = 0 if meter.received > before and meter.restarts <= settings.retries else idle + 1
                late = err.reason.kind == "timeout" and idle > 1
                if not err.reason.retry or idle > settings.retries or late:
                    kept = part.stat().st_size if part.exists() else 0
                    more = f" {kept} bytes are kept; running the same command again resumes there." if kept else ""
                    raise KaggleError(f"{err}{more}", err.reason) from err
                pause = settings.retry_first_s if idle == 0 else min(2 * pause, _LONGEST_PAUSE_S)
                progress.note(f"The download was interrupted ({err.reason.said or err.reason.kind}); resuming.")
                time.sleep(pause)
    if part.stat().st_size != facts["bytes"]:
        part.unlink()
        raise DfensError(
            f"The download of {name or client.competition} was changed by another program in {path.parent} and was "
            f"discarded. Run the same command again."
        )
    facts_path = part.with_name(part.name + ".json")
    if name:
        part.replace(path)
        facts_path.unlink(missing_ok=True)
    else:  # the version never belongs to another archive, whenever this is interrupted
        _version_path(path).unlink(missing_ok=True)
        part.replace(path)
        facts_path.replace(_version_path(path))
    return meter.received


class _Meter:
    """Reports the progress of a download from the client's events, and stops it if the disk is too small."""

    def __init__(self, stack: contextlib.ExitStack, progress: Progress, title: str, folder: Path) -> None:
        self._stack, self._progress, self._title, self._folder = stack, progress, title, folder
        self._task: Task | None = None
        self._shown = 0
        self.received = 0
        self.restarts = 0
        """Number of restarts from the first byte after partial downloads: the server may never send the whole file."""

    def handle(self, event: dict[str, Any]) -> None:
        """Handle one event: begin (total, have) or progress (bytes since the last)."""
        if event["event"] == "begin":
            total, have = event["total"], event["have"]
            free = shutil.disk_usage(self._folder).free
            if total is not None and total - have + _SPARE > free:
                raise DfensError(
                    f"The download needs {(total - have) / 2**30:.2f} GiB more, but the disk of {self._folder} has "
                    f"only {free / 2**30:.2f} GiB free. Free space, then run the same command again; it resumes."
                )
            if self._task is None:
                self._task = self._stack.enter_context(self._progress.task(self._title, total=total, unit="B"))
            else:
                self.received += max(0, have - self._shown)  # arrived just before the client was killed
            self.restarts += self.received > 0 and have == 0
            self._task.advance(have - self._shown)
            self._shown = have
        elif self._task is not None:
            self._task.advance(event["bytes"])
            self._shown += event["bytes"]
            self.received += event["bytes"]
