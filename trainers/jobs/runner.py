"""The pieces of a training: one fold of one model, and the test predictions of its fold models."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import TrainingError, examples
from oof.files import atomic_path, read_json, write_json
from oof.ids import join_positions
from oof.metrics import roc_auc
from oof.progress import SILENT, Progress
from oof.store import PredictionStore
from trainers.runtime.process_group import ALONE, ProcessGroup
from trainers.runtime.provenance import files_fingerprint, git_state, package_versions
from trainers.settings import Decode, LinearSettings, ModelSettings, TimmSettings

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from trainers.data.layouts import Competition
    from trainers.kinds.timm.fold import FoldOutcome, FoldTrainer
    from trainers.media.image_cache import CacheView
    from trainers.media.image_store import ImageStore, Subset

FORMAT_VERSION = 1


@dataclass(frozen=True)
class FoldResult:
    """What came of one fold of one model.

    auc: on the rows that were held out, with test-time augmentation. epoch: whose weights predicted.
    optimistic: whether that epoch was chosen by the AUC of the same rows. seconds: of training in this run.
    skipped: it had been done before.
    """

    model: str
    fold: int
    auc: float
    epoch: int
    epochs: int
    optimistic: bool
    seconds: float
    skipped: bool


@dataclass(frozen=True)
class TrainingJob:
    """All that is to be done, as plain values that can be sent to another process.

    store_root: of the store of predictions. work_dir: of this room. threads: that decode images.
    root: what paths of weights are relative to. cache_dir: of resized images, where there is one.
    processes: that share the memory of this machine.
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
    """Where one process does its part of a job; images decoded once serve all models of one size.

    Raises what `create_model`, the training and the store raise.
    """

    job: TrainingJob
    progress: Progress = SILENT
    device: "torch.device | None" = None
    group: ProcessGroup = ALONE
    _banks: "dict[tuple[int, str], ImageStore]" = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = PredictionStore(self.job.store_root)

    def folder(self, name: str, fold: int) -> Path:
        """Of one fold of one model."""
        return self.job.work_dir / name / f"fold{fold}"

    def all(self, folds: Sequence[int]) -> list[FoldResult]:
        """Train all folds of all models, one after the other, and predict the test rows of each model."""
        results = []
        for name in self.job.models:
            results += [self.train(name, fold) for fold in folds]
            self.predict_test(name, folds)
        return results

    # ---- training -----------------------------------------------------------

    def train(self, name: str, fold: int) -> FoldResult:
        """Train one fold and store its OOF predictions, unless that is done; another process may wait for it."""
        settings, folder = self.job.models[name], self.folder(name, fold)
        with self.group.lock(folder / ".lock"):
            if self.group.broadcast(self._is_trained(name, settings, fold)):
                return self._done(name, fold)
            if isinstance(settings, TimmSettings):
                return self._train_timm(name, fold, settings)
            return self.group.on_rank_zero(lambda: self._train_linear(name, fold, settings))

    def _is_trained(self, name: str, settings: ModelSettings, fold: int) -> bool:
        if not self.store.has(name, "oof", fold):
            return False
        linear = isinstance(settings, LinearSettings)
        return self.store.has(name, "test", fold) or (not linear and self._weights(name, fold).exists())

    def _weights(self, name: str, fold: int) -> Path:
        return self.folder(name, fold) / "weights.safetensors"

    def _done(self, name: str, fold: int) -> FoldResult:
        rows = self.store.folds.rows(fold)
        auc = roc_auc(self.store.folds.target[rows], self.store.load(name).oof[rows])
        path = self.folder(name, fold) / "history.json"
        history = read_json(path) if path.exists() else {}
        epoch, epochs = history.get("epoch", 0), history.get("epochs", 0)
        return FoldResult(name, fold, auc, epoch, epochs, history.get("optimistic", False), 0.0, True)

    def _train_timm(self, name: str, fold: int, settings: TimmSettings) -> FoldResult:
        from safetensors.torch import save_file

        from trainers.kinds.timm.fold import FoldTrainer
        from trainers.networks.backbone import parameter_count
        from trainers.runtime.device import EnergyMeter, default_device

        title, folder = f"{name} fold {fold}", self.folder(name, fold)
        train, valid = self._rows(fold, settings)
        device = self.device or default_device()
        trainer = FoldTrainer(
            settings, fold, train, folder / "state.pt", device, self.job.root,
            workers=self.job.threads, progress=self.progress, title=title, group=self.group,
        )  # fmt: skip
        parameters, most = parameter_count(trainer.model), self.job.max_parameters
        if most is not None and parameters > most:
            raise TrainingError(
                f"Model '{name}' has {parameters:,} parameters; the competition allows {most:,} "
                f"([competition] max_parameters). Choose a smaller backbone."
            )
        energy = EnergyMeter(device)
        outcome = trainer.run(valid)

        def keep() -> None:
            with atomic_path(self._weights(name, fold)) as part:
                save_file(outcome.weights, part)
            write_json(folder / "history.json", self._record(trainer, outcome, parameters, energy.joules))
            self.store.save_oof(name, valid.ids, outcome.oof, fold=fold)
            for old in ("state.pt", "good.pt"):
                (folder / old).unlink(missing_ok=True)

        self.group.on_rank_zero(keep)
        optimistic, auc = settings.checkpoint == "best", roc_auc(valid.target, outcome.oof)
        chosen = (
            f"weights of epoch {outcome.epoch} of {settings.epochs}, the best on these very rows: a little optimistic"
            if optimistic
            else f"weights of the last epoch ({settings.epochs})"
        )
        self.progress.note(f"{title}: AUC {auc:.4f}, {chosen}, {outcome.seconds:.0f} s")
        return FoldResult(name, fold, auc, outcome.epoch, settings.epochs, optimistic, outcome.seconds, False)

    def _record(
        self, trainer: "FoldTrainer", outcome: "FoldOutcome", parameters: int, joules: float | None
    ) -> dict[str, Any]:
        """What history.json tells of a fold: how it went, and what it was made with."""
        import torch

        from trainers.runtime.device import amp_type, device_name, peak_memory

        settings, device = trainer.settings, trainer.device
        return {
            "version": FORMAT_VERSION,
            "loss": outcome.history.loss,
            "auc": outcome.history.auc,
            "epoch": outcome.epoch,
            "epochs": settings.epochs,
            "optimistic": settings.checkpoint == "best",
            "steps_skipped": outcome.history.skipped,
            "returns_to_good_state": outcome.history.returns,
            "parts_of_a_step": trainer.state.parts,
            "parameters": parameters,
            "seconds": round(outcome.seconds, 3),
            "images_per_s": round(outcome.images_per_s, 1),
            "device": device_name(device),
            "processes": self.group.size,
            "threads": torch.get_num_threads(),
            "precision": str(amp_type(device, settings.precision) or torch.float32).removeprefix("torch."),
            "peak_memory_bytes": peak_memory(device),
            "energy_joules": None if joules is None else round(joules),
            "settings": settings_record(settings),
            "images_from": trainer.train.images.source,
            "data": files_fingerprint(trainer.train.images.paths),
            "folds": self.store.folds.fingerprint,
            "packages": package_versions(),
            "git": git_state(self.job.root.resolve()),
        }

    def _train_linear(self, name: str, fold: int, settings: LinearSettings) -> FoldResult:
        from trainers.kinds.linear import fit_linear

        begun = time.monotonic()
        (train, valid), test = self._rows(fold, settings), self._test_rows(settings)
        oof, test_predictions = fit_linear(settings, train, valid, test)
        self.store.save_test(name, test.ids, test_predictions, fold=fold)
        self.store.save_oof(name, valid.ids, oof, fold=fold)
        auc = roc_auc(valid.target, oof)
        self.progress.note(f"{name} fold {fold}: AUC {auc:.4f}")
        return FoldResult(name, fold, auc, 0, 0, False, time.monotonic() - begun, False)

    # ---- prediction ---------------------------------------------------------

    def predict_test(self, name: str, folds: Sequence[int]) -> None:
        """Predict the test rows by all fold models that have not yet, each image decoded once for all of them."""
        settings = self.job.models[name]
        with self.group.lock(self.job.work_dir / name / ".test.lock"):
            waiting = self.group.broadcast(
                [fold for fold in folds if self.store.has(name, "oof", fold) and not self.store.has(name, "test", fold)]
            )
            if isinstance(settings, LinearSettings) or not waiting:
                return
            from trainers.kinds.timm.predict import Predictor

            files = [self._weights(name, fold) for fold in waiting]
            predictor = Predictor.load(settings, files, self.device)
            test = self._test_rows(settings)
            title = f"{name}: predict test by fold {', '.join(map(str, waiting))}"
            found = self.group.predict(predictor, test, self.job.threads, title, self.progress)

            def keep() -> None:
                for fold, values in zip(waiting, found, strict=True):
                    self.store.save_test(name, test.ids, values, fold=fold)

            self.group.on_rank_zero(keep)

    # ---- rows ---------------------------------------------------------------

    def _rows(self, fold: int, settings: ModelSettings) -> "tuple[Subset, Subset]":
        """Subset to train on and held out."""
        from trainers.media.image_store import Subset

        bank, folds = self._bank(settings), self.store.folds
        weight, originals = self._weight(settings), self._originals(settings)
        held_out = folds.fold == fold

        def part(chosen: NDArray[np.bool_]) -> Subset:
            return Subset(
                bank,
                np.flatnonzero(chosen),
                folds.ids[chosen],
                folds.target[chosen],
                None if weight is None else weight[chosen],
                None if originals is None else originals[chosen],
            )

        return part(~held_out), part(held_out)

    def _test_rows(self, settings: ModelSettings) -> "Subset":
        from trainers.media.image_store import Subset

        ids, count = self.store.test_ids, len(self.store.folds.ids)
        return Subset(self._bank(settings), count + np.arange(len(ids)), ids, np.zeros(len(ids), np.int8))

    def _bank(self, settings: ModelSettings) -> "ImageStore":
        """The images of all rows, training rows first; those of one size are shared."""
        from trainers.media.image_store import SHARE_OF_MEMORY, ImageStore

        edge = 64 if isinstance(settings, LinearSettings) else settings.crop or settings.image_size
        bank = self._banks.get((edge, settings.decode))
        if bank is None:
            frame, test = self.job.competition.train, self.job.competition.test
            positions = join_positions(self.store.folds.ids, frame["id"].to_numpy(object), "the training table")
            test_positions = join_positions(self.store.test_ids, test["id"].to_numpy(object), "the test table")
            paths = [*frame["path"].iloc[positions], *test["path"].iloc[test_positions]]
            linear = isinstance(settings, LinearSettings)
            cache = None if linear or settings.decode == "gpu" else self._cache(paths, edge, settings.decode)
            share = SHARE_OF_MEMORY / self.job.processes
            bank = ImageStore(paths, edge, settings.decode, self.job.threads, cache=cache, share=share)
            self._banks[(edge, settings.decode)] = bank
            if not linear:
                bank.fill(f"decode at {edge} px", self.progress)
        return bank

    def _cache(self, paths: list[str], edge: int, decode: Decode) -> "CacheView | None":
        """Resized images on disk, where `dfens cache` made them; told where some are lacking."""
        from trainers.media.image_cache import ImageCache

        if self.job.cache_dir is None:
            return None
        view = ImageCache(self.job.cache_dir, edge, decode, self.job.root).view(paths, self.job.threads)
        if view is not None and view.found < len(paths):
            self.progress.note(
                f"The cache holds {view.found:,} of {len(paths):,} images of {edge} px, the others are decoded from "
                f"their files; dfens cache adds them."
            )
        return view

    def _column(self, name: str, setting: str) -> "pd.Series":
        """A column of the training table, in the order of the folds."""
        frame = self.job.competition.train
        key = next((key for key in (name, f"column:{name}") if key in frame), None)
        if key is None:
            known = [str(column).removeprefix("column:") for column in frame.columns]
            raise TrainingError(f"{setting} = {name!r} is no column of the training table; it has {examples(known)}.")
        return frame[key].iloc[join_positions(self.store.folds.ids, frame["id"].to_numpy(object), "the training table")]

    def _weight(self, settings: ModelSettings) -> NDArray[np.float32] | None:
        """What each training row counts for, (n_rows,) of mean 1, from a column of the training table."""
        if isinstance(settings, LinearSettings) or not settings.weight_column:
            return None
        name = settings.weight_column
        try:
            weight = self._column(name, "weight_column").to_numpy(dtype=np.float32)
        except ValueError as err:
            raise TrainingError(f"weight_column = {name!r} holds what is no number: {err}.") from err
        if not (np.isfinite(weight).all() and weight.min() >= 0 and weight.sum() > 0):
            raise TrainingError(f"weight_column = {name!r} must hold numbers from 0 up, not all 0, and no gaps.")
        scaled: NDArray[np.float32] = weight / weight.mean()
        return scaled

    def _originals(self, settings: ModelSettings) -> NDArray[np.object_] | None:
        """The id of the real that each fake was made of, (n_rows,), from a column of the training table."""
        if isinstance(settings, LinearSettings) or not settings.pair_column:
            return None
        return self._column(settings.pair_column, "pair_column").fillna("").astype(str).to_numpy(object)


def settings_record(settings: ModelSettings) -> dict[str, Any]:
    """Settings as JSON values."""
    import dataclasses

    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(settings).items()
    }
