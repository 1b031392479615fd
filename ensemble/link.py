"""The link function: the log-odds of a row as a smooth function of its score, learned from the data.

A weighted sum of predictions may order rows well although its sigmoid is not the correct
probability: if models make confident errors, the true log-odds flatten at both ends.
Fitting the weights with a plain sigmoid would then distort them. With a learned link they depend
only on the order, as AUC does (a single-index model; Ichimura 1993), and there is still a likelihood,
so that shrinkage can be estimated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.kernels import smooth_log_odds
from oof.arrays import Vector

BINS = 2048
_NODES = 48


@dataclass(frozen=True, eq=False)
class Link:
    """Log-odds on an evenly spaced grid of scores: values[i] at low + i / per_unit; slopes are the derivative."""

    low: float
    per_unit: float
    values: Vector
    slopes: Vector
    smoothness: float = 1.0

    def odds(self, scores: NDArray[Any]) -> Vector:
        """Return the log-odds of scores, extrapolated linearly beyond the grid so that the order is preserved."""
        at = (np.asarray(scores, np.float64) - self.low) * self.per_unit
        place = np.clip(at.astype(np.int64), 0, len(self.values) - 2)
        found: Vector = self.values[place] + (at - place) * (self.values[place + 1] - self.values[place])
        return found

    def rescaled(self, factor: float) -> "Link":
        """Return the same log-odds for scores multiplied by a factor."""
        return Link(self.low * factor, self.per_unit / factor, self.values, self.slopes / factor, self.smoothness)

    def to_json(self) -> dict[str, Any]:
        """Return the log-odds as JSON values; slopes and smoothness are only needed for fitting."""
        return {"low": self.low, "per_unit": self.per_unit, "values": self.values.tolist()}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Link":
        """Return what `to_json` wrote."""
        values = np.array(value["values"], np.float64)
        return Link(value["low"], value["per_unit"], values, np.gradient(values) * value["per_unit"])


def sigmoid_link(low: float, high: float, positives: Vector, negatives: Vector) -> Link:
    """Return the link "score plus intercept", with the intercept that gives the observed number of positives."""
    per_unit = BINS / max(high - low, 1e-9)
    at = low + (np.arange(BINS) + 0.5) / per_unit
    rows = positives + negatives
    wanted = positives.sum()
    share = wanted / rows.sum()
    intercept = float(np.log(share / (1 - share)) - (rows @ at) / rows.sum())
    for _ in range(50):
        chance = 1.0 / (1.0 + np.exp(-np.clip(at + intercept, -500, 500)))
        curvature = rows @ (chance * (1 - chance))
        step = np.clip((wanted - rows @ chance) / max(curvature, 1e-9), -2.0, 2.0)
        intercept += float(step)
        if abs(step) < 1e-9:
            break
    grid = low + np.arange(BINS + 1) / per_unit
    return Link(low, per_unit, grid + intercept, np.ones(BINS + 1))


def learnt_link(low: float, high: float, positives: Vector, negatives: Vector, start: Link | None = None) -> Link:
    """Fit a penalised spline to the counts of both classes, with the smoothness of maximum marginal likelihood.

    Args:
        low, high: range of the scores. positives, negatives: (BINS,) rows in each of BINS equal bins.
        start: link of similar scores as the initial value.
    """
    per_unit = BINS / max(high - low, 1e-9)
    at = low + (np.arange(BINS) + 0.5) / per_unit
    cell = _cells(positives + negatives, _NODES)
    rows = np.bincount(cell, positives + negatives).astype(np.float64)
    wins = np.bincount(cell, positives).astype(np.float64)
    centres = np.bincount(cell, (positives + negatives) * at) / rows
    if len(rows) < 4:
        return sigmoid_link(low, high, positives, negatives)
    place = (np.cumsum(rows) - rows / 2) / rows.sum()
    along = np.log(place / (1 - place))
    share = wins.sum() / rows.sum()
    odds = np.log(share / (1 - share)) + along - (rows @ along) / rows.sum() if start is None else start.odds(centres)
    smoothness = 1.0 if start is None else start.smoothness
    odds, smoothness = smooth_log_odds(rows, wins, _bending(along), odds, smoothness, 25)
    grid = low + np.arange(BINS + 1) / per_unit
    slope = np.gradient(odds, centres)
    least = 0.01 * np.abs(slope).mean() + 1e-9
    slope = np.maximum(slope, least)
    rise = least * centres
    odds = np.maximum.accumulate(odds - rise) + rise  # a higher score never has a lower probability
    values = np.interp(grid, centres, odds)
    under, over = grid < centres[0], grid > centres[-1]
    values[under] += slope[0] * (grid[under] - centres[0])
    values[over] += slope[-1] * (grid[over] - centres[-1])
    return Link(low, per_unit, values, np.interp(grid, centres, slope), smoothness)


def _cells(rows: Vector, wanted: int) -> NDArray[np.intp]:
    """Group bins into non-empty cells that are evenly spaced in the log-odds of the rank."""
    total = rows.sum()
    reach = np.log(max(total / 4.0, 2.0))
    edges = 1.0 / (1.0 + np.exp(-np.linspace(-reach, reach, wanted + 1)[1:-1]))
    place = (np.cumsum(rows) - rows / 2) / total
    cell = np.searchsorted(edges, place)
    held = np.bincount(cell, rows, minlength=wanted) > 0
    compact = np.maximum(np.cumsum(held) - 1, 0)
    return np.asarray(compact[cell])


def even_cells(rows: Vector, wanted: int) -> NDArray[np.int64]:
    """Group bins into cells with about the same number of rows."""
    place = (np.cumsum(rows) - rows / 2) / rows.sum()
    cells: NDArray[np.int64] = np.clip(place * wanted, 0, wanted - 1).astype(np.int64)
    return cells


def _bending(along: Vector) -> NDArray[np.float64]:
    """Return diagonal and two off-diagonals, (3, nodes), of the squared second differences on an uneven grid."""
    gaps = np.diff(along)
    weight = 1.0 / np.sqrt((gaps[:-1] + gaps[1:]) / 2)
    first, middle, last = weight / gaps[:-1], -weight * (1 / gaps[:-1] + 1 / gaps[1:]), weight / gaps[1:]
    bands = np.zeros((3, len(along)))
    bands[0, :-2] += first**2
    bands[0, 1:-1] += middle**2
    bands[0, 2:] += last**2
    bands[1, :-2] += first * middle
    bands[1, 1:-1] += middle * last
    bands[2, :-2] += first * last
    return bands
