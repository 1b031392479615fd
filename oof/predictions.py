"""The predictions of one model, and summaries of them, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.ids import Ids


def train_command(name: str, details: Mapping[str, Any], options: str = "") -> str:
    """Return the command that trains a model here, or continues its training.

    A model of pseudo-labels has no section of its own in dfens.toml: it is trained with the blend that labels the test
    rows, under the name of the section that it comes from.

    Args:
        name: of the model in the store. details: those of its model.json. options: further options, such as "--fold 2".

    >>> train_command("b7", {}, "--fold 2")
    'dfens train --model b7 --fold 2'
    >>> train_command("b7-pseudo1", {"pseudo_labels": {"blend": "first", "round": 1}})
    'dfens train --pseudo first --model b7'
    """
    labels, pseudo = details.get("pseudo_labels"), ""
    if isinstance(labels, Mapping) and "blend" in labels:
        name, pseudo = name.removesuffix(f"-pseudo{labels.get('round')}"), f"--pseudo {labels['blend']} "
    return f"dfens train {pseudo}--model {name} {options}".rstrip()


@dataclass(frozen=True, eq=False)
class ModelPredictions:
    """One model's predictions in the row order of the store; several seeds are averaged as one (mean of logits).

    oof: (n_rows,) float32, NaN for rows without a prediction; always of the fold models, never of a refit.
    test_by_fold: (n_parts, n_test) float32, one row for each fold model that predicted the
        test ids (a single row for an imported mean), or None. A refit on all rows is part of each row, on the
        scale of that fold's model (`refit_weight`).
    oof_folds, test_folds: the folds present; empty for predictions stored as a whole.
    unmixed_test_by_fold: (n_parts, n_test) the same without the refit; models behind row f have not seen fold f.
    seeds: number of trainings of each fold. refit_weight: share of the refit in the test predictions, 0 for none.
    """

    name: str
    kind: str
    oof: NDArray[np.float32]
    test_by_fold: NDArray[np.float32] | None
    oof_folds: tuple[int, ...]
    test_folds: tuple[int, ...]
    details: Mapping[str, Any]
    unmixed_test_by_fold: NDArray[np.float32] | None = None
    seeds: int = 1
    refit_weight: float = 0.0

    @property
    def is_optimistic(self) -> bool:
        """Whether the epochs used for prediction were chosen by the score of the same rows (checkpoint = "best")."""
        settings = self.details.get("settings")
        return isinstance(settings, Mapping) and settings.get("checkpoint") == "best"

    @property
    def test(self) -> NDArray[np.float32] | None:
        """Return the mean over the fold models, with a share of the refit if there is one, shape (n_test,)."""
        if self.test_by_fold is None:
            return None
        mean: NDArray[np.float32] = self.test_by_fold.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean


@dataclass(frozen=True)
class ModelSummary:
    """A summary of one model in the store: its rows and folds, without the values.

    A fold is present once each of the `seeds` has predicted it, a refit once each of them has been trained on all rows.
    refit_weight: share of the refit in the test predictions, 0 for none. details: those of model.json.
    """

    name: str
    kind: str
    oof_rows: int
    rows: int
    oof_folds: tuple[int, ...]
    test_folds: tuple[int, ...]
    has_test: bool
    k: int
    imported: bool
    seeds: int = 1
    refit_weight: float = 0.0
    has_refit: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lacks_refit(self) -> bool:
        """Whether a refit is part of the model and has not predicted the test ids yet."""
        return self.refit_weight > 0 and not self.has_refit

    @property
    def complete(self) -> bool:
        """Return whether all training rows are predicted, and the test ids by all expected trainings."""
        has_test = self.has_test and (self.imported or len(self.test_folds) == self.k) and not self.lacks_refit
        return self.oof_rows == self.rows and has_test

    @property
    def state(self) -> str:
        """Return whether the model is complete, has only OOF predictions, or is partial."""
        if self.complete:
            return "complete"
        return "OOF only" if self.oof_rows == self.rows and not self.has_test else "partial"


@dataclass(frozen=True, eq=False, kw_only=True)
class NewModel:
    """A model's predictions to be stored as a whole.

    ids: (n,) training ids of `oof`, in any order, all or some of them. oof: (n,) OOF predictions; NaN
    means no prediction. test: (n_test,) in the order of the store's test ids, or None.
    sealed: (n_sealed,) in the order of the store's sealed ids, or None.
    details: JSON values for model.json.
    """

    name: str
    ids: Ids
    oof: NDArray[Any]
    test: NDArray[Any] | None = None
    sealed: NDArray[Any] | None = None
    kind: str = "import"
    details: Mapping[str, Any] = field(default_factory=dict)
