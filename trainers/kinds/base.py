"""The contract of a kind of model, and the values exchanged between kinds and jobs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from oof.errors import TrainingError, examples
from oof.progress import SILENT, Progress
from trainers.kinds.prediction import FoldModels as FoldModels
from trainers.kinds.prediction import Probabilities as Probabilities
from trainers.kinds.prediction import predict_rows
from trainers.kinds.pseudo_labels import PseudoLabels
from trainers.kinds.repeats import REPEAT_NAMES, PseudoSettings, repeats_of
from trainers.media.settings import Decode
from trainers.runtime.process_group import ALONE, ProcessGroup

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from oof.folds import Folds
    from trainers.features.settings import ExtractSettings

RUNNING_FILES = ("state.pt", "good.pt")  # files of a running fold; removed when the fold is done
WEIGHTS_FILE = "weights.safetensors"


class ModelSettings(Protocol):
    """Settings of a model: a frozen dataclass whose field `kind` is the name of the kind."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def kind(self) -> str:
        """Return the name of the kind in the registry."""


S = TypeVar("S", bound=ModelSettings)


@dataclass(frozen=True)
class Resources:
    """The resources needed to train one fold.

    gpu: whether it uses a GPU if there is one. only_gpu: the setting that does not work without a GPU, and what to set
    instead, or None. joint: whether several processes can train one fold together, each on its own device. memory:
    bytes needed in addition to the images kept in memory, 0 if unknown.
    """

    gpu: bool = False
    only_gpu: tuple[str, str] | None = None
    joint: bool = False
    memory: int = 0


@dataclass(frozen=True)
class CachedImages:
    """The resized images that a model can read from the cache: height and width in pixels, and decoder."""

    size: int
    decode: Decode


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelContext(Generic[S]):
    """One model, the rows of its competition and the resources of this process, for use by a kind.

    The kind builds its own data from it (images, clips, features); no other code depends on what a model reads.

    name, settings: name and settings of the model, with the seed of this training.
    train: training table (id, target, path, group, `column:NAME`) in the order of the folds.
    test: table (id, path) of the rows to predict: the test rows in the order of the test ids, then sealed rows.
    folds: folds of the training rows.
    folder: folder of the model, or of one of its further seeds, with a subfolder for each fold.
    root: base of relative paths in the settings.
    work_dir: folder of the package, for data shared by all models, such as extracted features.
    cache_dir: folder of resized images, or None.
    max_parameters: limit set by the competition, or None.
    models: settings of all models of the job, this one among them.
    threads: number of decoding threads. processes: number of processes that share the memory of this machine.
    device: None for the default device. elsewhere: whether other machines train the model.
    group: the processes that train a fold together.
    seed: number of this training among the model's seeds, from 0; the settings already have its value.
    epochs: number of epochs after which to stop, None for all in the settings. A refit stops where the folds found
        their best epoch, with the learning rates of the full schedule.
    pseudo: labels of test rows to train on, and their settings; None without. `trainers.kinds.training_rows` adds the
        rows.
    shared: objects shared by all models and folds while the process works on the job, such as decoded images, under
        keys chosen by the kinds.
    """

    name: str
    settings: S
    train: "pd.DataFrame"
    test: "pd.DataFrame"
    folds: "Folds"
    folder: Path
    root: Path = Path()
    work_dir: Path = Path()
    cache_dir: Path | None = None
    max_parameters: int | None = None
    models: Mapping[str, ModelSettings] = field(default_factory=dict)
    threads: int = 1
    processes: int = 1
    device: "torch.device | None" = None
    elsewhere: bool = False
    group: ProcessGroup = ALONE
    progress: Progress = SILENT
    seed: int = 0
    epochs: int | None = None
    pseudo: tuple[PseudoLabels, PseudoSettings] | None = None
    shared: dict[Hashable, Any] = field(default_factory=dict)

    def fold_folder(self, fold: int) -> Path:
        """Return the folder of one fold; fold k is the refit."""
        return self.folder / run_label(fold, self.folds.k)

    @property
    def trainings(self) -> range:
        """Return the folds that are held out, and fold k if the model is also trained on all rows."""
        return range(self.folds.k + repeats_of(self.settings).refit)

    def title(self, fold: int) -> str:
        """Return the name of a training in messages: tiny fold 0, tiny fold 0 seed 1, tiny refit."""
        return run_title(self.name, fold, self.folds.k, self.seed)

    def split(self, fold: int) -> "tuple[pd.DataFrame, pd.DataFrame]":
        """Return the labelled training rows and the held-out rows of a fold; fold k, the refit, holds out none."""
        held_out = self.folds.fold == fold
        return self.train[~held_out].reset_index(drop=True), self.train[held_out].reset_index(drop=True)

    def column(self, table: "pd.DataFrame", name: str, setting: str) -> "pd.Series[Any]":
        """Return the column of a training table named by a setting.

        Raises:
            TrainingError: if there is no such column, listing the existing ones.
        """
        key = next((key for key in (name, f"column:{name}") if key in table), None)
        if key is None:
            known = list(dict.fromkeys(str(column).removeprefix("column:") for column in table.columns))
            raise TrainingError(
                f"{setting} = {name!r} is not a column of the training table; it has {examples(known)}."
            )
        return table[key]


@dataclass(frozen=True, eq=False, kw_only=True)
class FoldOutcome:
    """A trained fold.

    oof: (n_held_out,) probability of fake for the held-out rows.
    test: (n_test,) the same for the rows to predict if this costs nothing; None if stored weights predict them later.
    files: name of each file needed for later predictions, and a function that writes it to a path.
    epoch, epochs: epoch whose weights are used, and number of epochs; 0 for kinds without epochs.
    optimistic: whether that epoch was chosen by the score of the same rows.
    seconds: training time, all runs together.
    history: training history as JSON values for history.json.
    """

    oof: Probabilities
    test: Probabilities | None = None
    files: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    epoch: int = 0
    epochs: int = 0
    optimistic: bool = False
    seconds: float = 0.0
    history: Mapping[str, Any] = field(default_factory=dict)


