"""Seeds and refits: further trainings of one model, each run once; scores are those of the fold models."""

import dataclasses
import functools
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oof.errors import TrainingError
from oof.files import read_json
from oof.folds import make_folds
from oof.metrics.intervals import score_interval
from oof.progress import Progress
from oof.store import PredictionStore
from tests.support.toy_kind import ToySettings
from tests.support.training import TINY, Notes, stored_bytes, tiny_competition, train_models
from trainers.jobs import side_by_side
from trainers.jobs.job import TrainingJob
from trainers.jobs.multiprocess import train_in_workers
from trainers.jobs.runner import FoldRunner
from trainers.jobs.tasks import Task, TaskQueue
from trainers.kinds.base import ModelSettings
from trainers.kinds.linear.settings import LinearSettings
from trainers.kinds.repeats import RepeatSettings, repeats_of, without_repeats
from trainers.kinds.timm.kind import TimmKind
from trainers.kinds.training.fold_trainer import FoldTrainer
from trainers.train import FoldResult, train_here

FOLDS = (0, 1)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> PredictionStore:
    """Two models that differ only in the seed."""
    folder = tmp_path_factory.mktemp("plain")
    competition, store = tiny_competition(folder)
    models = {"first": TINY, "second": dataclasses.replace(TINY, seed=1)}
    train_models(competition, store, models, FOLDS, folder / "work" / "trainers")
    return store


def train(folder: Path, *, notes: Notes | None = None, **job: Any) -> tuple[PredictionStore, list[FoldResult]]:
    """Train model `m` in a folder, with TINY or other settings."""
    settings: ModelSettings = job.pop("settings", TINY)
    competition, store = tiny_competition(folder)
    done = train_models(
        competition, store, {"m": settings}, FOLDS, folder / "work" / "trainers", progress=notes or Notes(), **job
    )
    return store, done


def same(one: Any, other: Any) -> bool:
    """Return whether two stored models have identical predictions."""
    return bool(np.array_equal(one.oof, other.oof) and np.array_equal(one.test_by_fold, other.test_by_fold))


def test_seeds_equal_models_with_these_seeds_and_none_is_trained_twice(tmp_path: Path, plain: PredictionStore) -> None:
    train(tmp_path)
    store, done = train(tmp_path, settings=dataclasses.replace(TINY, seeds=2))
    assert [(result.fold, result.seed, result.skipped) for result in done] == [
        (0, 0, True), (1, 0, True), (0, 1, False), (1, 1, False),
    ]  # fmt: skip
    for seed, name in enumerate(("first", "second")):
        assert same(store.load("m", seed=seed), plain.load(name))
    assert store.summary("m").complete
    assert store.summary("m").seeds == 2
    notes = Notes()
    store, done = train(tmp_path, notes=notes)
    assert all(result.skipped for result in done)
    assert stored_bytes(store, "m") == stored_bytes(plain, "first")
    assert "m: seeds 2 to 1: the model is now the mean of the first 1. Trainings with seed 1 are kept" in "".join(
        notes.lines
    )
    _, done = train(tmp_path, settings=dataclasses.replace(TINY, seeds=2))
    assert all(result.skipped for result in done)


def test_a_refit_uses_the_median_epoch_of_the_folds_and_keeps_their_scores(
    tmp_path: Path, plain: PredictionStore
) -> None:
    settings = dataclasses.replace(TINY, checkpoint="best", epochs=4, refit=True)
    store, done = train(tmp_path, settings=settings)
    folds, refit = done[:2], done[2]
    assert [result.refit for result in done] == [False, False, True]
    assert math.isnan(refit.auc)
    assert not refit.optimistic
    median = math.ceil(statistics.median(result.epoch for result in folds))
    folder = tmp_path / "work" / "trainers" / "m" / "refit"
    history = read_json(folder / "history.json")
    assert history["epoch"] == refit.epoch == median
    assert len(history["loss"]) == median
    assert history["auc"] == []
    assert not (folder / "state.pt").exists()
    assert store.summary("m").complete
    other, _ = train(tmp_path / "other", settings=dataclasses.replace(settings, refit=False))
    assert same(store.load("m", seed=0), other.load("m"))
    np.testing.assert_array_equal(store.load("m").oof, other.load("m").oof)
    np.testing.assert_array_equal(store.load("m").unmixed_test_by_fold, other.load("m").test_by_fold)


