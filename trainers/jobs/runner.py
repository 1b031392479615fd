"""The steps of a training job: train one fold of one model or its refit, and predict test rows with them."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oof.errors import DfensError, TrainingError
from oof.files import atomic_path, write_json
from oof.git import git_state
from oof.ids import join_positions
from oof.metrics import roc_auc
from oof.metrics.rounding import auc_rounding
from oof.progress import SILENT, Progress
from oof.store import PredictionStore
from trainers.jobs.job import FoldResult, TrainingJob
from trainers.jobs.model_record import FORMAT_VERSION, check_still_own, is_recorded, same_training, save_model
from trainers.jobs.test_predictions import predict_test_rows, remove_parts
from trainers.kinds.base import (
    RUNNING_FILES,
    FoldOutcome,
    ModelContext,
    ModelSettings,
    Probabilities,
    run_label,
    settings_record,
)
from trainers.kinds.pseudo_labels import pseudo_record
from trainers.kinds.records import check_own_weights, read_history, weights_fingerprint
from trainers.kinds.registry import kind_of
from trainers.kinds.repeats import RepeatSettings, repeats_of
from trainers.runtime.process_group import ALONE, ProcessGroup
from trainers.runtime.provenance import files_fingerprint, package_versions

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class FoldRunner:
    """Performs the part of one process in a job; data shared by models, such as decoded images, is created once.

    Methods raise the exceptions of the kinds and the store.
    """

    job: TrainingJob
    progress: Progress = SILENT
    device: "torch.device | None" = None
    group: ProcessGroup = ALONE
    shared: dict[Hashable, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = PredictionStore(self.job.store_root)

    def folder(self, name: str, fold: int, seed: int = 0) -> Path:
        """Return the folder of one training of one model."""
        return _seed_folder(self.job.work_dir / name, seed) / run_label(fold, self.store.folds.k)

    def repeats(self, name: str) -> RepeatSettings:
        """Return which trainings make up a model."""
        return repeats_of(self.job.models[name])

    def trainings(self, name: str, folds: Sequence[int]) -> list[tuple[int, int]]:
        """Return fold and seed of each training of a model on some folds: all folds of a seed, then the next seed."""
        return [(fold, seed) for seed in range(self.repeats(name).seeds) for fold in folds]

    def missing(self, name: str, folds: Sequence[int]) -> int:
        """Return the number of trainings that a model lacks: of some folds, and the refits that follow them."""
        due = [*self.trainings(name, folds), *((self.store.folds.refit, seed) for seed in self.refits_due(name))]
        return sum(not self.is_trained(name, fold, seed) for fold, seed in due)

    def check(self, folds: Sequence[int]) -> None:
        """Check the settings of all models that are unfinished or changed before anything is trained or archived.

        Raises:
            DfensError: if settings cannot work, with the message of each such model.
        """
        self._check_folds()
        problems = []
        for name, settings in self.job.models.items():
            if not self.missing(name, folds) and is_recorded(self.job.work_dir / name, settings):
                continue
            try:
                self._check_repeats(name)
                self._check_device(name)
                kind_of(settings).check(self.context(name))
            except DfensError as err:
                if f"'{name}'" not in str(err):
                    err.args = (f"Model '{name}': {err}",)
                problems.append(err)
        if len(problems) > 1:
            raise TrainingError("\n".join(map(str, problems)))
        if problems:
            raise problems[0]

    def _check_folds(self) -> None:
        """Raise TrainingError if another process has replaced the folds since the job was made.

        The settings of its models are recorded with the old folds, and its fold k may now be the refit.
        """
        if self.job.folds not in (None, self.store.folds.fingerprint):
            raise TrainingError(
                "The folds were replaced by another process (dfens folds) after this one had read them. Run the "
                "command again."
            )

    def _check_device(self, name: str) -> None:
        settings = self.job.models[name]
        if self.job.elsewhere or kind_of(settings).resources(settings).only_gpu is None:
            return
        from trainers.runtime.device import default_device  # imports torch, which takes seconds

        if (self.device or default_device()).type != "cuda":
            raise without_gpu(name, settings, "this machine has none (see dfens doctor)")

    def _check_repeats(self, name: str) -> None:
        settings = self.job.models[name]
        if self.repeats(name).seeds > 1 and not hasattr(settings, "seed"):
            raise TrainingError(f"Model '{name}': the kind {settings.kind!r} does not use a seed. Set seeds = 1.")
        if self.job.pseudo is None:
            return
        repeats = self.repeats(name)
        if repeats.pseudo is None:
            raise TrainingError(f"Model '{name}' has no pseudo = {{ … }}, which sets the weight of pseudo-labels.")
        if not kind_of(settings).soft_labels:
            raise TrainingError(
                f"Model '{name}': the kind {settings.kind!r} cannot be trained on labels between 0 and 1, such "
                f"as pseudo-labels. Leave it out with --model."
            )
        found, expected = self.job.pseudo.probabilities.shape, (self.store.folds.k + 1, len(self.store.test_ids))
        if found != expected:
            raise TrainingError(f"Pseudo-labels have shape {found}; expected {expected} (folds and refit, test rows).")
        for fold in range(self.store.folds.k + repeats.refit):
            self.job.pseudo.chosen(fold, repeats.pseudo)

    def all(self, folds: Sequence[int]) -> list[FoldResult]:
        """Train all folds of all models, one after the other, and predict the test rows of each model."""
        results = []
        for name in self.job.models:
            results += [self.train(name, fold, seed) for fold, seed in self.trainings(name, folds)]
            results += [
                self.train(name, self.store.folds.refit, seed) for seed in self.group.broadcast(self.refits_due(name))
            ]
            for seed in range(self.repeats(name).seeds):
                self.predict_test(name, folds, seed)
        return results

    def refits_due(self, name: str) -> list[int]:
        """Return the seeds whose refit is trained or can be: all folds are trained, and their epochs are known."""
        if not self.repeats(name).refit:
            return []
        folds, seeds = range(self.store.folds.k), range(self.repeats(name).seeds)
        return [seed for seed in seeds if all(self.is_trained(name, fold, seed) for fold in folds)]

    # ---- training -----------------------------------------------------------

    def train(self, name: str, fold: int, seed: int = 0) -> FoldResult:
        """Train one fold and store its OOF predictions, unless that is done; other processes wait meanwhile.

        Fold k is the refit on all rows, whose test predictions are made later.
        """
        self._check_folds()
        kind, folder = kind_of(self.job.models[name]), self.folder(name, fold, seed)
        for source in kind.starts_from(self.job.models[name]):
            if source in self.job.models and not self.group.broadcast(self.is_trained(source, fold)):
                self.train(source, fold)
        with self.group.lock(folder / ".lock", self.progress):
            if self.group.broadcast(self.is_trained(name, fold, seed)):
                self.group.on_rank_zero(lambda: _remove_state(folder))  # left by a process killed just before the end
                return self._done(name, fold, seed)
            check_still_own(self.job.work_dir / name, self.job.models[name])
            self._prepare(name)
            if self.group.broadcast(self.has_trained_weights(name, fold, seed)):
                self._predict_held_out(name, fold, seed)
                return self._done(name, fold, seed)
            context = self._training_context(name, fold, seed)
            return self._perform(
                context, lambda: kind.train_fold(context, fold), lambda outcome: self._keep(context, fold, outcome)
            )

    def _perform(self, context: ModelContext[Any], work: Callable[[], T], keep: Callable[[T], R]) -> R:
        """Do work in all processes of the model's group, or in the first if it needs only one, which keeps the result.

        Processes that do not take part wait for it.
        """
        if context.group is self.group:
            found = work()
            return self.group.on_rank_zero(lambda: keep(found))
        return self.group.on_rank_zero(lambda: keep(work()))

    def is_trained(self, name: str, fold: int, seed: int = 0) -> bool:
        """Return whether a training is done, so that at most its test predictions are missing."""
        if fold == self.store.folds.refit:
            return self.store.has(name, "test", fold, seed) or self.has_trained_weights(name, fold, seed)
        if not self.store.has(name, "oof", fold, seed):
            return False
        has_weights = kind_of(self.job.models[name]).has_weights(self.folder(name, fold, seed))
        return has_weights or self.store.has(name, "test", fold, seed)

    def _done(self, name: str, fold: int, seed: int) -> FoldResult:
        refit, auc = fold == self.store.folds.refit, float("nan")
        if not refit:
            rows = self.store.folds.rows(fold)
            auc = roc_auc(self.store.folds.target[rows], self.store.load(name, seed=seed).oof[rows])
        history = self._recorded(name, fold, seed)
        epoch, epochs = history.get("epoch", 0), history.get("epochs", 0)
        has_test, optimistic = self.store.has(name, "test", fold, seed), history.get("optimistic", False)
        return FoldResult(name, fold, auc, epoch, epochs, optimistic, 0.0, True, has_test, seed, refit)

    def _recorded(self, name: str, fold: int, seed: int) -> dict[str, Any]:
        """Return the history.json of a training, empty if there is none."""
        return read_history(self.folder(name, fold, seed) / "history.json") or {}

    def has_trained_weights(self, name: str, fold: int, seed: int = 0) -> bool:
        """Return whether there are weights of a complete training with the present settings and folds.

        Raises:
            StoreError: if the weights are those of another training.
        """
        folder, settings = self.folder(name, fold, seed), self._settings(name, seed)
        record = self._recorded(name, fold, seed)
        if any((folder / running).exists() for running in RUNNING_FILES) or not record:
            return False
        is_same = (
            same_training(record, settings)
            and record.get("folds", self.store.folds.fingerprint) == self.store.folds.fingerprint
        )
        if not (kind_of(settings).has_weights(folder) and is_same):
            return False
        check_own_weights(folder)
        return True

    def _predict_held_out(self, name: str, fold: int, seed: int) -> None:
        """Predict the held-out rows of a fold with its stored weights."""
        kind, rows = kind_of(self.job.models[name]), self.store.folds.rows(fold)
        context = self.context(name, seed=seed)

        def predict() -> FoldOutcome:
            with self.progress.task(f"{context.title(fold)}: predict", total=len(rows), unit="row") as task:
                return kind.predict_held_out(context, fold, task.advance)

        def keep(outcome: FoldOutcome) -> None:
            folder = context.fold_folder(fold)
            save_model(self.context(name), self.store)
            _write_files(folder, outcome)
            now = {**outcome.history, "settings": settings_record(context.settings)}
            write_json(folder / "history.json", self._recorded(name, fold, seed) | now)
            self.store.save_oof(name, self.store.folds.ids[rows], outcome.oof, fold=fold, seed=seed)

        self._perform(context, predict, keep)

    def _prepare(self, name: str) -> None:
        """Let the kind prepare what all folds need, in one process at a time."""
        with self.group.lock(self.job.work_dir / name / ".prepare.lock", self.progress):
            self.group.on_rank_zero(lambda: kind_of(self.job.models[name]).prepare(self.context(name)))

    def _training_context(self, name: str, fold: int, seed: int) -> ModelContext[Any]:
        """Return the context of a training; a refit stops after the epoch that its folds chose, at the median."""
        context = self.context(name, seed=seed)
        if context.pseudo is not None:
            rows = context.pseudo[0].chosen(fold, context.pseudo[1])
            self.progress.note(
                f"{context.title(fold)}: {len(rows):,} of {len(self.store.test_ids):,} test rows with pseudo-labels, "
                f"{context.pseudo[0].probabilities[fold, rows].mean():.0%} of them fake by their labels"
            )
        if fold != self.store.folds.refit:
            return context
        chosen = [self._recorded(name, other, seed).get("epoch", 0) for other in range(self.store.folds.k)]
        return replace(context, epochs=self.group.broadcast(math.ceil(median(chosen)) or None))

    def _keep(self, context: ModelContext[Any], fold: int, outcome: FoldOutcome) -> FoldResult:
        """Store the outcome of a training; OOF predictions come last, since they mark a fold as done."""
        name, seed, folder = context.name, context.seed, context.fold_folder(fold)
        refit, auc = fold == self.store.folds.refit, float("nan")
        check_still_own(self.job.work_dir / name, self.job.models[name])
        save_model(self.context(name), self.store)
        _write_files(folder, outcome)
        write_json(folder / "history.json", self._history(context, fold, outcome))
        if outcome.test is not None:
            self.store.save_predicted(name, outcome.test, fold=fold, seed=seed)
        if not refit:
            rows = self.store.folds.rows(fold)
            self.store.save_oof(name, self.store.folds.ids[rows], outcome.oof, fold=fold, seed=seed)
            auc = self._stored_auc(context.title(fold), self.store.folds.target[rows], outcome.oof)
        _remove_state(folder)
        what = "trained on all rows" if refit else f"AUC {auc:.4f}"
        self.progress.note(f"{context.title(fold)}: {what}{_chosen_epoch(outcome)}")
        return FoldResult(
            name, fold, auc, outcome.epoch, outcome.epochs, outcome.optimistic, outcome.seconds,
            skipped=False, has_test=outcome.test is not None, seed=seed, refit=refit,
        )  # fmt: skip

    def _stored_auc(self, title: str, target: NDArray[np.int8], oof: Probabilities) -> float:
        """Return the AUC of predictions as they are stored, and report a loss by rounding."""
        exact, stored = rounding = auc_rounding(target, oof)
        if rounding.is_noteworthy:
            self.progress.note(
                f"{title}: predictions are stored as float32, which makes probabilities near 1 equal: AUC {exact:.6f} "
                f"becomes {stored:.6f}. Logits are above 16; a larger label_smoothing or a lower lr keeps them smaller."
            )
        return stored

    def _history(self, context: ModelContext[Any], fold: int, outcome: FoldOutcome) -> dict[str, Any]:
        """Return the content of a history.json: training history and provenance."""
        folder = context.fold_folder(fold)
        return {
            **outcome.history,
            "version": FORMAT_VERSION,
            "epoch": outcome.epoch,
            "epochs": outcome.epochs,
            "optimistic": outcome.optimistic,
            "seconds": round(outcome.seconds, 3),
            "processes": self.group.size,
            "settings": settings_record(context.settings),
            "fold": folder.name,
            "weights": weights_fingerprint(folder),
            "data": files_fingerprint([*self.train_table["path"], *self.test_table["path"]]),
            "folds": self.store.folds.fingerprint,
            "packages": package_versions(),
            "git": asdict(state) if (state := git_state(self.job.root.resolve())) else None,
        } | ({} if context.pseudo is None else {"pseudo_labels": pseudo_record(*context.pseudo, self.store.test_ids)})

    # ---- prediction ---------------------------------------------------------

    def predict_test(self, name: str, folds: Sequence[int], seed: int = 0) -> None:
        """Predict the test rows with all fold models of a seed that have not done so, and with its refit.

        Each row is read once for all of them.
        """
        self._check_folds()
        context = self.context(name, seed=seed)

        def keep(found: Probabilities) -> None:
            check_still_own(self.job.work_dir / name, self.job.models[name])
            save_model(self.context(name), self.store)
            for fold, values in zip(waiting, found, strict=True):
                self.store.save_predicted(name, values, fold=fold, seed=seed)
            remove_parts(context)

        with self.group.lock(context.folder / ".test.lock", self.progress):
            waiting = self.group.broadcast(self._without_test(name, folds, seed))
            if waiting:
                self._prepare(name)
                self._perform(context, lambda: predict_test_rows(context, waiting), keep)

    def _without_test(self, name: str, folds: Sequence[int], seed: int) -> list[int]:
        """Return the trainings of a seed, of some folds and the refit, that have not predicted the test rows."""
        trained = [fold for fold in folds if self.store.has(name, "oof", fold, seed)]
        if self.repeats(name).refit and self.is_trained(name, self.store.folds.refit, seed):
            trained.append(self.store.folds.refit)
        return [fold for fold in trained if not self.store.has(name, "test", fold, seed)]

    # ---- rows ---------------------------------------------------------------

    def context(self, name: str, *, seed: int = 0) -> ModelContext[Any]:
        """Return the context of a model, in which kinds that several processes cannot train together are alone."""
        job, pseudo = self.job, self.repeats(name).pseudo
        settings = self._settings(name, seed)
        return ModelContext(
            name=name,
            settings=settings,
            train=self.train_table,
            test=self.test_table,
            folds=self.store.folds,
            folder=_seed_folder(job.work_dir / name, seed),
            root=job.root,
            work_dir=job.work_dir,
            cache_dir=job.cache_dir,
            max_parameters=job.max_parameters,
            models=job.models,
            threads=job.threads,
            processes=job.processes,
            device=self.device,
            elsewhere=job.elsewhere,
            group=self.group if kind_of(settings).resources(settings).joint else ALONE,
            progress=self.progress,
            seed=seed,
            pseudo=None if job.pseudo is None or pseudo is None else (job.pseudo, pseudo),
            shared=self.shared,
        )

    def _settings(self, name: str, seed: int) -> ModelSettings:
        """Return the settings of one of a model's seeds: the first has those of the model."""
        settings: Any = self.job.models[name]
        found: ModelSettings = replace(settings, seed=settings.seed + seed) if seed else settings
        return found

    @property
    def train_table(self) -> pd.DataFrame:
        """Return the training table in the order of the folds."""
        return self._ordered("train", self.store.folds.ids)

    @property
    def test_table(self) -> pd.DataFrame:
        """Return the rows to predict: the test rows followed by the sealed rows, in the store's order."""
        test = self._ordered("test", self.store.test_ids)
        if not len(self.store.sealed_ids):
            return test
        return pd.concat([test, self._ordered("sealed", self.store.sealed_ids)], ignore_index=True)

    def _ordered(self, part: str, ids: Any) -> pd.DataFrame:
        key = ("table", part)
        if key not in self.shared:
            table: pd.DataFrame = getattr(self.job.competition, part)
            positions = join_positions(ids, table["id"].to_numpy(object), f"the {part} table")
            self.shared[key] = table.iloc[positions].reset_index(drop=True)
        found: pd.DataFrame = self.shared[key]
        return found


