"""Machines without a common disk: results are transferred through a URL, complete and never mixed up."""

import dataclasses
import functools
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import psutil
import pytest

from oof.errors import TrainingError
from oof.progress import Progress
from oof.store import PredictionStore
from tests.support.ray_cluster import ray_cluster
from tests.support.training import TINY, Notes, stored_bytes, tiny_competition, train_models
from trainers.jobs.job import FoldResult, TrainingJob
from trainers.jobs.object_store import RemoteWorkspace, TaskSync
from trainers.jobs.ray_cluster import train_on_ray
from trainers.jobs.runner import FoldRunner
from trainers.kinds.base import ModelSettings
from trainers.kinds.linear.settings import LinearSettings

pytestmark = pytest.mark.slow  # starts processes and Ray

ONE_TREE = LinearSettings(classifier="extra_trees")
MODELS: dict[str, ModelSettings] = {"tiny": dataclasses.replace(TINY, epochs=60), "baseline": LinearSettings()}


def make_job(folder: Path, **models: ModelSettings) -> TrainingJob:
    """Return a job whose models are registered but not trained."""
    competition, store = tiny_competition(folder)
    chosen = models or MODELS
    train_models(
        competition, store, chosen, (0, 1), folder / "work" / "trainers", engine=lambda job, folds, progress: []
    )
    return TrainingJob(competition, store.root, chosen, folder / "work" / "trainers")


def elsewhere(job: TrainingJob, folder: Path) -> TrainingJob:
    """Return the same job on a machine with an empty disk."""
    return dataclasses.replace(job, store_root=folder / "oof", work_dir=folder / "trainers")


def remote_files(remote: RemoteWorkspace, name: str) -> list[str]:
    """Return the paths of a model's files on the share."""
    file_system, root = remote._open()
    base = f"{root}/{name}-{remote.keys[name]}/"
    return sorted(path.rpartition(base)[2] for path in file_system.find(base))


@pytest.fixture
def baseline(tmp_path: Path) -> tuple[TrainingJob, RemoteWorkspace]:
    job = make_job(tmp_path / "first", baseline=LinearSettings())
    remote = RemoteWorkspace.of((tmp_path / "share").as_uri(), job)
    remote.begin(job, (0, 1), Notes().note)
    return job, remote


def test_a_fold_trained_elsewhere_is_fetched(tmp_path: Path, baseline: tuple[TrainingJob, RemoteWorkspace]) -> None:
    job, remote = baseline
    there = elsewhere(job, tmp_path / "second")
    assert not remote.fetch_result(job, "baseline", 0)
    with remote.task(there, "baseline", 0, Notes().note):
        FoldRunner(there).train("baseline", 0)
    assert remote.fetch_result(job, "baseline", 0)
    assert PredictionStore(job.store_root).summary("baseline").oof_folds == (0,)
    files = remote_files(remote, "baseline")
    assert "oof/models/baseline/oof.fold0.parquet" in files
    assert not any(path.endswith(".part") or ".lock" in path for path in files)


def test_a_new_machine_fetches_finished_folds(tmp_path: Path, baseline: tuple[TrainingJob, RemoteWorkspace]) -> None:
    job, remote = baseline
    for fold in (0, 1):
        with remote.task(job, "baseline", fold, Notes().note):
            FoldRunner(job).train("baseline", fold)
    other = make_job(tmp_path / "third", baseline=LinearSettings())
    notes = Notes()
    RemoteWorkspace.of(remote.url, other).begin(other, (0, 1), notes.note)
    assert notes.lines == [f"baseline: already finished at {remote.url}: fold 0, 1"]
    assert stored_bytes(PredictionStore(other.store_root), "baseline") == stored_bytes(
        PredictionStore(job.store_root), "baseline"
    )


def test_seeds_and_a_refit_are_fetched(tmp_path: Path) -> None:
    settings = LinearSettings(classifier="extra_trees", seeds=2, refit=True)
    job = make_job(tmp_path / "first", trees=settings)
    remote = RemoteWorkspace.of((tmp_path / "share").as_uri(), job)
    assert remote.keys == RemoteWorkspace.of(remote.url, make_job(tmp_path / "one", trees=ONE_TREE)).keys
    remote.begin(job, (0, 1), Notes().note)
    for seed in (0, 1):
        for fold in (0, 1, 2):  # the last is the refit
            there = elsewhere(job, tmp_path / f"machine{fold}{seed}")
            with remote.task(there, "trees", fold, Notes().note, seed=seed):
                FoldRunner(there).train("trees", fold, seed)
            assert remote.fetch_result(job, "trees", fold, seed)
    assert PredictionStore(job.store_root).summary("trees").complete
    runner = FoldRunner(job)
    assert runner.refits_due("trees") == [0, 1]
    assert all(runner.is_trained("trees", fold, seed) for fold in (0, 1, 2) for seed in (0, 1))


