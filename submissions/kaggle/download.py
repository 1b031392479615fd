"""The competition's files: fetched in a stream, taken up where it stopped, verified, unpacked."""

import contextlib
import shutil
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from oof import files
from oof.errors import DataError, DfensError, StoreError, examples
from oof.progress import SILENT, Progress, Task
from submissions.kaggle.client import KaggleClient, KaggleError
from submissions.kaggle.unpack import unpack, writing_into

FORMAT_VERSION = 1
_SPARE = 64 << 20
_LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True)
class Downloaded:
    """files, bytes: what lies in the folder now. fetched: bytes that came over the network; 0 where all was there."""

    files: int
    bytes: int
    fetched: int
    archives: tuple[str, ...] = ()


def download_all(
    client: KaggleClient,
    folder: Path,
    state_dir: Path,
    *,
    keep_archive: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> Downloaded:
    """All files of the competition, as the one archive that Kaggle makes of them.

        state_dir/
            SLUG.zip.part        what has come so far; the next run goes on there
            SLUG.zip.part.json   what it belongs to: version on the server, size
            SLUG.zip             whole; removed after unpacking unless it is to be kept
            SLUG.json            what was unpacked; with it a second run does nothing

    Memory stays flat: data is copied in pieces of 1 MiB.

    Args:
        folder: where the files go. force: fetch again although all files are there.

    Raises:
        KaggleError: with Kaggle's reason; what has come is kept.
        DataError, DfensError: see `submissions.kaggle.unpack.unpack`; a disk too small, before anything is fetched.
    """
    slug = client.competition
    record_path, archive = state_dir / f"{slug}.json", state_dir / f"{slug}.zip"
    if not force:
        known = _unpacked_before(record_path, folder)
        if known is not None:
            return Downloaded(len(known), sum(known.values()), 0, _inner(known))
    fetched = 0
    if force or not archive.exists():
        fetched = _fetch(client, "", archive, progress)
    unpacked = unpack(archive, folder, progress)
    files.write_json(
        record_path,
        {"version": FORMAT_VERSION, "competition": slug, "folder": str(folder.resolve()), "files": unpacked.sizes},
    )
    if not keep_archive:
        archive.unlink()
    return Downloaded(len(unpacked.sizes), sum(unpacked.sizes.values()), fetched, _inner(unpacked.sizes))


def download_some(
    client: KaggleClient,
    names: Sequence[str],
    folder: Path,
    state_dir: Path,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> Downloaded:
    """Files of the competition by name, each verified against the size in Kaggle's list.

    Raises:
        DataError: a name that Kaggle's list does not have, or that leads outside the folder.
    """
    listed = client.files()
    unknown = [name for name in names if name not in listed]
    if unknown:
        raise DataError(
            f"{client.competition} has no file {examples(unknown)}; it has {examples(sorted(listed), 12)}. "
            f"Run dfens download --list."
        )
    fetched = 0
    for name in names:
        if ".." in PurePosixPath(name).parts or name.startswith("/"):
            raise DataError(f"The file name {name!r} leads outside {folder}. Fetch it by hand.")
        path = folder / name
        if not force and path.is_file() and path.stat().st_size == listed[name]:
            continue
        held = state_dir / "files" / f"{name}.held"
        fetched += _fetch(client, name, held, progress)
        if held.stat().st_size != listed[name] and _holds_only(held, PurePosixPath(name).name):
            unpack(held, path.parent, progress)  # Kaggle gives large text files zipped
            held.unlink()
        else:
            with writing_into(folder):
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(held, path)
        size = path.stat().st_size
        if size != listed[name]:
            raise DataError(
                f"{path} has {size} bytes; Kaggle's list says {listed[name]}. It may have just been replaced there: "
                f"run dfens download --file {name} --force."
            )
    return Downloaded(len(names), sum(listed[name] for name in names), fetched)


def _holds_only(path: Path, name: str) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as opened:
        return opened.namelist() == [name]


def _unpacked_before(record_path: Path, folder: Path) -> dict[str, int] | None:
    """Sizes of what an earlier run unpacked, if every file is still there; else None."""
    if not record_path.exists():
        return None
    try:
        record = files.read_json(record_path)
    except StoreError:
        return None
    if record.get("version") != FORMAT_VERSION or record.get("folder") != str(folder.resolve()):
        return None
    sizes: dict[str, int] = record["files"]
    for name, size in sizes.items():
        try:
            if (folder / name).stat().st_size != size:
                return None
        except OSError:
            return None
    return sizes


def _inner(sizes: dict[str, int]) -> tuple[str, ...]:
    endings = (".zip", ".7z", ".tar", ".tar.gz", ".tgz", ".rar")
    return tuple(name for name in sorted(sizes) if name.lower().endswith(endings))


def _fetch(client: KaggleClient, name: str, path: Path, progress: Progress) -> int:
    """Fetch one file into `path`, over as many attempts as bring something; bytes that came."""
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
                idle = 0 if meter.received > before else idle + 1
                if not err.reason.retry or idle > settings.retries:
                    kept = part.stat().st_size if part.exists() else 0
                    more = f" {kept} bytes are kept; the same command goes on from there." if kept else ""
                    raise KaggleError(f"{err}{more}", err.reason) from err
                pause = settings.retry_first_s if idle == 0 else min(2 * pause, _LONGEST_PAUSE_S)
                progress.note(f"The download broke off ({err.reason.said or err.reason.kind}); going on.")
                time.sleep(pause)
    if part.stat().st_size != facts["bytes"]:
        raise DfensError(f"{part} was changed while it was being written. Remove it, then run dfens download again.")
    part.replace(path)
    part.with_name(part.name + ".json").unlink(missing_ok=True)
    return meter.received


class _Meter:
    """Turns what the client's process tells of a download into progress, and stops one that the disk can't hold."""

    def __init__(self, stack: contextlib.ExitStack, progress: Progress, title: str, folder: Path) -> None:
        self._stack, self._progress, self._title, self._folder = stack, progress, title, folder
        self._task: Task | None = None
        self._shown = 0
        self.received = 0

    def handle(self, event: dict[str, Any]) -> None:
        """One event: begin (total, have) or progress (bytes since the last)."""
        if event["event"] == "begin":
            total, have = event["total"], event["have"]
            free = shutil.disk_usage(self._folder).free
            if total is not None and total - have + _SPARE > free:
                raise DfensError(
                    f"The download has {(total - have) / 2**30:.2f} GiB to come and the disk of {self._folder} has "
                    f"{free / 2**30:.2f} GiB free. Free space, then run the same command again; what has come is kept."
                )
            if self._task is None:
                self._task = self._stack.enter_context(self._progress.task(self._title, total=total, unit="B"))
            self._task.advance(have - self._shown)
            self._shown = have
        elif self._task is not None:
            self._task.advance(event["bytes"])
            self._shown += event["bytes"]
            self.received += event["bytes"]
