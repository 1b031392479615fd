"""A workspace shared by machines that have no disk in common: a folder of an object store, by URL.

    URL/NAME-KEY/                       of one model with its settings, folds and test ids, which KEY is the hash of
    ├── oof/folds.parquet, test_ids.parquet, sealed.parquet, models/NAME/…
    └── trainers/NAME/…                 as in the workspace of one machine

Each task works in a folder of its own machine: it fetches what it needs, and sends what it writes while it goes on.
What was trained with other settings or folds lies under another key, so nothing can be mixed up. fsspec
(filesystem-spec.readthedocs.io) reaches the store, through a package for each kind (s3fs, gcsfs, adlfs and others).
"""

import contextlib
import hashlib
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from oof.errors import TrainingError
from oof.files import atomic_path
from oof.ids import ids_fingerprint
from oof.store import PredictionStore
from trainers.jobs.runner import TrainingJob
from trainers.kinds.base import RUNNING_FILES, settings_record

_SEND_EVERY_S = 1.0  # looks at times and sizes alone
_OF_A_FOLD = re.compile(r"(?:/|\.)fold(\d+)(?:/|\.)")
_SECRET = re.compile(r"key|secret|token|password|sig", re.IGNORECASE)


@dataclass(frozen=True)
class RemoteWorkspace:
    """Where the machines leave their work for each other; plain values that can be sent to another process.

    url: of a folder. keys: of each model, what its settings, folds and test ids hash to.
    """

    url: str
    keys: Mapping[str, str]

    @classmethod
    def of(cls, url: str, job: TrainingJob) -> "RemoteWorkspace":
        """The share of a job.

        Raises:
            TrainingError: a URL that holds credentials, is of an unknown kind, or cannot be reached.
        """
        _check_url(url)
        store = PredictionStore(job.store_root)
        keys = {}
        for name, settings in job.models.items():
            parts = [settings_record(settings), store.folds.fingerprint, ids_fingerprint(store.test_ids)]
            keys[name] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
        remote = cls(url, keys)
        with _telling(url, "reached"):
            file_system, root = remote._open()
            bucket = root.partition("/")[0]  # empty where paths begin with a slash: a disk, not an object store
            there = not bucket or file_system.exists(bucket)
        if not there:  # writing would make it
            raise TrainingError(
                f"--share {url!r}: there is no {bucket!r}, or this machine may not see it. Make it first."
            )
        return remote

    # ---- whole tasks --------------------------------------------------------

    def begin(self, job: TrainingJob, folds: Sequence[int], note: Callable[[str], None]) -> None:
        """Fetch the folds that were finished elsewhere, and send what the tasks need."""
        for name in job.models:
            found = [fold for fold in folds if self.fetch_result(job, name, fold)]
            if found:
                note(f"{name}: fold {', '.join(map(str, found))} was found finished at {self.url}")
            sync = TaskSync(self, job, name, None)
            sync.send(but=sync.listing())

    def fetch_result(self, job: TrainingJob, name: str, fold: int | None) -> bool:
        """Fetch what a task has finished, unless it is here; whether anything was fetched."""
        sync = TaskSync(self, job, name, fold)
        there = sync.listing()
        if fold is not None and not any(f"/oof.fold{fold}." in relative for relative in there):
            return False
        fetched = sync.fetch([relative for relative in there if not _is_temporary(relative)])
        if fold is not None:
            for running in RUNNING_FILES:
                (job.work_dir / name / f"fold{fold}" / running).unlink(missing_ok=True)
        return bool(fetched)

    @contextlib.contextmanager
    def task(self, job: TrainingJob, name: str, fold: int | None, note: Callable[[str], None]) -> Iterator[None]:
        """Work on a task in the job's folders: what it needs is fetched first, what it writes is sent all the while.

        Raises:
            TrainingError: the share cannot be read, or at the end not be written.
        """
        sync = TaskSync(self, job, name, fold)
        sync.fetch(sync.listing())
        over = threading.Event()
        sender = threading.Thread(target=sync.keep_sending, args=(over, note), daemon=True)
        sender.start()
        try:
            yield
        finally:
            over.set()
            sender.join()
            sync.send()

    def _open(self) -> tuple[Any, str]:
        import fsspec

        file_system, root = fsspec.core.url_to_fs(self.url)
        return file_system, root.rstrip("/")


