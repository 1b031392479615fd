"""Fold models that predict, and prediction of a table of rows with them, distributed over the processes of a group."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from trainers.runtime.process_group import ALONE, ProcessGroup

if TYPE_CHECKING:
    import pandas as pd

Probabilities = NDArray[np.float64]


class FoldModels(Protocol):
    """Fold models with their weights, ready to predict.

    count: number of fold models.
    batch_rows: number of rows per batch; splitting work at multiples of it does not change any result.
    """

    @property
    def count(self) -> int: ...

    @property
    def batch_rows(self) -> int: ...

    def predict(self, rows: "pd.DataFrame") -> Iterator[Probabilities]:
        """Yield the probabilities of fake, batch after batch, (n_models, n_batch) each.

        Args:
            rows: table with id and path of each row; also files on which the model was not trained.
        """


def predict_rows(
    models: FoldModels,
    rows: "pd.DataFrame",
    group: ProcessGroup = ALONE,
    *,
    until: Callable[[], bool] = lambda: False,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Probabilities:
    """Predict rows with each fold model.

    Args:
        models: loaded fold models.
        rows: table with id and path of each row.
        group: processes that each predict a part of the rows; all of them get the result.
        until: checked after each batch; prediction ends when it returns True (not in a group of several processes).
        on_batch: called with the number of rows of each batch.

    Returns:
        Probabilities of fake, shape (n_models, n_rows), or of the rows before `until` returned True.
    """
    mine = rows.iloc[group.share(len(rows), models.batch_rows)]
    found = [np.zeros((models.count, 0))]
    for batch in models.predict(mine):
        found.append(batch)
        on_batch(batch.shape[1])
        if until():
            break
    return np.concatenate([part for parts in group.all_gather(found) for part in parts], axis=1)