def test_a_refit_uses_all_rows_and_follows_all_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    begin = FoldTrainer._begin

    def counting(trainer: FoldTrainer) -> None:
        seen.append(len(trainer.data.ids))
        begin(trainer)

    monkeypatch.setattr(FoldTrainer, "_begin", counting)
    settings = dataclasses.replace(TINY, refit=True, epochs=1)
    competition, store = tiny_competition(tmp_path)
    work = tmp_path / "work" / "trainers"
    done = train_models(competition, store, {"m": settings}, (0,), work)
    assert [result.refit for result in done] == [False]
    done = train_models(competition, store, {"m": settings}, FOLDS, work)
    assert [(result.refit, result.skipped) for result in done] == [(False, True), (False, False), (True, False)]
    assert seen == [20, 20, 40]
    assert all(result.skipped for result in train_models(competition, store, {"m": settings}, FOLDS, work))


@pytest.mark.slow
def test_workers_give_the_predictions_of_one_process(tmp_path: Path) -> None:
    settings = dataclasses.replace(TINY, seeds=2, refit=True)
    alone, expected = train(tmp_path / "alone", settings=settings)
    engine = functools.partial(train_in_workers, workers=2)
    store, done = train(tmp_path / "two", settings=settings, engine=engine)
    assert [(r.fold, r.seed, r.refit) for r in done] == [(r.fold, r.seed, r.refit) for r in expected]
    assert stored_bytes(store, "m") == stored_bytes(alone, "m")
    _, again = train(tmp_path / "two", settings=settings, engine=engine)
    assert all(result.skipped for result in again)


class Stop(Exception):
    """Stop a training."""


def test_an_interrupted_refit_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = dataclasses.replace(TINY, refit=True)
    undisturbed, _ = train(tmp_path / "undisturbed", settings=settings)
    save = FoldTrainer._save

    def stop_in_refit(trainer: FoldTrainer, *, is_good_state: bool) -> bool:
        found = save(trainer, is_good_state=is_good_state)
        if "refit" in trainer.title:
            raise Stop
        return found

    with monkeypatch.context() as patch:
        patch.setattr(FoldTrainer, "_save", stop_in_refit)
        with pytest.raises(Stop):
            train(tmp_path / "cut", settings=settings)
    assert (tmp_path / "cut" / "work" / "trainers" / "m" / "refit" / "state.pt").exists()
    store, done = train(tmp_path / "cut", settings=settings)
    assert [result.skipped for result in done] == [True, True, False]
    assert stored_bytes(store, "m") == stored_bytes(undisturbed, "m")


def test_a_refit_killed_while_it_removes_its_checkpoints_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(TINY, refit=True, epochs=1)
    remove = Path.unlink

    def stop_after_first(path: Path, *, missing_ok: bool = False) -> None:
        remove(path, missing_ok=missing_ok)
        if path.parent.name == "refit" and path.suffix == ".pt":
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stop_after_first)
        with pytest.raises(Stop):
            train(tmp_path, settings=settings)

    def train_epoch(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(FoldTrainer, "_train_epoch", train_epoch)
    store, done = train(tmp_path, settings=settings)
    assert [result.refit for result in done] == [False, False, True]
    assert store.summary("m").complete


def test_settings_are_checked_before_a_refit_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, settings=dataclasses.replace(TINY, epochs=1))

    def check(*_: object) -> None:
        raise TrainingError("Model 'm' cannot work.")

    monkeypatch.setattr(TimmKind, "check", check)
    with pytest.raises(TrainingError, match="cannot work"):
        train(tmp_path, settings=dataclasses.replace(TINY, epochs=1, refit=True))


