"""A training job and the results of its trainings, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.kinds.base import ModelSettings
from trainers.kinds.pseudo_labels import PseudoLabels
from trainers.runtime.settings import check_types

if TYPE_CHECKING:
    from trainers.data.competition import Competition


@dataclass(frozen=True)
class FoldResult:
    """The outcome of one training: of a fold by one seed, or of the refit on all rows, which is fold k.

    auc: AUC of the held-out rows, with test-time augmentation; NaN for a refit, which has none.
    epoch: the epoch whose weights were used. epochs: number of epochs in the settings.
    optimistic: whether that epoch was chosen by the AUC of the same rows. seconds: training time, all runs.
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
    seed: int = 0
    refit: bool = False


@dataclass(frozen=True)
class TrainingJob:
    """A training job as plain values that can be sent to another process.

    store_root: folder of the prediction store. work_dir: folder of this package. threads: number of decoding threads.
    root: base of relative paths in settings. cache_dir: folder of resized images, if there is one.
    processes: number of processes that share the memory of this machine.
    elsewhere: whether other machines train the models, so that it does not matter whether this one has a GPU.
    pseudo: labels of test rows on which all models are also trained, according to their setting `pseudo`, or None.
    folds: fingerprint of the folds for which the job was made; None for those that are stored when it is performed.

    Raises:
        ConfigError: if a setting of a model has another type than declared, or is not among its choices.
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
    elsewhere: bool = False
    pseudo: PseudoLabels | None = None
    folds: str | None = None

    def __post_init__(self) -> None:
        for name, settings in self.models.items():
            check_types(settings, f"model {name!r}: ")