class TaskSync:
    """The files of a task (fold None: of all folds of its model), here and at the remote.

    job: whose folders are meant here.
    """

    def __init__(self, remote: RemoteWorkspace, job: TrainingJob, name: str, fold: int | None) -> None:
        self._url = remote.url
        self._files, root = remote._open()
        self._root = f"{root}/{name}-{remote.keys[name]}"
        self._name, self._fold = name, fold
        self._here = {"oof": job.store_root, "trainers": job.work_dir}
        self._same: dict[str, tuple[int, int]] = {}  # time and size of each file here when it was the one there

    def listing(self) -> list[str]:
        """What the share has for the task, as oof/… and trainers/…, what marks a fold as done last."""
        with _telling(self._url, "read"):
            self._files.invalidate_cache()
            found = self._files.find(self._root) if self._files.exists(self._root) else []
        return self._ordered(str(path).rpartition(self._root + "/")[2] for path in found)

    def fetch(self, relatives: Sequence[str]) -> list[str]:
        """Copy what is not here; what was copied."""
        lacking = [relative for relative in relatives if not self._path(relative).exists()]
        for relative in lacking:
            path = self._path(relative)
            with atomic_path(path) as part, _telling(self._url, "read"):
                self._files.get_file(f"{self._root}/{relative}", str(part))
            self._same[relative] = _stamp(path)
        return lacking

    def send(self, but: Sequence[str] = ()) -> None:
        """Copy what is new or has changed here since, whole or not at all; take away the state of an ended training."""
        for relative in self._ordered(self._relatives()):
            try:
                stamp = _stamp(self._path(relative))
            except FileNotFoundError:  # the state of a training that has just ended
                continue
            if self._same.get(relative) == stamp or relative in but:
                continue
            with _telling(self._url, "written"):
                self._put(relative)
            self._same[relative] = stamp
        for relative in [name for name in self._same if _is_temporary(name) and not self._path(name).exists()]:
            with _telling(self._url, "written"), contextlib.suppress(FileNotFoundError):
                self._files.rm_file(f"{self._root}/{relative}")
            del self._same[relative]

    def keep_sending(self, over: threading.Event, note: Callable[[str], None]) -> None:
        """Send until it is over; a share that cannot be written now is tried again."""
        told = False
        while not over.wait(_SEND_EVERY_S):
            try:
                self.send()
            except TrainingError as err:
                if not told:
                    note(f"{err} It is tried again while the training goes on.")
                told = True

    def _put(self, relative: str) -> None:
        target = f"{self._root}/{relative}"
        part = f"{target}.{uuid.uuid4().hex}.part"
        self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
        try:
            self._files.put_file(str(self._path(relative)), part)
            self._files.mv(part, target)
        except Exception:
            with contextlib.suppress(Exception):
                self._files.rm_file(part)
            raise

    def _relatives(self) -> Iterator[str]:
        models = f"models/{self._name}"
        for room, patterns in (
            ("oof", ("folds.parquet", "test_ids.parquet", "sealed.parquet", f"{models}/*")),
            ("trainers", (f"{self._name}/settings.json", f"{self._name}/fold*/*", f"{self._name}/test-*/*")),
        ):
            for pattern in patterns:
                for path in self._here[room].glob(pattern):
                    yield f"{room}/{path.relative_to(self._here[room]).as_posix()}"

    def _ordered(self, relatives: Iterable[str]) -> list[str]:
        """Those of the task that are whole, with OOF predictions, which mark a fold as done, at the end."""
        found = []
        for relative in relatives:
            match = _OF_A_FOLD.search(relative)
            mine = match is None or self._fold is None or int(match[1]) == self._fold
            *folders, last = relative.split("/")
            plain = folders[:1] in (["oof"], ["trainers"]) and ".." not in folders
            if mine and plain and not last.startswith(".") and not last.endswith(".part"):
                found.append(relative)
        return sorted(found, key=lambda relative: ("/oof.fold" in relative, relative))

    def _path(self, relative: str) -> Path:
        room, _, rest = relative.partition("/")
        return self._here[room] / rest


def _is_temporary(relative: str) -> bool:
    """Whether a file belongs to a fold in training or to unfinished test predictions, and goes when they are done."""
    return relative.endswith(RUNNING_FILES) or "/test-" in relative


def _stamp(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_size


def _check_url(url: str) -> None:
    import fsspec

    parts = urlsplit(url)
    if "@" in parts.netloc or any(_SECRET.search(key) for key in parse_qs(parts.query, keep_blank_values=True)):
        raise TrainingError(
            "--share holds credentials, which logs and the list of processes would show. Leave them out of the URL: "
            "each machine must have its own, in the environment or the files that its cloud's tools read."
        )
    if "://" not in url:
        raise TrainingError(f"--share {url!r} is no URL. Give one such as s3://bucket/team or file:///mnt/team.")
    if parts.scheme == "memory":
        raise TrainingError("--share memory:// lies in one process, and no other machine sees it. Give another URL.")
    try:
        fsspec.get_filesystem_class(parts.scheme)
    except (ImportError, ValueError) as err:
        raise TrainingError(
            f"--share {url!r} cannot be used: {str(err).rstrip('.')}. Each kind of store has a package of its own "
            f"(s3fs, gcsfs, adlfs), which every machine needs."
        ) from err


@contextlib.contextmanager
def _telling(url: str, what: str) -> Iterator[None]:
    try:
        yield
    except TrainingError:
        raise
    except Exception as err:  # each store has errors of its own
        reason = (str(err).strip().splitlines() or [type(err).__name__])[0][:200]
        raise TrainingError(
            f"The share {url} could not be {what} ({type(err).__name__}: {reason}). Look whether this machine may "
            f"read and write it, then give the same command again."
        ) from err