def test_a_refit_added_later_is_trained_with_the_threads_of_a_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a run that trains folds and refit: the weights do not depend on when it was interrupted."""
    counts = list[int]()

    def in_workers(
        job: TrainingJob, folds: Sequence[int], progress: Progress, *, workers: int, shares: int, test_rows: bool
    ) -> list[FoldResult]:
        counts.append(shares)
        return train_here(job, folds, progress)

    monkeypatch.setattr(side_by_side, "train_in_workers", in_workers)
    monkeypatch.setattr(side_by_side, "cpu_count", lambda: 2)
    monkeypatch.setattr(side_by_side, "has_cuda", lambda: False)
    once = dataclasses.replace(TINY, epochs=1)
    for settings in (once, dataclasses.replace(once, refit=True), dataclasses.replace(once, refit=True)):
        train(tmp_path, settings=settings, engine=side_by_side.train_side_by_side)
    assert counts == [2, 2]  # folds, then the refit; nothing is left for the third run


@pytest.mark.parametrize(
    ("k", "seeds", "shares", "folds", "refits"),
    [
        (5, 1, 2, [2, 2, 2, 2, 1], [1]),
        (5, 1, 1, [1, 1, 1, 1, 1], [1]),
        (5, 1, 4, [4, 4, 4, 4, 1], [1]),
        (5, 1, 3, [3, 3, 3, 2, 2], [1]),
        (5, 1, 5, [5, 5, 5, 5, 5], [1]),
        (5, 1, 8, [5, 5, 5, 5, 5], [1]),
        (3, 2, 4, [4, 4, 4, 4, 2, 2], [2, 2]),
        (3, 3, 2, [2, 2, 2, 2, 2, 2, 2, 2, 1], [2, 2, 1]),
    ],
)
def test_the_last_trainings_of_a_model_divide_all_processors(
    tmp_path: Path, k: int, seeds: int, shares: int, folds: list[int], refits: list[int]
) -> None:
    competition, store = tiny_competition(tmp_path, k=k)
    settings = dataclasses.replace(TINY, seeds=seeds, refit=True)
    queue = TaskQueue(TrainingJob(competition, store.root, {"m": settings}, tmp_path), (k - 1,))
    assert [queue.in_parallel(Task("m", fold, seed), shares) for seed in range(seeds) for fold in range(k)] == folds
    assert [queue.in_parallel(Task("m", k, seed, refit=True), shares) for seed in range(seeds)] == refits
    assert queue.in_parallel(Task("m", None), shares) == shares


@pytest.mark.parametrize("kind", ["linear", "toy"])
def test_every_kind_can_be_refit(tmp_path: Path, kind: str) -> None:
    settings = RefitToy() if kind == "toy" else LinearSettings(classifier="extra_trees", seeds=2, refit=True)
    store, _ = train(tmp_path, settings=settings)
    summary = store.summary("m")
    assert summary.complete
    assert summary.has_refit
    _, again = train(tmp_path, settings=settings)
    assert all(result.skipped for result in again)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefitToy(RepeatSettings, ToySettings):
    """The toy kind, refit by default."""

    refit: bool = True


def test_several_seeds_need_a_kind_with_a_seed(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="does not use a seed. Set seeds = 1"):
        train(tmp_path, settings=RefitToy(seeds=2))


@pytest.mark.slow
def test_seeds_and_a_refit_do_not_raise_the_score_of_random_labels(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path, train_rows=100)
    target = np.random.default_rng(2).permutation(np.arange(100) % 2).astype(np.int8)
    competition = dataclasses.replace(competition, train=competition.train.assign(target=target))
    store.save_folds(make_folds(competition.train["id"].to_numpy(object), target, k=2, seed=0), force=True)
    settings = LinearSettings(classifier="extra_trees", image_size=8, seeds=3, refit=True)
    train_models(competition, store, {"m": settings}, FOLDS, tmp_path / "work" / "trainers")
    for seed in (None, 0, 1, 2):
        found = score_interval("auc", store.folds.target, store.load("m", seed=seed).oof)
        assert found.low < 0.5 < found.high
    assert len({float(store.load("m", seed=seed).oof[0]) for seed in (0, 1, 2)}) == 3  # the seeds differ


def test_training_settings_do_not_include_repeats() -> None:
    record = dataclasses.asdict(dataclasses.replace(TINY, seeds=5, refit=True))
    assert without_repeats(record) == without_repeats(dataclasses.asdict(TINY))
    assert repeats_of(ToySettings()) == RepeatSettings()


@pytest.mark.parametrize("at", ["before", "during"])
def test_a_model_whose_predictions_were_archived_keeps_its_seeds_and_its_refit(
    tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Archived between two trainings, or while its first fold is trained."""
    settings = LinearSettings(image_size=4, seeds=2, refit=True)
    if at == "before":
        store, _ = train(tmp_path, settings=settings)
        store.archive("m")
    plain, archived = FoldRunner._keep, list[Any]()

    def keep(runner: FoldRunner, *arguments: Any) -> FoldResult:
        if at == "during" and not archived:
            archived.append(runner.store.archive("m"))
        return plain(runner, *arguments)

    monkeypatch.setattr(FoldRunner, "_keep", keep)
    store, _ = train(tmp_path, settings=settings)
    found = store.summary("m")
    assert (found.kind, found.seeds, found.refit_weight, found.complete) == ("linear", 2, settings.refit_weight, True)
    assert store.load("m").details["settings"]["image_size"] == 4
