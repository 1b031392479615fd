"""What is known of a metric: its function and the traits by which other code treats it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from oof.metrics.ranking import counted_auc, roc_auc

Counts = NDArray[np.signedinteger[Any]]
MetricFunction = Callable[[NDArray[Any], NDArray[Any]], float]
Kind = Literal["ranking", "probability", "value"]


@dataclass(frozen=True)
class Metric:
    """One metric of predictions, with its traits.

    Code that treats metrics differently asks for a trait, never for a name, so that a new
    metric is one more entry in `oof.metrics.table`.

    name: as in the configuration and in tables.
    function: (y, scores) -> float; y (n_rows,), scores (n_rows,), or (n_rows, n_classes) for
        log_loss and accuracy.
    kind: what it reads: "ranking" only the order of any scores, "probability" probabilities in
        [0, 1], "value" values in the unit of a real target.
    higher_is_better: False for losses and errors.
    range: (lowest, highest) possible score.
    chance: score of predictions without information; NaN where that depends on the data.
    depends_on_prevalence: whether the expected score changes with the share of positives. Those
        read off the ROC curve do not: each class is scored by itself.
    """

    name: str
    function: MetricFunction
    kind: Kind
    higher_is_better: bool = True
    range: tuple[float, float] = (0.0, 1.0)
    chance: float = float("nan")
    depends_on_prevalence: bool = True

    def __call__(self, y: NDArray[Any], scores: NDArray[Any]) -> float:
        """Return the score of predictions, in the metric's own direction."""
        return float(self.function(y, scores))

    def gain(self, score: float) -> float:
        """Return the score with its sign changed where lower is better, so that higher is better."""
        return score if self.higher_is_better else -score

    @property
    def is_auc(self) -> bool:
        """Whether this is the area under the whole ROC curve, whose variance has a closed form (DeLong)."""
        return self.function is roc_auc

    def on_counted_rows(self, y: NDArray[Any], scores: NDArray[Any]) -> Callable[[Counts], float]:
        """Return the score as a function of how often each row counts, for resampling.

        For the AUC the rows are sorted once and then only counted; other metrics repeat the rows.

        Args:
            y: (n_rows,). scores: (n_rows,) or (n_rows, n_classes).

        Returns:
            A function of counts, (n_rows,) whole numbers of at least 0.
        """
        if self.is_auc:
            return counted_auc(y, scores)
        positions = np.arange(len(y))

        def resampled(counts: Counts) -> float:
            rows = np.repeat(positions, counts)
            return self(y[rows], scores[rows])

        return resampled