class ModelKind(ABC, Generic[S]):
    """A kind of model.

    Responsibilities: the kind reads its data, trains and predicts. The jobs decide which fold is trained where, hold
    the locks, store predictions, histories and files, resume predictions of test rows, and compare settings. Every
    method may be called in any process of a job, concurrently for different folds, but never concurrently for the same
    fold.

    A refit on all rows is the training of fold k, which holds out no row (`Folds.refit`); further seeds are trainings
    with other settings and folders. Neither needs code in a kind.

    Implementations are stateless; anything that must outlive a call belongs in `context.shared` or
    in files. Register a kind with one line in trainers/kinds/registry.py.
    """

    soft_labels: ClassVar[bool] = False  # whether it trains on `training_rows`: labels between 0 and 1, with weights

    def resources(self, settings: S) -> Resources:
        """Return the resources needed to train one fold."""
        return Resources()

    def cached_images(self, settings: S) -> CachedImages | None:
        """Return the size and decoder of resized images that the model can read from a cache, or None."""
        return None

    def modalities(self, settings: S) -> tuple[str, ...]:
        """Return the modalities that the model uses: "picture", "sound", or both."""
        return ("picture",)

    def extraction(self, settings: S) -> "ExtractSettings | None":
        """Return the settings of features to extract from clips, or None for a model that reads no clips."""
        return None

    def starts_from(self, settings: S) -> tuple[str, ...]:
        """Return the names of other models whose fold models this one starts from; they are trained first."""
        return ()

    def only_predicts(self, setting: str, before: object, now: object) -> bool:
        """Return whether a changed setting does not affect the weights, so that predicting again is sufficient."""
        return False

    def check(self, context: ModelContext[S]) -> None:
        """Check for settings that cannot work, within seconds, before anything is trained.

        Raises:
            DfensError: naming the setting and what to set instead.
        """

    def prepare(self, context: ModelContext[S]) -> None:
        """Prepare what all folds and the test rows need, such as features extracted from clips.

        It is called under a lock before each fold and before prediction, so it must quickly detect what is already
        done.
        """

    @abstractmethod
    def train_fold(self, context: ModelContext[S], fold: int) -> FoldOutcome:
        """Train on the other folds, resuming what an earlier process left, and predict the held-out rows, if any.

        A long training saves its state in the fold's folder as RUNNING_FILES, and stops with
        `trainers.runtime.signals.StopRequest` between two steps.
        """

    def has_weights(self, folder: Path) -> bool:
        """Return whether `load` finds what it needs in a fold's folder."""
        return (folder / WEIGHTS_FILE).exists()

    def predict_held_out(self, context: ModelContext[S], fold: int, on_batch: Callable[[int], None]) -> FoldOutcome:
        """Predict the held-out rows of a trained fold with its stored weights, as `train_fold` does at its end.

        Args:
            context, fold: as for `train_fold`.
            on_batch: called with the number of rows of each batch.

        Returns:
            Predictions, files that go with them, and what of the history they change.
        """
        held_out = context.split(fold)[1]
        return FoldOutcome(oof=predict_rows(self.load(context, [fold]), held_out, context.group, on_batch=on_batch)[0])

    @abstractmethod
    def load(self, context: ModelContext[S], folds: Sequence[int], *, tta: bool = True) -> FoldModels:
        """Load the models of some folds; without `tta` they use no test-time augmentation."""


def run_label(fold: int, k: int) -> str:
    """Return the name of a training's folder: fold0, or refit for fold k."""
    return "refit" if fold == k else f"fold{fold}"


def run_title(name: str, fold: int, k: int, seed: int = 0) -> str:
    """Return the name of a training in messages."""
    return f"{name} {'refit' if fold == k else f'fold {fold}'}{f' seed {seed}' if seed else ''}"


def settings_record(settings: ModelSettings) -> dict[str, Any]:
    """Return settings as JSON values."""
    return {key: _json_value(value) for key, value in asdict(settings).items()}


def default_record(settings: ModelSettings) -> dict[str, Any]:
    """Return the default of each setting that has one, as a JSON value; it applies if a record lacks the setting."""
    found = {}
    for item in fields(settings):
        if item.default is not MISSING:
            found[item.name] = _json_value(item.default)
        elif item.default_factory is not MISSING:
            found[item.name] = _json_value(item.default_factory())
    return found


def changed_settings(before: Mapping[str, Any], settings: ModelSettings) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ from a record, with the values then and now, sorted by name.

    A setting missing in the record counts as its default. Those that only say which trainings make up the model
    (`RepeatSettings`) are left out, and so are those that have no effect with the others (`settings.ignored`).
    """
    now, defaults, former = settings_record(settings), default_record(settings), getattr(settings, "former", ())
    found = {}
    for key in sorted((before.keys() | now.keys()) - REPEAT_NAMES - getattr(settings, "ignored", frozenset())):
        then = before.get(key, defaults.get(key))
        if then != now.get(key) and not (key in former and key not in now):
            found[key] = (then, now.get(key))
    return found


def _json_value(value: Any) -> Any:
    """Return tuples as lists and dataclasses as dictionaries, at any depth."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {key: _json_value(inner) for key, inner in value.items()}
    return [_json_value(inner) for inner in value] if isinstance(value, list | tuple) else value