def without_gpu(name: str, settings: ModelSettings, reason: str) -> TrainingError:
    """Return the error of a model with a setting that needs a GPU where there is none.

    Args:
        name, settings: name and settings of the model; its `Resources.only_gpu` is set.
        reason: why there is none, as the second half of a sentence.
    """
    setting, instead = kind_of(settings).resources(settings).only_gpu or ("", "")
    return TrainingError(
        f"Model '{name}': {setting} needs a CUDA device, but {reason}. Set {instead}, or train on a machine with a GPU."
    )


def _seed_folder(folder: Path, seed: int) -> Path:
    """Return the folder of one of a model's seeds: that of the model for the first."""
    return folder / f"seed{seed}" if seed else folder


def _remove_state(folder: Path) -> None:
    """Remove the state of a training that is done."""
    for running in reversed(RUNNING_FILES):  # the state last: a process killed before that resumes at the end
        (folder / running).unlink(missing_ok=True)


def _write_files(folder: Path, outcome: FoldOutcome) -> None:
    for name, write in outcome.files.items():
        with atomic_path(folder / name) as part:
            write(part)


def _chosen_epoch(outcome: FoldOutcome) -> str:
    """Return which weights were used, for the log."""
    if not outcome.epochs:
        return ""
    if outcome.optimistic:
        return (
            f", weights of epoch {outcome.epoch} of {outcome.epochs}, chosen on these same rows: slightly optimistic, "
            f"{outcome.seconds:.0f} s"
        )
    last = f"the last epoch ({outcome.epochs})"
    if outcome.epoch != outcome.epochs:
        last = f"epoch {outcome.epoch} of {outcome.epochs}, the median of those that the folds chose"
    return f", weights of {last}, {outcome.seconds:.0f} s"
