"""Few members: which models to keep when a blend may only have so many."""

import numpy as np
from numpy.typing import NDArray

from ensemble.design import Design
from ensemble.methods import best_model
from ensemble.solver import fit_weights
from ensemble.table import BinaryTable

_ROWS = 20_000
_DROPPED = 0.2  # of the models left, at each refit


def choose_members(table: BinaryTable, limit: int) -> NDArray[np.intp]:
    """Positions of at most `limit` models, rising.

    Signed weights of rank-logits are fitted, the fifth of the models whose part of the
    sum varies least is dropped, and so on: of two models alike, one goes and the other takes
    its weight at the next refit. A single model is the one with the best AUC.
    """
    count = len(table.columns)
    if limit >= count:
        return np.arange(count)
    if limit == 1:
        return np.array([best_model(table, -1)])
    thin = table.thin(_ROWS) if len(table.y) > _ROWS else table
    kept = np.arange(count)
    while len(kept) > limit:
        design = Design(thin.only(kept), ("rank-logit",))
        fit = fit_weights(design, iterations=6)
        carried = np.abs(_own_weights(design, fit.weights[0]))
        dropped = min(max(1, int(_DROPPED * len(kept))), len(kept) - limit)
        kept = np.sort(kept[np.argsort(-carried, kind="stable")[: len(kept) - dropped]])
    return kept


def _own_weights(design: Design, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each model's weight in units of its own spread, its share of the mean's column included."""
    scale = design.moments[1]
    own = np.asarray(weights[: design.models], np.float64)
    spread = np.divide(1.0, scale[: design.models, 0], out=np.zeros(design.models), where=scale[: design.models, 0] > 0)
    if design.with_means:
        own = own + weights[-1] * float(scale[-1, 0]) / design.models * spread
    return own
