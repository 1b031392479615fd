"""Correlation of CV and leaderboard scores, and submissions that are outliers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oof.arrays import Vector

_ENOUGH_FOR_OUTLIERS = 6
# robust z; Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993. A fit to few points overfits them,
# so the limit is wider there: with normal noise, 3 % (12 or more points) to 11 % (6 points) of data sets have an
# outlier
_FAR, _FEW = 3.5, 5
_SMALLEST_SPREAD = 2e-4  # smaller deviations do not matter, however well the other points fit


@dataclass(frozen=True)
class Outlier:
    """A submission far from the fitted line.

    position: index in the input. residual: public score minus the one expected from its CV.
    meaning: possible explanation.
    """

    position: int
    residual: float
    meaning: str


@dataclass(frozen=True)
class CvLbCorrelation:
    """Correlation of CV and public scores over the scored submissions.

    count: number of submissions with both scores. rank_correlation: Spearman's; correlation: Pearson's; NaN below 3.
    slope, intercept: Theil-Sen fit of public = intercept + slope x CV (based on medians, so that a few
    outliers do not affect it); NaN below 3. spread: robust standard deviation around the line.
    gap: median of public minus CV. outliers: submissions far from the line. verdict: summary in a sentence.
    """

    count: int
    rank_correlation: float
    correlation: float
    slope: float
    intercept: float
    spread: float
    gap: float
    outliers: tuple[Outlier, ...]
    verdict: str

    def expected_public(self, cv: float) -> float:
        """Return the public score expected for a CV score."""
        return self.intercept + self.slope * cv


def correlate(
    cv: Sequence[float | None], public: Sequence[float | None], *, higher_is_better: bool = True, chance: float = 0.5
) -> CvLbCorrelation:
    """Fit public scores to CV scores.

    Theil-Sen: Theil 1950, Sen 1968 (median of the slopes of all pairs). A submission is an outlier
    if its residual exceeds 3.5 robust standard deviations (1.4826 x median absolute
    residual; more if there are few submissions), from 6 scored submissions on.

    Args:
        cv, public: one number per submission, None or NaN if unknown.
        higher_is_better: direction of the metric.
        chance: the score of uninformative predictions; NaN if the metric has none.
    """
    x_all = np.array([np.nan if value is None else value for value in cv], dtype=np.float64)
    y_all = np.array([np.nan if value is None else value for value in public], dtype=np.float64)
    positions = np.flatnonzero(np.isfinite(x_all) & np.isfinite(y_all))
    x, y = x_all[positions], y_all[positions]
    nan = float("nan")
    gap = float(np.median(y - x)) if len(x) else nan
    if len(x) < 3 or np.ptp(x) == 0:
        few = f"{len(x)} scored submissions with a CV score; comparing CV and public scores needs 3 with different CVs."
        return CvLbCorrelation(len(x), nan, nan, nan, nan, nan, gap, (), few)
    slope, intercept = _line(x, y)
    residuals = y - intercept - slope * x
    freedom = len(x) / (len(x) - 2)
    spread = max(1.4826 * float(np.median(np.abs(residuals))) * freedom**0.5, _SMALLEST_SPREAD)
    outliers: list[Outlier] = []
    if len(x) >= _ENOUGH_FOR_OUTLIERS:
        for place in np.flatnonzero(np.abs(residuals) > _FAR * (1 + _FEW / len(x)) * spread):
            worse = (residuals[place] < 0) == higher_is_better
            meaning = _meaning(float(x[place]), float(y[place]), worse, chance)
            outliers.append(Outlier(int(positions[place]), float(residuals[place]), meaning))
    ranked = _correlation(_ranks(x), _ranks(y))
    return CvLbCorrelation(
        len(x),
        ranked,
        _correlation(x, y),
        slope,
        intercept,
        spread,
        gap,
        tuple(outliers),
        _verdict(len(x), ranked, slope, spread, float(np.ptp(x))),
    )


def _meaning(cv: float, public: float, worse: bool, chance: float) -> str:
    edge = abs(cv - chance)
    if worse and edge > 0.1 and abs(public - chance) < 0.25 * edge:
        return "a bug: the public score is near chance. Are rows mixed up, or is a fold model untrained?"
    if worse and edge > 0.1 and abs((2 * chance - public) - cv) < 0.25 * edge:
        return "a bug: the order is reversed. Is the positive class that of the competition?"
    if worse:
        return (
            "CV too high: a leak (rows of one group in several folds), weights or epochs chosen on the scored rows, "
            "a shift that affects this submission, or test predictions made differently from those of CV"
        )
    return (
        "public score too high: chance on a small public part, tuning on the leaderboard, knowledge of the test rows, "
        "or a CV score that is too low (few rows, or single fold models compared with their mean)"
    )


def _verdict(count: int, ranked: float, slope: float, spread: float, span: float) -> str:
    if span * abs(slope) < spread:
        return (
            f"From the lowest to the highest CV ({span:.5f} apart) the line changes by {span * slope:+.5f}, less than "
            f"the scatter around it ({spread:.5f}): public scores cannot distinguish these submissions."
        )
    if ranked >= 0.7:
        return "CV and public scores agree on the order: trust CV for small differences."
    if ranked >= 0.3:
        return "CV and public scores agree only roughly: look at the outliers before trusting either."
    return (
        f"CV does not predict the public order (rank correlation {ranked:.2f} over {count}): a shift between training "
        f"and test rows, a leak in the folds, or chance. Check the groups of [folds], then compare train and test."
    )


def _line(x: Vector, y: Vector) -> tuple[float, float]:
    first, second = np.triu_indices(len(x), 1)
    run = x[second] - x[first]
    sloped = run != 0
    slope = float(np.median((y[second] - y[first])[sloped] / run[sloped]))
    return slope, float(np.median(y - slope * x))


def _ranks(values: Vector) -> Vector:
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(len(values), dtype=np.float64)
    _, group = np.unique(values, return_inverse=True)
    means: Vector = np.bincount(group, ranks) / np.bincount(group)
    return means[group]


def _correlation(x: Vector, y: Vector) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
