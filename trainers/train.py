"""Train models over folds: what is done is skipped, what was begun goes on, no name stands for two settings."""

import dataclasses
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oof.errors import TrainingError
from oof.files import archive, file_lock, read_json, write_json
from oof.ids import join_positions
from oof.metrics import roc_auc
from oof.progress import SILENT, Progress
from oof.store import PredictionStore
from trainers.settings import LinearSettings, ModelSettings, TimmSettings

if TYPE_CHECKING:
    from trainers.images import ImageBank
    from trainers.layouts import Competition

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


def train_models(
    competition: "Competition",
    store: PredictionStore,
    models: Mapping[str, ModelSettings],
    folds: Sequence[int],
    work_dir: Path,
    *,
    progress: Progress = SILENT,
    force: bool = False,
    workers: int = 2,
    max_parameters: int | None = None,
    root: Path = Path(),
) -> list[FoldResult]:
    """Train each model on each fold and store its OOF and test predictions.

        work_dir/
        ├── NAME/
        │   ├── settings.json           settings and what they were trained with
        │   └── fold0/
        │       ├── state.pt            of the running training; gone when the fold is done
        │       ├── weights.safetensors what the fold predicted with
        │       └── history.json        loss and AUC by epoch, seconds, device
        └── archive/                    what --force replaced

    Two processes may train different folds of one model at once; of one fold only one runs, the other waits.

    Args:
        competition: rows and files.
        store: of folds and predictions.
        models: settings by name.
        folds: which folds to train.
        work_dir: of this room.
        force: retrain models whose settings changed; the old ones move to the archives.
        workers: threads that decode images.
        max_parameters: rule of the competition, for each model.
        root: what paths of weights are relative to.

    Raises:
        TrainingError: settings that differ from those a model was trained with (unless `force`), and what
            `create_model` and the training raise.
    """
    results = []
    banks: dict[tuple[int, str], ImageBank] = {}
    for name, settings in models.items():
        _claim(store, name, settings, work_dir, force, progress)
        for fold in folds:
            folder = work_dir / name / f"fold{fold}"
            with file_lock(folder / ".lock"):
                if store.has(name, "oof", fold) and store.has(name, "test", fold):
                    results.append(_done(store, name, settings, fold, folder))
                    continue
                job = _Job(competition, store, name, fold, folder, progress, workers, max_parameters, root, banks)
                if isinstance(settings, LinearSettings):
                    results.append(job.linear(settings))
                else:
                    results.append(job.timm(settings))
    return results


def _claim(
    store: PredictionStore, name: str, settings: ModelSettings, work_dir: Path, force: bool, progress: Progress
) -> None:
    """Note the settings of a model, or refuse to mix two settings under one name."""
    path = work_dir / name / "settings.json"
    found: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "settings": dataclasses.asdict(settings),
        "folds": store.folds.fingerprint,
    }
    with file_lock(work_dir / ".lock"):
        if path.exists():
            before = read_json(path)
            changed = _changed(before.get("settings", {}), found["settings"])
            if before.get("folds") != found["folds"]:
                changed.append("the folds")
            if not changed:
                return
            if not force:
                raise TrainingError(
                    f"Model '{name}' was trained with other settings; changed: {', '.join(changed)}. Give the new "
                    f"settings a name of their own in dfens.toml, or run dfens train --model {name} --force, which "
                    f"moves the old model to the archive."
                )
            moved = [archive(work_dir / name, work_dir / "archive")]
            if name in store:
                moved.append(store.archive(name))
            progress.note(f"{name}: the model of other settings lies in {' and '.join(map(str, moved))}")
        write_json(path, found)
    store.save_model(name, settings.kind, {"settings": found["settings"]})


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    keys = sorted(before.keys() | now.keys())
    return [f"{key} {before.get(key)!r} to {now.get(key)!r}" for key in keys if before.get(key) != now.get(key)]


def _done(store: PredictionStore, name: str, settings: ModelSettings, fold: int, folder: Path) -> FoldResult:
    rows = store.folds.rows(fold)
    auc = roc_auc(store.folds.target[rows], store.load(name).oof[rows])
    history = read_json(folder / "history.json") if (folder / "history.json").exists() else {}
    return FoldResult(
        name, fold, auc, history.get("epoch", 0), history.get("epochs", 0), history.get("optimistic", False), 0.0, True
    )