def test_other_settings_or_folds_are_stored_separately(
    tmp_path: Path, baseline: tuple[TrainingJob, RemoteWorkspace]
) -> None:
    job, remote = baseline
    changed = dataclasses.replace(job, models={"baseline": LinearSettings(classifier="extra_trees")})
    assert RemoteWorkspace.of(remote.url, changed).keys != remote.keys
    competition, store = tiny_competition(tmp_path / "other", k=3)
    folds = dataclasses.replace(job, store_root=store.root, competition=competition)
    assert RemoteWorkspace.of(remote.url, folds).keys != remote.keys


def test_a_model_of_replaced_files_is_not_fetched(
    tmp_path: Path, baseline: tuple[TrainingJob, RemoteWorkspace]
) -> None:
    """--force moves the model of the earlier files away; its folds on the share are not those of the new files."""
    job, remote = baseline
    with remote.task(job, "baseline", 0, Notes().note):
        FoldRunner(job).train("baseline", 0)
    image = Path(job.competition.train["path"].iloc[0])
    image.write_bytes(Path(job.competition.train["path"].iloc[1]).read_bytes())
    notes = Notes()

    def begin(now: TrainingJob, folds: Sequence[int], progress: Progress) -> list[FoldResult]:
        RemoteWorkspace.of(remote.url, now).begin(now, folds, progress.note)
        return []

    store = PredictionStore(job.store_root)
    train_models(job.competition, store, job.models, (0, 1), job.work_dir, engine=begin, force=True, progress=notes)
    assert [line for line in notes.lines if "already finished" in line] == []
    assert not FoldRunner(job).is_trained("baseline", 0)


def test_the_state_is_uploaded_after_each_save_and_removed_once_the_fold_is_done(
    tmp_path: Path, baseline: tuple[TrainingJob, RemoteWorkspace]
) -> None:
    job, remote = baseline
    state = job.work_dir / "baseline" / "fold1" / "state.pt"
    state.parent.mkdir(parents=True, exist_ok=True)
    sync = TaskSync(remote, job, "baseline", 1)
    for text in ("first", "second, longer"):
        state.write_text(text)
        sync.send()
        there = elsewhere(job, tmp_path / text)
        TaskSync(remote, there, "baseline", 1).fetch(sync.listing())
        assert (there.work_dir / "baseline" / "fold1" / "state.pt").read_text() == text
    assert not any(
        "fold1" in path for path in TaskSync(remote, job, "baseline", 0).listing()
    )  # belongs to another task
    state.unlink()
    sync.send()
    assert not any(path.endswith("state.pt") for path in remote_files(remote, "baseline"))


