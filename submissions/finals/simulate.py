"""Simulate the scores of candidates on new rows, using their OOF predictions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.arrays import Matrix
from oof.errors import SubmissionError
from oof.metrics import Metric
from oof.progress import SILENT, Progress

Counts = NDArray[np.int32]
_EDGE = 1e-6  # an AUC of exactly 1, possible with few rows, has no finite logit


@dataclass(frozen=True)
class Scale:
    """The scale on which scores are added: higher is better, and no score leaves its range.

    A harder test set reduces an AUC of 0.7 more than one of 0.99, and no AUC exceeds 1; a common
    step on the logit scale behaves in this way. Losses, which have no upper limit, keep their own scale.
    """

    sign: float
    bounded: bool

    def forward(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Convert from the unit of the metric; NaN stays NaN."""
        scores = np.asarray(scores, dtype=np.float64)
        if self.bounded:
            inside = np.clip(scores, _EDGE, 1 - _EDGE)
            scores = np.log(inside / (1 - inside))
        return self.sign * scores

    def back(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert to the unit of the metric."""
        values = self.sign * values
        return 1 / (1 + np.exp(-values)) if self.bounded else values

    def slope(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Return the derivative of this scale with respect to the score."""
        scores = np.clip(np.asarray(scores, dtype=np.float64), _EDGE, 1 - _EDGE)
        return 1 / (scores * (1 - scores)) if self.bounded else np.ones_like(scores)


def scale_of(metric: Metric) -> Scale:
    """Return the scale of a metric: logit for metrics of the ROC curve, which are in [0, 1]."""
    return Scale(metric.gain(1.0), metric.kind == "ranking")


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """The rows of the OOF predictions. y: (n_rows,) 0 or 1. groups: (n_rows,) groups drawn as a whole, or None."""

    y: NDArray[Any]
    groups: NDArray[Any] | None = None


@dataclass(frozen=True)
class SplitSizes:
    """The number of rows in the public and the private part of a test set, and its share of positives."""

    public_rows: int
    private_rows: int
    positive_share: float


@dataclass(frozen=True, eq=False)
class Scenario:
    """Draws for one share of positives, on the metric's `Scale`.

    positive_share: share among the new rows. scores: (n_candidates,) scores expected there from the OOF rows.
    population, public, private: (draws, n_candidates) deviations with mean 0: of the scores if the
    OOF rows themselves are resampled, and of the scores of a public and a private part.
    """

    positive_share: float
    scores: NDArray[np.float64]
    population: Matrix
    public: Matrix
    private: Matrix

    def only(self, draws: NDArray[np.bool_]) -> "Scenario":
        """Return a subset of the draws."""
        return Scenario(
            self.positive_share, self.scores, self.population[draws], self.public[draws], self.private[draws]
        )


def simulate(
    rows: LabelledRows,
    columns: Sequence[NDArray[Any]],
    split: SplitSizes,
    metric: Metric,
    *,
    draws: int = 1000,
    rng: np.random.Generator,
    progress: Progress = SILENT,
) -> Scenario:
    """Draw public and private parts from the OOF rows, and resample the OOF rows themselves.

    Rows are drawn with replacement, stratified by class. With groups, whole
    groups are drawn, stratified by their classes, until the part has its size on
    average: clips of one source are dependent, so such a part is less informative. All candidates
    are scored on the same drawn rows, which preserves their common errors.

    Args:
        rows: rows of the OOF predictions.
        columns: the OOF predictions of each candidate, (n_rows,) without NaN.
        split: sizes of the two parts of the test set.
        metric: metric of the competition.
        draws: number of draws.
        rng: random number generator.

    Raises:
        SubmissionError: if the rows or the parts have only one class.
    """
    y, positive_share = np.asarray(rows.y), split.positive_share
    own_share = float(y.mean())
    sizes = (len(y), split.public_rows, split.private_rows)
    drawers = [
        _drawer(y, rows.groups, size, share, rng)
        for size, share in zip(sizes, (own_share, positive_share, positive_share), strict=True)
    ]
    score = [metric.on_counted_rows(y, np.asarray(column)) for column in columns]
    found = np.empty((3, draws, len(columns)))
    with progress.task(f"draw test sets ({positive_share:.0%} positive)", total=draws, unit="draw") as task:
        for draw in range(draws):
            for part, drawer in enumerate(drawers):
                counts = drawer()
                found[part, draw] = [function(counts) for function in score]
            task.advance()
    scale = scale_of(metric)
    found = scale.forward(found)
    means = found.mean(axis=1, keepdims=True)
    if positive_share == own_share or not metric.depends_on_prevalence:
        expected = scale.forward(np.array([metric(y, np.asarray(column)) for column in columns]))
    else:
        expected = means[1:, 0].mean(axis=0)
    found -= means
    return Scenario(positive_share, expected, *found)


def _drawer(
    y: NDArray[Any], groups: NDArray[Any] | None, rows: int, share: float, rng: np.random.Generator
) -> Callable[[], Counts]:
    """Return a function that draws a part of about `rows` rows and returns how often each OOF row was drawn."""
    own_share = float(y.mean())
    if not (0 < own_share < 1 and 0 < share < 1):
        raise SubmissionError(
            f"Drawing test sets needs both classes; the OOF rows have {own_share:.1%} positives, {share:.1%} are "
            f"requested. Check the labels and --positive-share."
        )
    units = np.arange(len(y)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    unit_share = np.bincount(units, weights=y) / np.bincount(units)
    kinds = [unit_share == 0, unit_share == 1, (unit_share > 0) & (unit_share < 1)]
    factors = [(1 - share) / (1 - own_share), share / own_share, 1.0]
    strata = []
    for kind, factor in zip(kinds, factors, strict=True):
        members = np.flatnonzero(kind)
        if len(members):
            strata.append((members, max(1, round(factor * len(members) * rows / len(y)))))
    counts = np.zeros(len(unit_share), np.int32)

    def draw() -> Counts:
        for members, size in strata:
            drawn = rng.integers(0, len(members), size=size, dtype=np.uint32)
            counts[members] = np.bincount(drawn, minlength=len(members))
        return counts if groups is None else counts[units]

    return draw