@dataclass
class _Job:
    """One fold of one model."""

    competition: "Competition"
    store: PredictionStore
    name: str
    fold: int
    folder: Path
    progress: Progress
    workers: int
    max_parameters: int | None
    root: Path
    banks: "dict[tuple[int, str], ImageBank]"

    @property
    def title(self) -> str:
        return f"{self.name} fold {self.fold}"

    def timm(self, settings: TimmSettings) -> FoldResult:
        import torch
        from safetensors.torch import save_file

        from oof.files import atomic_path
        from trainers.fold import FoldTrainer
        from trainers.model import parameter_count

        train, valid, test = self._rows(settings.crop or settings.image_size, settings.decode)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        trainer = FoldTrainer(settings, self.fold, train, self.folder / "state.pt", device, self.root)
        parameters = parameter_count(trainer.model)
        if self.max_parameters is not None and parameters > self.max_parameters:
            raise TrainingError(
                f"Model '{self.name}' has {parameters:,} parameters; the competition allows {self.max_parameters:,} "
                f"([competition] max_parameters). Choose a smaller backbone."
            )
        outcome = trainer.run(valid, test, self.title, self.progress)
        with atomic_path(self.folder / "weights.safetensors") as part:
            save_file(outcome.weights, part)
        optimistic = settings.keep == "best"
        write_json(
            self.folder / "history.json",
            {
                "version": FORMAT_VERSION,
                "loss": outcome.history.loss,
                "auc": outcome.history.auc,
                "epoch": outcome.epoch,
                "epochs": settings.epochs,
                "optimistic": optimistic,
                "parameters": parameters,
                "seconds": round(outcome.seconds, 3),
                "images_per_s": round(outcome.images_per_s, 1),
                "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
                "packages": {"torch": torch.__version__, "python": platform.python_version()},
            },
        )
        self._store(outcome.oof, outcome.test, valid.ids, test.ids)
        (self.folder / "state.pt").unlink(missing_ok=True)
        auc = roc_auc(valid.target, outcome.oof)
        chosen = (
            f"weights of epoch {outcome.epoch} of {settings.epochs}, the best on these very rows: a little optimistic"
            if optimistic
            else f"weights of the last epoch ({settings.epochs})"
        )
        self.progress.note(f"{self.title}: AUC {auc:.4f}, {chosen}, {outcome.seconds:.0f} s")
        return FoldResult(self.name, self.fold, auc, outcome.epoch, settings.epochs, optimistic, outcome.seconds, False)

    def linear(self, settings: LinearSettings) -> FoldResult:
        from trainers.linear import fit_linear

        begun = time.monotonic()
        train, valid, test = self._rows(64, settings.decode)
        oof, test_predictions = fit_linear(settings, train, valid, test)
        self._store(oof, test_predictions, valid.ids, test.ids)
        auc = roc_auc(valid.target, oof)
        self.progress.note(f"{self.title}: AUC {auc:.4f}")
        return FoldResult(self.name, self.fold, auc, 0, 0, False, time.monotonic() - begun, False)

    def _rows(self, edge: int, decode: Any) -> Any:
        """Rows to train on, held out, and to predict; all images of one size share a bank."""
        from trainers.images import ImageBank, Rows

        folds, frame, test = self.store.folds, self.competition.train, self.competition.test
        positions = join_positions(folds.ids, frame["id"].to_numpy(object), "the training table")
        test_positions = join_positions(self.store.test_ids, test["id"].to_numpy(object), "the test table")
        bank = self.banks.get((edge, decode))
        if bank is None:
            paths = [*frame["path"].iloc[positions], *test["path"].iloc[test_positions]]
            bank = self.banks[(edge, decode)] = ImageBank(paths, edge, decode, self.workers)
            bank.fill(f"decode at {edge} px", self.progress)
        held_out = folds.fold == self.fold
        none = np.zeros(len(self.store.test_ids), np.int8)
        return (
            *(
                Rows(bank, np.flatnonzero(chosen), folds.ids[chosen], folds.target[chosen])
                for chosen in (~held_out, held_out)
            ),
            Rows(bank, len(folds.ids) + np.arange(len(none)), self.store.test_ids, none),
        )

    def _store(self, oof: Any, test: Any, ids: Any, test_ids: Any) -> None:
        self.store.save_test(self.name, test_ids, test, fold=self.fold)
        self.store.save_oof(self.name, ids, oof, fold=self.fold)
