"""What the store holds of one model, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.ids import Ids


@dataclass(frozen=True, eq=False)
class ModelPredictions:
    """One model's predictions in the row order of the store.

    oof: (n_rows,) float32, NaN where the model has no prediction.
    test_by_fold: (n_parts, n_test) float32, one row for each fold model that predicted the
        test ids (a single row for an imported mean), or None.
    oof_folds, test_folds: the folds present; empty where the predictions came in as a whole.
    """

    name: str
    kind: str
    oof: NDArray[np.float32]
    test_by_fold: NDArray[np.float32] | None
    oof_folds: tuple[int, ...]
    test_folds: tuple[int, ...]
    details: Mapping[str, Any]

    @property
    def test(self) -> NDArray[np.float32] | None:
        """Mean over the fold models, shape (n_test,)."""
        if self.test_by_fold is None:
            return None
        mean: NDArray[np.float32] = self.test_by_fold.mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean


@dataclass(frozen=True)
class ModelSummary:
    """What the store holds of one model: which rows and folds, without the values."""

    name: str
    kind: str
    oof_rows: int
    rows: int
    oof_folds: tuple[int, ...]
    test_folds: tuple[int, ...]
    has_test: bool
    k: int
    imported: bool

    @property
    def complete(self) -> bool:
        """Whether every training row is predicted, and the test ids by each fold model that there should be."""
        return self.oof_rows == self.rows and self.has_test and (self.imported or len(self.test_folds) == self.k)


@dataclass(frozen=True, eq=False, kw_only=True)
class NewModel:
    """A model's predictions as a whole, to be stored.

    ids: (n,) training ids of `oof`, any order, all of them or some. oof: (n,) OOF predictions; NaN
    stands for no prediction. test: (n_test,) in the order of the store's test ids, or None.
    details: JSON values for model.json.
    """

    name: str
    ids: Ids
    oof: NDArray[Any]
    test: NDArray[Any] | None = None
    kind: str = "import"
    details: Mapping[str, Any] = field(default_factory=dict)
