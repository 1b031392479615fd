"""Measure the effect of storing predictions as float32 on the AUC."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oof.metrics.ranking import roc_auc

_NOTEWORTHY = 1e-5  # change of the AUC


class Rounding(NamedTuple):
    """AUC of predictions before and after rounding to float32, which makes close ones equal."""

    exact: float
    stored: float

    @property
    def is_noteworthy(self) -> bool:
        """Whether the AUC changes enough to be reported."""
        return abs(self.exact - self.stored) > _NOTEWORTHY


def auc_rounding(y: NDArray[Any], scores: NDArray[np.floating]) -> Rounding:
    """Return the AUC before and after predictions are rounded to float32.

    Probabilities above 1 - 3e-8 (logits above 17) all become 1.

    >>> auc_rounding(np.array([0, 1]), np.array([1 - 1e-9, 1 - 1e-10]))
    Rounding(exact=1.0, stored=0.5)
    """
    return Rounding(roc_auc(y, scores), roc_auc(y, scores.astype(np.float32)))