def test_a_failed_upload_keeps_the_old_file_and_is_reported(
    tmp_path: Path, baseline: tuple[TrainingJob, RemoteWorkspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, remote = baseline
    state = job.work_dir / "baseline" / "fold0" / "state.pt"
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text("old")
    sync = TaskSync(remote, job, "baseline", 0)
    sync.send()
    kind = fsspec.get_filesystem_class("file")
    put = kind.put_file

    def cut(self: Any, here: str, there: str, **options: Any) -> None:
        Path(there).write_text("hal")
        raise OSError(5, "connection lost")

    monkeypatch.setattr(kind, "put_file", cut)
    state.write_text("new, longer")
    with pytest.raises(TrainingError, match=r"could not be written \(OSError: .*connection lost"):
        sync.send()
    copy = elsewhere(job, tmp_path / "copy")
    TaskSync(remote, copy, "baseline", 0).fetch(sync.listing())
    assert (copy.work_dir / "baseline" / "fold0" / "state.pt").read_text() == "old"
    assert not any(path.endswith(".part") for path in remote_files(remote, "baseline"))
    monkeypatch.setattr(kind, "put_file", put)
    sync.send()
    over = threading.Event()
    over.set()
    sync.keep_sending(over, Notes().note)  # ends at once


def test_a_temporarily_unreachable_share_is_reported_once(
    baseline: tuple[TrainingJob, RemoteWorkspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, remote = baseline
    monkeypatch.setattr("trainers.jobs.object_store._SEND_EVERY_S", 0.01)
    sync, notes, over = TaskSync(remote, job, "baseline", 0), Notes(), threading.Event()
    tries: list[int] = []

    def fail(but: Any = ()) -> None:
        tries.append(1)
        if len(tries) == 5:
            over.set()
        raise TrainingError("The share is unreachable.")

    monkeypatch.setattr(sync, "send", fail)
    sync.keep_sending(over, notes.note)
    assert len(tries) == 5
    assert notes.lines == ["The share is unreachable. It is retried while the training continues."]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://me:word@bucket/x", "contains credentials"),
        ("https://host/x?X-Amz-Signature=abc", "contains credentials"),
        ("bucket/x", "is not a URL"),
        ("memory://x", "exists in a single process"),
        ("nothing://x", "cannot be used: Protocol not known: nothing"),
    ],
)
def test_unusable_urls_are_refused(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(message)) as caught:
        RemoteWorkspace.of(url, make_job(tmp_path, baseline=LinearSettings()))
    assert "word" not in str(caught.value)
    assert "abc" not in str(caught.value)


# ---- a cluster -----------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster() as found:
        yield found


def test_killing_a_node_does_not_change_the_predictions(tmp_path: Path, cluster: Any) -> None:
    competition, store = tiny_competition(tmp_path / "undisturbed")
    train_models(competition, store, MODELS, (0, 1), tmp_path / "undisturbed" / "work" / "trainers")
    undisturbed = b"".join(stored_bytes(store, name) for name in MODELS)

    node = cluster.add_node(num_cpus=1)
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    notes = Notes()

    def kill_when_it_has_sent() -> None:
        limit = time.monotonic() + 1000
        while time.monotonic() < limit:
            pids = {child.pid for child in raylet.children(recursive=True)}
            matches = [re.fullmatch(r".* \((\d+)\): tiny fold (\d)", title) for title in notes.titles]
            folds = [match[2] for match in matches if match and int(match[1]) in pids]
            if any(list((tmp_path / "share").glob(f"tiny-*/trainers/tiny/fold{fold}/state.pt")) for fold in folds):
                break
            time.sleep(0.02)
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill_when_it_has_sent)
    killer.start()
    competition, store = tiny_competition(tmp_path / "first")
    train_models(
        competition, store, MODELS, (0, 1), tmp_path / "first" / "work" / "trainers", progress=notes,
        engine=functools.partial(train_on_ray, address=cluster.address, share=(tmp_path / "share").as_uri()),
    )  # fmt: skip
    killer.join()
    assert sum("is gone; resuming on" in line for line in notes.lines) == 1, notes.lines
    assert b"".join(stored_bytes(store, name) for name in MODELS) == undisturbed
    # the first machine's workspace contains only fetched files
    assert not list((tmp_path / "first" / "work" / "trainers").glob("*/fold*/.lock"))


def test_a_fold_that_cannot_be_fetched_does_not_affect_the_others(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    competition, store = tiny_competition(tmp_path)
    fetch = RemoteWorkspace.fetch_result

    def train() -> None:
        train_models(
            competition, store, {"baseline": LinearSettings()}, (0, 1), tmp_path / "work" / "trainers",
            engine=functools.partial(train_on_ray, address=cluster.address, share=(tmp_path / "share").as_uri()),
        )  # fmt: skip

    def unreachable(self: RemoteWorkspace, job: TrainingJob, name: str, fold: int | None, seed: int = 0) -> bool:
        if fold == 0 and "oof/models/baseline/oof.fold0.parquet" in remote_files(self, name):
            raise TrainingError("The share is unreachable.")
        return fetch(self, job, name, fold, seed)

    with monkeypatch.context() as patch, pytest.raises(TrainingError) as caught:
        patch.setattr(RemoteWorkspace, "fetch_result", unreachable)
        train()
    assert "1 of the tasks failed; 1 of 2 trainings are done" in str(caught.value)
    assert "baseline fold 0: The share is unreachable." in str(caught.value)
    assert store.summary("baseline").oof_folds == (1,)
    train()
    assert store.summary("baseline").oof_folds == (0, 1)
