"""Select the members of a blend: at most a given number, or those that the blend needs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.averaging import as_metric_input
from ensemble.design import Design
from ensemble.diversity import prune_members
from ensemble.methods import TRIAL, best_model, fit_method
from ensemble.settings import BlendOptions
from ensemble.solver import fit_weights
from ensemble.table import BinaryTable

_ROWS = 20_000
_DROPPED = 0.2  # share of the remaining models dropped at each refit


def select_members(
    table: BinaryTable, options: BlendOptions, groups: NDArray[np.intp] | None, *, fitted: bool
) -> NDArray[np.intp]:
    """Return the positions of the selected members in ascending order.

    Args:
        table: the rows. options: `prune` and `max_members`. groups: (n_rows,) in the table's order.
        fitted: whether weights are fitted to these rows; without weights, members cannot be compared.
    """
    kept = np.arange(len(table.columns))
    if options.prune and fitted:
        kept = needed_members(table, options, groups)
    if options.max_members is not None and options.max_members < len(kept):
        kept = kept[choose_members(table.only(kept), options.max_members, options)]
    return kept


def needed_members(table: BinaryTable, options: BlendOptions, groups: NDArray[np.intp] | None) -> NDArray[np.intp]:
    """Return the members without which the nested score drops by more than one standard error, in ascending order.

    A set of members is scored by signed weights of their rank-logits. Since the selection uses nested scores,
    it inflates them: for the nested score of the blend, it must be repeated without each fold.
    """

    def blend(columns: Sequence[int]) -> NDArray[Any]:
        part = table.only(np.asarray(columns))
        nested = fit_method(TRIAL, part, level=options.metric.kind == "ranking").nested
        return as_metric_input(nested, options.metric)

    count = len(table.columns)
    return np.asarray(prune_members(table.y, blend, count, groups=groups, metric=options.metric), np.intp)


def choose_members(table: BinaryTable, limit: int, options: BlendOptions) -> NDArray[np.intp]:
    """Return the positions of at most `limit` models in ascending order.

    Signed weights of rank-logits are fitted, the fifth of the models whose terms vary least is
    dropped, and so on: of two similar models, one is dropped and the other takes over its
    weight at the next refit. For a limit of 1, the model with the best score is returned.
    """
    count = len(table.columns)
    if limit >= count:
        return np.arange(count)
    if limit == 1:
        return np.array([best_model(table, options.metric)])
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
    """Return each model's weight in units of its standard deviation, including its share of the mean column."""
    scale = design.moments[1]
    own = np.asarray(weights[: design.models], np.float64)
    spread = np.divide(1.0, scale[: design.models, 0], out=np.zeros(design.models), where=scale[: design.models, 0] > 0)
    if design.with_means:
        own = own + weights[-1] * float(scale[-1, 0]) / design.models * spread
    return own
