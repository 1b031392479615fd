"""Compiled loops over rows sorted by score: placements for DeLong, and the AUC of rows with counts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.compiled import compiled


@compiled
def placements(
    labels: NDArray[np.uint8], scores: NDArray[np.floating], order: NDArray[np.intp], out: NDArray[np.float64]
) -> None:
    """Compute the share of negatives below each positive and of positives above each negative, ties counted half."""
    rows = len(order)
    positives = 0
    for i in range(rows):
        positives += labels[i]
    negatives = rows - positives
    positives_below = negatives_below = 0
    first = 0
    while first < rows:
        end = first
        tied_positives = 0
        while end < rows and scores[order[end]] == scores[order[first]]:
            tied_positives += labels[order[end]]
            end += 1
        tied_negatives = end - first - tied_positives
        beaten = (negatives_below + 0.5 * tied_negatives) / negatives
        beating = (positives - positives_below - 0.5 * tied_positives) / positives
        for i in order[first:end]:
            out[i] = beaten if labels[i] else beating
        positives_below += tied_positives
        negatives_below += tied_negatives
        first = end


@compiled
def counted_auc(
    order: NDArray[np.signedinteger[Any]],
    begins: NDArray[np.bool_],
    labels: NDArray[np.uint8],
    counts: NDArray[np.signedinteger[Any]],
) -> float:
    """Return the AUC of rows that are each repeated `counts` times.

    order, begins and labels are sorted by score: the row, whether a new score begins there, and the
    label of the row. counts (n_rows,) is in row order.
    """
    won = 0
    negatives = positives = 0
    negatives_below = 0
    for i in range(len(order)):
        if begins[i]:
            negatives_below = negatives
        count = counts[order[i]]
        label = np.int64(labels[i])
        # negatives come first within ties: each positive counts those below it fully and tied ones half
        won += label * count * (negatives_below + negatives)
        negatives += (1 - label) * count
        positives += label * count
    return won / (2.0 * negatives * positives)
