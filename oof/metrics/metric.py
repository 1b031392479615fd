"""A metric: its function and the properties that other code depends on."""

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
    """One metric of predictions, with its properties.

    Code that treats metrics differently checks a property, never a name, so that a new
    metric only needs an entry in `oof.metrics.table`.

    name: name in the configuration and in tables.
    function: (y, scores) -> float; y (n_rows,), scores (n_rows,), or (n_rows, n_classes) for
        log_loss and accuracy.
    kind: required predictions: "ranking" for scores of which only the order matters, "probability" for
        probabilities in [0, 1], "value" for values in the unit of a real target.
    higher_is_better: False for losses and errors.
    range: (lowest, highest) possible score.
    chance: score of uninformative predictions; NaN if it depends on the data.
    depends_on_prevalence: whether the expected score depends on the share of positives. Scores from
        the ROC curve do not: each class is scored by itself.
    max_fpr: highest false positive rate of the part of the ROC curve that is scored.
    """

    name: str
    function: MetricFunction
    kind: Kind
    higher_is_better: bool = True
    range: tuple[float, float] = (0.0, 1.0)
    chance: float = float("nan")
    depends_on_prevalence: bool = True
    max_fpr: float = 1.0

    def __call__(self, y: NDArray[Any], scores: NDArray[Any]) -> float:
        """Return the score of predictions, without changing its sign."""
        return float(self.function(y, scores))

    def gain(self, score: float) -> float:
        """Return the score, negated if lower is better, so that higher is always better."""
        return score if self.higher_is_better else -score

    @property
    def is_auc(self) -> bool:
        """Return whether this is the area under the whole ROC curve, whose variance has a closed form (DeLong)."""
        return self.function is roc_auc

    @property
    def label(self) -> str:
        """Return the name for people: AUC, log loss."""
        return "AUC" if self.is_auc else self.name.replace("_", " ")

    def on_counted_rows(self, y: NDArray[Any], scores: NDArray[Any]) -> Callable[[Counts], float]:
        """Return the score as a function of the number of times that each row is repeated, for resampling.

        For AUC the rows are sorted only once; for other metrics the rows are repeated.

            Args:
                y: (n_rows,). scores: (n_rows,) or (n_rows, n_classes).

            Returns:
                A function of counts, (n_rows,) non-negative integers.
        """
        if self.is_auc:
            return counted_auc(y, scores)
        positions = np.arange(len(y))

        def resampled(counts: Counts) -> float:
            rows = np.repeat(positions, counts)
            return self(y[rows], scores[rows])

        return resampled
