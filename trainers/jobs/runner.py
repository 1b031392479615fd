"""The steps of a training job: train one fold of one model, and predict test rows with its fold models."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oof.errors import DfensError, TrainingError
from oof.files import atomic_path, read_json, write_json
from oof.git import git_state
from oof.ids import join_positions
from oof.metrics import roc_auc
from oof.progress import SILENT, Progress
from oof.store import PredictionStore
from trainers.jobs.model_record import FORMAT_VERSION, check_still_own, same_training
from trainers.jobs.test_predictions import predict_test_rows, remove_parts
from trainers.kinds.base import (
    RUNNING_FILES,
    FoldOutcome,
    ModelContext,
    ModelSettings,
    Probabilities,
    settings_record,
)
from trainers.kinds.prediction import predict_rows
from trainers.kinds.registry import kind_of
from trainers.runtime.process_group import ALONE, ProcessGroup
from trainers.runtime.provenance import files_fingerprint, package_versions

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from trainers.data.competition import Competition


@dataclass(frozen=True)
class FoldResult:
    """The outcome of one fold of one model.

    auc: AUC of the held-out rows, with test-time augmentation. epoch: the epoch whose weights were used.
    optimistic: whether that epoch was chosen by the AUC of the same rows. seconds: training time in this run.
    skipped: whether the fold had been trained before. has_test: whether its test predictions are stored.
    """

    model: str
    fold: int
    auc: float
    epoch: int
    epochs: int
    optimistic: bool
    seconds: float
    skipped: bool
    has_test: bool


@dataclass(frozen=True)
class TrainingJob:
    """A training job as plain values that can be sent to another process.

    store_root: folder of the prediction store. work_dir: folder of this package. threads: number of decoding threads.
    root: base of relative paths in settings. cache_dir: folder of resized images, if there is one.
    processes: number of processes that share the memory of this machine.
    """

    competition: "Competition"
    store_root: Path
    models: Mapping[str, ModelSettings]
    work_dir: Path
    threads: int = 2
    max_parameters: int | None = None
    root: Path = Path()
    cache_dir: Path | None = None
    processes: int = 1


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

    def folder(self, name: str, fold: int) -> Path:
        """Return the folder of one fold of one model."""
        return self.job.work_dir / name / f"fold{fold}"

    def check(self, folds: Sequence[int]) -> None:
        """Check the settings of all unfinished models before anything is trained.

        Raises:
            DfensError: if settings cannot work, with the message of each such model.
        """
        problems = []
        for name, settings in self.job.models.items():
            if all(self.is_trained(name, fold) for fold in folds):
                continue
            try:
                kind_of(settings).check(self.context(name))
            except DfensError as err:
                problems.append(err)
        if len(problems) > 1:
            raise TrainingError("\n".join(map(str, problems)))
        if problems:
            raise problems[0]

    def all(self, folds: Sequence[int]) -> list[FoldResult]:
        """Train all folds of all models, one after the other, and predict the test rows of each model."""
        results = []
        for name in self.job.models:
            results += [self.train(name, fold) for fold in folds]
            self.predict_test(name, folds)
        return results

    # ---- training -----------------------------------------------------------

    def train(self, name: str, fold: int) -> FoldResult:
        """Train one fold and store its OOF predictions, unless that is done; other processes wait meanwhile."""
        kind, folder = kind_of(self.job.models[name]), self.folder(name, fold)
        with self.group.lock(folder / ".lock"):
            if self.group.broadcast(self.is_trained(name, fold)):
                return self._done(name, fold)
            check_still_own(self.job.work_dir / name, self.job.models[name])
            self._prepare(name)
            if self.group.broadcast(self._has_trained_weights(name, fold)):
                self._predict_held_out(name, fold)
                return self._done(name, fold)
            if kind.resources(self.job.models[name]).joint:
                outcome = kind.train_fold(self.context(name), fold)
                return self.group.on_rank_zero(lambda: self._keep(name, fold, outcome))
            return self.group.on_rank_zero(
                lambda: self._keep(name, fold, kind.train_fold(self.context(name, alone=True), fold))
            )

    def is_trained(self, name: str, fold: int) -> bool:
        """Return whether a fold is done, so that at most its test predictions are missing."""
        if not self.store.has(name, "oof", fold):
            return False
        has_weights = kind_of(self.job.models[name]).has_weights(self.folder(name, fold))
        return has_weights or self.store.has(name, "test", fold)

    def _done(self, name: str, fold: int) -> FoldResult:
        rows = self.store.folds.rows(fold)
        auc = roc_auc(self.store.folds.target[rows], self.store.load(name).oof[rows])
        path = self.folder(name, fold) / "history.json"
        history = read_json(path) if path.exists() else {}
        epoch, epochs = history.get("epoch", 0), history.get("epochs", 0)
        has_test, optimistic = self.store.has(name, "test", fold), history.get("optimistic", False)
        return FoldResult(name, fold, auc, epoch, epochs, optimistic, 0.0, True, has_test)

    def _has_trained_weights(self, name: str, fold: int) -> bool:
        """Return whether a fold is fully trained and only its predictions are missing."""
        folder, settings = self.folder(name, fold), self.job.models[name]
        history = folder / "history.json"
        if any((folder / running).exists() for running in RUNNING_FILES) or not history.exists():
            return False
        return kind_of(settings).has_weights(folder) and same_training(read_json(history), settings)

    def _predict_held_out(self, name: str, fold: int) -> None:
        """Predict the held-out rows of a fold with its stored weights."""
        joint = kind_of(self.job.models[name]).resources(self.job.models[name]).joint

        def predict() -> Probabilities:
            context = self.context(name, alone=not joint)
            models = kind_of(self.job.models[name]).load(context, [fold])
            held_out = context.split(fold)[1]
            with self.progress.task(f"{name} fold {fold}: predict", total=len(held_out), unit="row") as task:
                found: Probabilities = predict_rows(models, held_out, context.group, on_batch=task.advance)[0]
            return found

        oof = predict() if joint else self.group.on_rank_zero(predict)
        ids = self.store.folds.ids[self.store.folds.rows(fold)]
        self.group.on_rank_zero(lambda: self.store.save_oof(name, ids, oof, fold=fold))

    def _prepare(self, name: str) -> None:
        """Let the kind prepare what all folds need, in one process at a time."""
        with self.group.lock(self.job.work_dir / name / ".prepare.lock"):
            self.group.on_rank_zero(lambda: kind_of(self.job.models[name]).prepare(self.context(name, alone=True)))

    def _keep(self, name: str, fold: int, outcome: FoldOutcome) -> FoldResult:
        """Store the outcome of a fold; OOF predictions come last, since they mark it as done."""
        folder, rows = self.folder(name, fold), self.store.folds.rows(fold)
        check_still_own(folder.parent, self.job.models[name])
        for file_name, write in outcome.files.items():
            with atomic_path(folder / file_name) as part:
                write(part)
        write_json(folder / "history.json", self._history(name, outcome))
        if outcome.test is not None:
            self.store.save_predicted(name, outcome.test, fold=fold)
        self.store.save_oof(name, self.store.folds.ids[rows], outcome.oof, fold=fold)
        for running in RUNNING_FILES:
            (folder / running).unlink(missing_ok=True)
        auc = roc_auc(self.store.folds.target[rows], outcome.oof)
        self.progress.note(f"{name} fold {fold}: AUC {auc:.4f}{_chosen_epoch(outcome)}")
        return FoldResult(
            name, fold, auc, outcome.epoch, outcome.epochs, outcome.optimistic, outcome.seconds,
            skipped=False, has_test=outcome.test is not None,
        )  # fmt: skip

    def _history(self, name: str, outcome: FoldOutcome) -> dict[str, Any]:
        """Return the content of a fold's history.json: training history and provenance."""
        return {
            **outcome.history,
            "version": FORMAT_VERSION,
            "epoch": outcome.epoch,
            "epochs": outcome.epochs,
            "optimistic": outcome.optimistic,
            "seconds": round(outcome.seconds, 3),
            "processes": self.group.size,
            "settings": settings_record(self.job.models[name]),
            "data": files_fingerprint([*self.train_table["path"], *self.test_table["path"]]),
            "folds": self.store.folds.fingerprint,
            "packages": package_versions(),
            "git": asdict(state) if (state := git_state(self.job.root.resolve())) else None,
        }

    # ---- prediction ---------------------------------------------------------

    def predict_test(self, name: str, folds: Sequence[int]) -> None:
        """Predict the test rows with all fold models that have not done so, reading each row once for all of them."""
        kind = kind_of(self.job.models[name])
        joint = kind.resources(self.job.models[name]).joint
        with self.group.lock(self.job.work_dir / name / ".test.lock"):
            waiting = self.group.broadcast(
                [fold for fold in folds if self.store.has(name, "oof", fold) and not self.store.has(name, "test", fold)]
            )
            if not waiting:
                return
            self._prepare(name)
            if joint:
                self._predict_test(name, waiting, self.context(name), self.group)
            else:
                self.group.on_rank_zero(
                    lambda: self._predict_test(name, waiting, self.context(name, alone=True), ALONE)
                )

    def _predict_test(self, name: str, folds: Sequence[int], context: ModelContext[Any], group: ProcessGroup) -> None:
        found = predict_test_rows(kind_of(self.job.models[name]), context, folds, group, self.progress)

        def keep() -> None:
            check_still_own(context.folder, context.settings)
            for fold, values in zip(folds, found, strict=True):
                self.store.save_predicted(name, values, fold=fold)
            remove_parts(context)

        group.on_rank_zero(keep)

    # ---- rows ---------------------------------------------------------------

    def context(self, name: str, *, alone: bool = False) -> ModelContext[Any]:
        """Return the context of a model; `alone` for kinds that one process trains while its group waits."""
        job = self.job
        return ModelContext(
            name=name,
            settings=job.models[name],
            train=self.train_table,
            test=self.test_table,
            folds=self.store.folds,
            folder=job.work_dir / name,
            root=job.root,
            work_dir=job.work_dir,
            cache_dir=job.cache_dir,
            max_parameters=job.max_parameters,
            threads=job.threads,
            processes=job.processes,
            device=self.device,
            group=ALONE if alone else self.group,
            progress=self.progress,
            shared=self.shared,
        )

    @property
    def train_table(self) -> "pd.DataFrame":
        """Return the training table in the order of the folds."""
        return self._ordered("train", self.store.folds.ids)

    @property
    def test_table(self) -> "pd.DataFrame":
        """Return the rows to predict: the test rows followed by the sealed rows, in the store's order."""
        test = self._ordered("test", self.store.test_ids)
        if not len(self.store.sealed_ids):
            return test
        import pandas as pd

        return pd.concat([test, self._ordered("sealed", self.store.sealed_ids)], ignore_index=True)

    def _ordered(self, part: str, ids: Any) -> "pd.DataFrame":
        key = ("table", part)
        if key not in self.shared:
            table: pd.DataFrame = getattr(self.job.competition, part)
            positions = join_positions(ids, table["id"].to_numpy(object), f"the {part} table")
            self.shared[key] = table.iloc[positions].reset_index(drop=True)
        found: pd.DataFrame = self.shared[key]
        return found


def _chosen_epoch(outcome: FoldOutcome) -> str:
    """Return which weights were used, for the log."""
    if not outcome.epochs:
        return ""
    if outcome.optimistic:
        return (
            f", weights of epoch {outcome.epoch} of {outcome.epochs}, chosen on these same rows: slightly optimistic, "
            f"{outcome.seconds:.0f} s"
        )
    return f", weights of the last epoch ({outcome.epochs}), {outcome.seconds:.0f} s"
