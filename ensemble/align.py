"""Detect fold models on different scales, and map them to a common scale if that improves the nested score.

Each row's OOF prediction comes from the model of its own fold. If the fold models of a
member are calibrated differently, pooled predictions mix scales, and weights fitted to them
fit noise. As measured in docs/blending.md, without such drift, ranks over all rows score as
well as ranks within each fold or better; with it, much worse. Therefore nested scores
decide.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ensemble.auc import auc_of_classes
from ensemble.methods import TRIAL, fit_method
from ensemble.table import BinaryTable
from ensemble.transforms import Columns, Distribution, FittedTransforms, fit_distribution
from oof.metrics.intervals import difference

_SUSPECT = 2.0  # root mean square of the standardised differences of fold means; 1 without drift
_LEAST_ROWS = 100  # minimum number of rows in a fold to estimate its distribution


@dataclass(frozen=True, eq=False)
class Alignment:
    """The distribution function of each fold model, by fold and model, used to map it to the scale of all rows."""

    by_fold: tuple[tuple[Distribution, ...], ...]

    @cached_property
    def of_mean(self) -> tuple[Distribution, ...]:
        """Return the distribution function of the mean over the fold models, for each model.

        The fold models of a model order rows in nearly the same way, so a row at rank u for each of them has the mean
        of their predictions at rank u.
        """
        found = []
        for model in range(len(self.by_fold[0])):
            parts = [fold[model] for fold in self.by_fold]
            ranks = np.unique(np.concatenate([part.cdf for part in parts]))
            means = np.mean([np.interp(ranks, part.cdf, part.knots) for part in parts], axis=0)
            knots, first = np.unique(means, return_index=True)
            found.append(Distribution(knots, ranks[first]))
        return tuple(found)

    def apply(self, columns: Columns, fold: int | None, transforms: FittedTransforms) -> Columns:
        """Return predictions on the common scale, (n_models, n_rows).

        Args:
            columns: (n_models, n_rows) predictions by the models of one fold, or means over the fold models.
            fold: the fold; None for means.
            transforms: fitted transforms of the models, which define the common scale.
        """
        distributions = self.of_mean if fold is None else self.by_fold[fold]
        out = np.empty_like(columns)
        for model, distribution in enumerate(distributions):
            out[model] = transforms.distributions[model].values(distribution.ranks(columns[model]))
        return out


def drift(table: BinaryTable) -> float:
    """Return how much the fold models differ: about 1 if the mean ranks of each class vary only by chance."""
    begins = [segment.begin for segment in table.segments]
    sizes = np.array([segment.end - segment.begin for segment in table.segments])
    labels = np.array([segment.label for segment in table.segments])
    means = np.add.reduceat(table.ranks, begins, axis=1, dtype=np.float64) / sizes
    found = []
    for label, rows in ((0, slice(0, table.split)), (1, slice(table.split, None))):
        inside = labels == label
        ranks = table.ranks[:, rows]
        spread = ranks.std(axis=1, dtype=np.float64) + 1e-9
        centre = ranks.mean(axis=1, dtype=np.float64)
        found.append((means[:, inside] - centre[:, None]) / spread[:, None] * np.sqrt(sizes[inside]))
    return float(np.sqrt(np.mean(np.concatenate(found, axis=1) ** 2)))


def align_folds(table: BinaryTable, groups: NDArray[np.intp] | None = None) -> tuple[BinaryTable, Alignment | None]:
    """Map fold models to one scale if they drift and the nested score improves by at least one standard error."""
    rows_by_fold = np.bincount(table.fold, minlength=table.k)
    if table.k < 2 or rows_by_fold.min() < _LEAST_ROWS or drift(table) < _SUSPECT:
        return table, None
    aligned = np.empty_like(table.columns)
    by_fold = []
    for fold in range(table.k):
        rows = np.flatnonzero(table.fold == fold)
        inside = np.ascontiguousarray(table.columns[:, rows])
        by_fold.append(tuple(fit_distribution(column) for column in inside))
        aligned[:, rows] = Alignment((by_fold[-1],)).apply(inside, 0, table.transforms)
    other = replace(table, columns=aligned)
    before, after = fit_method(TRIAL, table).nested, fit_method(TRIAL, other).nested
    if _auc(table, after) <= _auc(table, before):
        return table, None
    gap = difference("auc", table.y, after, before, groups)
    if not gap.gain > gap.standard_error:
        return table, None
    return other, Alignment(tuple(by_fold))


def _auc(table: BinaryTable, scores: NDArray[np.float32]) -> float:
    return auc_of_classes(scores[: table.split], scores[table.split :])
