"""Views of a model's predictions: as they are, logit, rank, rank-logit, logarithm, power; the same for new rows.

A view is fitted without labels on the OOF predictions of one model and kept, so that new
rows go through the same function one at a time. Ranks come from a stored distribution
function over all OOF rows, in which equal predictions share the middle of their ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import BlendError

Columns = NDArray[np.float32]  # (n_models, n_rows)
_KNOTS = 1024
POWER = 3.0


@dataclass(frozen=True, eq=False)
class Distribution:
    """The distribution function of one model's OOF predictions.

    knots: (n_knots,) increasing prediction values. cdf: (n_knots,) share of OOF rows below
    each, half of the equal ones counted; in (0, 1), increasing.
    """

    knots: NDArray[np.float64]
    cdf: NDArray[np.float64]

    def ranks(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Share of OOF predictions below each value, in (0, 1); order is kept beyond the ends too."""
        found = np.interp(values, self.knots, self.cdf)
        low, high = self.knots[0], self.knots[-1]
        scale = max(high - low, 1e-12)
        under, over = values < low, values > high
        if under.any():
            reach = (low - values[under]) / scale
            found[under] = self.cdf[0] / (1.0 + reach)
        if over.any():
            reach = (values[over] - high) / scale
            found[over] = 1.0 - (1.0 - self.cdf[-1]) / (1.0 + reach)
        ranks: NDArray[np.float32] = found.astype(np.float32)
        return ranks

    def values(self, ranks: NDArray[Any]) -> NDArray[np.float32]:
        """The predictions that stand at these ranks."""
        found: NDArray[np.float32] = np.interp(ranks, self.cdf, self.knots).astype(np.float32)
        return found


def fit_distribution(values: NDArray[np.float32]) -> Distribution:
    """The distribution function of predictions without NaN, in at most about 2,000 knots, dense in both tails."""
    ordered = np.sort(values)
    n = len(ordered)
    even = np.linspace(0.0, 1.0, _KNOTS)
    reach = np.log(2.0 * n)
    tails = 1.0 / (1.0 + np.exp(-np.linspace(-reach, reach, _KNOTS)))
    positions = np.unique(np.clip(np.round(np.concatenate([even, tails]) * (n - 1)), 0, n - 1).astype(np.intp))
    knots = np.unique(ordered[positions])
    below = np.searchsorted(ordered, knots, "left")
    upto = np.searchsorted(ordered, knots, "right")
    return Distribution(knots.astype(np.float64), (below + upto) / (2.0 * n))


@dataclass(frozen=True, eq=False)
class Views:
    """The fitted views of all models of a blend.

    distributions: one for each model. margins: (n_models,) the nearest that a probability may
    come to 0 or 1 before its logarithm is taken.
    """

    distributions: tuple[Distribution, ...]
    margins: NDArray[np.float64]
    in_unit_range: bool

    def only(self, models: NDArray[np.intp]) -> "Views":
        """The views of some of the models."""
        chosen = tuple(self.distributions[model] for model in models)
        return Views(chosen, self.margins[models], self.in_unit_range)

    def apply(self, kind: str, columns: Columns) -> Columns:
        """One view of every model, shape (n_models, n_rows); NaN stays NaN."""
        if kind == "prob":
            return columns
        out = np.empty_like(columns)
        for model, values in enumerate(columns):
            out[model] = self._one(kind, model, values)
        return out

    def _one(self, kind: str, model: int, values: NDArray[np.float32]) -> NDArray[Any]:
        if kind in ("logit", "log", "power"):
            self.require_probabilities(kind)
            margin = self.margins[model]
            inside: NDArray[np.float64] = np.clip(values, margin, 1.0 - margin, dtype=np.float64)
            if kind == "logit":
                inside /= 1.0 - inside
            return np.asarray(inside**POWER if kind == "power" else np.log(inside))
        ranks = self.distributions[model].ranks(values)
        return ranks if kind == "rank" else np.asarray(np.log(ranks / (1.0 - ranks)))

    def require_probabilities(self, kind: str) -> None:
        """Refuse a view that needs probabilities where predictions leave [0, 1]."""
        if not self.in_unit_range:
            raise BlendError(
                f"The transform '{kind}' needs predictions in [0, 1], and some lie outside. "
                f"Use --transform rank, rank-logit or auto, which take any scale."
            )


def fit_views(columns: Columns) -> Views:
    """Fit the views of every model; NaN is passed over."""
    distributions, margins, inside = [], [], True
    for values in columns:
        present = values[~np.isnan(values)]
        distributions.append(fit_distribution(present))
        low, high = float(present.min()), float(present.max())
        inside &= low >= 0.0 and high <= 1.0
        margins.append(_margin(present))
    return Views(tuple(distributions), np.array(margins), inside)


def _margin(values: NDArray[np.float32]) -> float:
    """Half the smallest distance to 0 or 1 that occurs, from 1e-7 to 0.01: zeros of coarse scores go not far out."""
    distance = np.minimum(values, 1.0 - values)
    distance = distance[distance > 0]
    return float(np.clip(0.5 * distance.min(), 1e-7, 0.01)) if len(distance) else 0.01


def fill_missing(views: Views, columns: Columns) -> Columns:
    """Put at each NaN what the model would say at the mean rank that the other models give the row.

    A row that no model predicts gets the median of each.
    """
    missing = np.isnan(columns)
    if not missing.any():
        return columns
    rows = np.flatnonzero(missing.any(axis=0))
    ranks = np.stack([d.ranks(c) for d, c in zip(views.distributions, columns[:, rows], strict=True)])
    absent = missing[:, rows]
    ranks[absent] = 0.0
    counts = (~absent).sum(axis=0)
    mean = np.where(counts > 0, ranks.sum(axis=0) / np.maximum(counts, 1), 0.5)
    filled = columns.copy()
    for model, distribution in enumerate(views.distributions):
        here = rows[absent[model]]
        filled[model, here] = distribution.values(mean[absent[model]])
    return filled


def names_of(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """Given names, or model0, model1, …"""
    found = tuple(names) if names is not None else tuple(f"model{index}" for index in range(count))
    if len(found) != count or len(set(found)) != count:
        raise BlendError(f"{count} models need {count} different names; got {len(found)}: {', '.join(found[:5])}.")
    return found
