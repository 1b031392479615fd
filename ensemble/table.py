"""OOF predictions as columns, rows sorted by class and fold, so that every part needed is a slice."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.views import Columns, Views


@dataclass(frozen=True, eq=False)
class BinaryTable:
    """The rows of a binary blend.

    columns: (n_models, n_rows) float32 without NaN. y: (n_rows,) 0s, then 1s.
    fold: (n_rows,) 0..k-1, increasing within a class. order: (n_rows,) position of each row in the input.
    """

    columns: Columns
    y: NDArray[np.int8]
    fold: NDArray[np.int32]
    k: int
    order: NDArray[np.intp]
    views: Views
    names: tuple[str, ...]
    seed: int

    @cached_property
    def positives(self) -> int:
        return int(self.y.sum())

    @cached_property
    def split(self) -> int:
        """Where the positives begin."""
        return len(self.y) - self.positives

    def inside(self, fold: int) -> NDArray[np.bool_]:
        """Mask of the rows that fits without this fold use; fold -1 stands for all rows."""
        return np.asarray(self.fold != fold)

    def in_input_order(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values by row of the table, put back in the order of the input."""
        back = np.empty_like(values)
        back[self.order] = values
        return back


def sort_rows(y: NDArray[Any], fold: NDArray[Any]) -> NDArray[np.intp]:
    """The order by class, then fold."""
    return np.lexsort((fold, y))
