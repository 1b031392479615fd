"""A workspace shared by machines without a common disk: a folder in an object store, given by URL.

    URL/NAME-KEY/                       one model; KEY is the hash of its settings, folds, training files and test ids
    ├── oof/folds.parquet, test_ids.parquet, sealed.parquet, models/NAME/…
    └── trainers/NAME/…                 as in the workspace of one machine

Each task works in a local folder of its machine: it fetches what it needs, and uploads what it writes while it runs.
Models with other settings, folds or files have another key, so they cannot be mixed up. The store is accessed with
fsspec (filesystem-spec.readthedocs.io), through a package for each kind of store (s3fs, gcsfs, adlfs and others).
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
from trainers.jobs.job import TrainingJob
from trainers.jobs.model_record import data_fingerprints
from trainers.jobs.runner import FoldRunner
from trainers.kinds.base import RUNNING_FILES, run_label, settings_record
from trainers.kinds.registry import kind_of
from trainers.kinds.repeats import repeats_of, without_repeats

_SEND_EVERY_S = 1.0  # each scan only compares times and sizes
_LABEL, _SEED = re.compile(r"[/.](fold\d+|refit)[/.]"), re.compile(r"[/.]seed(\d+)[/.]")
_SECRET = re.compile(r"key|secret|token|password|sig", re.IGNORECASE)


@dataclass(frozen=True)
class RemoteWorkspace:
    """The folder through which machines exchange their work; plain values that can be sent to another process.

    url: URL of the folder. keys: hash of everything that the trainings of each model depend on. k: number of folds.
    """

    url: str
    keys: Mapping[str, str]
    k: int

    @classmethod
    def of(cls, url: str, job: TrainingJob) -> "RemoteWorkspace":
        """Return the remote workspace of a job.

        Raises:
            TrainingError: if the URL contains credentials, has an unknown scheme, or cannot be reached.
        """
        _check_url(url)
        runner = FoldRunner(job)
        store, keys = runner.store, {}
        for name, settings in job.models.items():
            record = without_repeats(settings_record(settings))
            parts = [record, store.folds.fingerprint, ids_fingerprint(store.test_ids)]
            parts += data_fingerprints(runner.context(name)).values()
            parts += [job.pseudo.fingerprint_of(store.test_ids)] if job.pseudo is not None else []
            keys[name] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
        remote = cls(url, keys, store.folds.k)
        with _named_error(url, "reached"):
            file_system, root = remote._open()
            bucket = root.partition("/")[0]  # empty if paths begin with a slash: a disk, not an object store
            there = not bucket or file_system.exists(bucket)
        if not there:  # writing would create it
            raise TrainingError(
                f"--share {url!r}: {bucket!r} does not exist, or this machine has no access. Create it first."
            )
        return remote

    # ---- whole tasks --------------------------------------------------------

    def begin(self, job: TrainingJob, folds: Sequence[int], note: Callable[[str], None]) -> None:
        """Fetch the folds that were finished elsewhere, and upload what the tasks need."""
        for name, settings in job.models.items():
            for seed in range(repeats_of(settings).seeds):
                found = [fold for fold in folds if self.fetch_result(job, name, fold, seed)]
                if found:
                    of_seed = f" of seed {seed}" if seed else ""
                    note(f"{name}: already finished at {self.url}{of_seed}: fold {', '.join(map(str, found))}")
            sync = TaskSync(self, job, name, None)
            sync.send(but=sync.listing())

    def fetch_result(self, job: TrainingJob, name: str, fold: int | None, seed: int = 0) -> bool:
        """Fetch the results of a task unless they are here; return whether anything was fetched."""
        sync = TaskSync(self, job, name, fold, seed)
        there = sync.listing()
        if fold is not None and not any(sync.marks_done(relative) for relative in there):
            return False
        fetched = sync.fetch([relative for relative in there if not _is_temporary(relative)])
        if fold is not None:
            for running in RUNNING_FILES:
                (sync.folder / running).unlink(missing_ok=True)
        return bool(fetched)

    @contextlib.contextmanager
    def task(
        self, job: TrainingJob, name: str, fold: int | None, note: Callable[[str], None], *, seed: int = 0
    ) -> Iterator[None]:
        """Run a task in the job's folders: fetch what it needs first, and upload what it writes while it runs.

        Raises:
            TrainingError: if the remote workspace cannot be read, or cannot be written at the end.
        """
        sync = TaskSync(self, job, name, fold, seed)
        sync.fetch(sync.listing())
        for source in kind_of(job.models[name]).starts_from(job.models[name]) if fold is not None else ():
            if source in self.keys:  # what is not there yet is trained here
                self.fetch_result(job, source, fold)
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
    """The local and remote files of a task (fold None: of all trainings of its model).

    A refit, which is fold k, also gets the records of the folds of its seed, on which it depends.

    job: the job with the local folders.
    """

    def __init__(self, remote: RemoteWorkspace, job: TrainingJob, name: str, fold: int | None, seed: int = 0) -> None:
        self._url = remote.url
        self._files, root = remote._open()
        self._root = f"{root}/{name}-{remote.keys[name]}"
        self._name = name
        self._here = {"oof": job.store_root, "trainers": job.work_dir}
        self._own: tuple[str, int] | None = None
        self.folder = job.work_dir / name
        if fold is not None:
            self._own = run_label(fold, remote.k), seed
            self.folder = self.folder / (f"seed{seed}" if seed else "") / self._own[0]
        # time and size of each local file when it was last equal to the remote one
        self._same: dict[str, tuple[int, int]] = {}

    def listing(self) -> list[str]:
        """Return the remote files of the task, as oof/… and trainers/…, with those that mark a fold as done last."""
        with _named_error(self._url, "read"):
            self._files.invalidate_cache()
            found = self._files.find(self._root) if self._files.exists(self._root) else []
        return self._ordered(str(path).rpartition(self._root + "/")[2] for path in found)

    def fetch(self, relatives: Sequence[str]) -> list[str]:
        """Download missing files, and return them."""
        lacking = [relative for relative in relatives if not self._path(relative).exists()]
        for relative in lacking:
            path = self._path(relative)
            with atomic_path(path) as part, _named_error(self._url, "read"):
                self._files.get_file(f"{self._root}/{relative}", str(part))
            self._same[relative] = _stamp(path)
        return lacking

    def send(self, but: Sequence[str] = ()) -> None:
        """Upload new and changed files atomically, and delete the remote state of a finished training."""
        for relative in self._ordered(self._relatives()):
            try:
                stamp = _stamp(self._path(relative))
            except FileNotFoundError:  # the state of a training that has just finished
                continue
            if self._same.get(relative) == stamp or relative in but:
                continue
            with _named_error(self._url, "written"):
                self._put(relative)
            self._same[relative] = stamp
        for relative in [name for name in self._same if _is_temporary(name) and not self._path(name).exists()]:
            with _named_error(self._url, "written"), contextlib.suppress(FileNotFoundError):
                self._files.rm_file(f"{self._root}/{relative}")
            del self._same[relative]

    def keep_sending(self, over: threading.Event, note: Callable[[str], None]) -> None:
        """Upload repeatedly until the task is over; failures are retried."""
        reported = False
        while not over.wait(_SEND_EVERY_S):
            try:
                self.send()
            except TrainingError as err:
                if not reported:
                    note(f"{err} It is retried while the training continues.")
                reported = True

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
        for package, patterns in (
            ("oof", ("folds.parquet", "test_ids.parquet", "sealed.parquet", f"{models}/*")),
            ("trainers", (f"{self._name}/**/*",)),
        ):
            for pattern in patterns:
                for path in self._here[package].glob(pattern):
                    if path.is_file():
                        yield f"{package}/{path.relative_to(self._here[package]).as_posix()}"

    def _ordered(self, relatives: Iterable[str]) -> list[str]:
        """Return the complete files of the task, with those that mark a training as done at the end."""
        found = []
        for relative in relatives:
            *folders, last = relative.split("/")
            plain = folders[:1] in (["oof"], ["trainers"]) and ".." not in folders
            if plain and not last.startswith(".") and not last.endswith(".part") and self._is_mine(relative):
                found.append(relative)
        return sorted(found, key=lambda relative: (_marks_end(relative), relative))

    def _training_of(self, relative: str) -> tuple[str, int] | None:
        """Return label and seed of the training that a file belongs to, None for one of the whole model."""
        inside = relative.removeprefix(f"oof/models/{self._name}").removeprefix(f"trainers/{self._name}")
        label, seed = _LABEL.search(inside), _SEED.search(inside)
        return None if label is None else (label[1], int(seed[1]) if seed else 0)

    def _is_mine(self, relative: str) -> bool:
        training = self._training_of(relative)
        if training is None or self._own is None or training == self._own:
            return True
        of_same_seed = training[1] == self._own[1]
        return self._own[0] == "refit" and of_same_seed and relative.endswith(".json")

    def marks_done(self, relative: str) -> bool:
        """Return whether a file shows that the training of this task is done."""
        return self._training_of(relative) == self._own and _marks_end(relative)

    def _path(self, relative: str) -> Path:
        package, _, rest = relative.partition("/")
        return self._here[package] / rest


def _marks_end(relative: str) -> bool:
    """Return whether a file is the last that a training writes: OOF predictions, or the history of a refit."""
    return "/oof.fold" in relative or relative.endswith("/refit/history.json")


def _is_temporary(relative: str) -> bool:
    """Return whether a file belongs to a running training or unfinished test predictions, and is deleted afterwards."""
    return relative.endswith(RUNNING_FILES) or "/test-" in relative


def _stamp(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_size


def _check_url(url: str) -> None:
    import fsspec

    parts = urlsplit(url)
    if "@" in parts.netloc or any(_SECRET.search(key) for key in parse_qs(parts.query, keep_blank_values=True)):
        raise TrainingError(
            "--share contains credentials, which logs and process lists would show. Leave them out of the URL: "
            "each machine needs its own, in the environment or in the files of the cloud's tools."
        )
    if "://" not in url:
        raise TrainingError(f"--share {url!r} is not a URL. Use one such as s3://bucket/team or file:///mnt/team.")
    if parts.scheme == "memory":
        raise TrainingError(
            "--share memory:// exists in a single process, so no other machine has access. Use another URL."
        )
    try:
        fsspec.get_filesystem_class(parts.scheme)
    except (ImportError, ValueError) as err:
        raise TrainingError(
            f"--share {url!r} cannot be used: {str(err).rstrip('.')}. Each kind of store needs a package "
            f"(s3fs, gcsfs, adlfs) on every machine."
        ) from err


@contextlib.contextmanager
def _named_error(url: str, what: str) -> Iterator[None]:
    try:
        yield
    except TrainingError:
        raise
    except Exception as err:  # each store raises its own exceptions
        reason = (str(err).strip().splitlines() or [type(err).__name__])[0][:200]
        raise TrainingError(
            f"The share {url} could not be {what} ({type(err).__name__}: {reason}). Check that this machine can "
            f"read and write it, then run the same command again."
        ) from err
