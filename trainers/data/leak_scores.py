"""Score how well a single property of files separates the classes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from oof.metrics.intervals import score_interval

Kind = Literal["number", "category"]

WEAK, STRONG = 0.6, 0.75  # AUC from which a property hints at a class, and from which it separates them
_LEAST_PER_CLASS = 3
_FOLDS = 5
_PRIOR_ROWS = 5  # pseudo-count that shrinks small categories toward the base rate
_BINS = 10
_LEAST_BINNED = 100
_MOST_EXACT = 100  # rows up to which the rank test is exact

Target = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Property:
    """One property of all files.

    name: name with unit. values: (n_rows,) numbers, NaN if a file has none; or texts, "" if it has
    none. advice: what to do if it separates the classes.
    """

    name: str
    values: NDArray[np.float64] | NDArray[np.object_]
    advice: str

    @property
    def kind(self) -> Kind:
        """Return whether values are numbers or categories."""
        return "number" if self.values.dtype.kind == "f" else "category"


@dataclass(frozen=True)
class PropertyScore:
    """How well a single property separates real from fake.

    rows: number of files that have it. auc: 0.5 to 1, whichever class has the higher values. low, high: interval,
    corrected for the number of properties. how: "order" (one class has higher values), or "groups" (values or ranges
    of values, scored by the share of fakes among other files). is_beyond_chance: whether the interval is above 0.5
    or, without groups, a rank test rejects independence at the same level; with a dozen files of each class, the
    interval of an AUC of 1 still includes 0.5. real, fake: the typical value of each class.
    """

    name: str
    kind: Kind
    rows: int
    auc: float
    low: float
    high: float
    how: Literal["order", "groups"]
    is_beyond_chance: bool
    real: str
    fake: str
    advice: str = field(repr=False)

    @property
    def verdict(self) -> Literal["separates", "hints", "clean"]:
        """Return whether the property separates the classes, hints at them, or does neither."""
        if not self.is_beyond_chance or self.auc < WEAK:
            return "clean"
        return "separates" if self.auc >= STRONG else "hints"


def count_tests(properties: Sequence[Property]) -> int:
    """Return how many scores `score_property` computes at most; the interval is corrected for as many."""
    return sum(2 if item.kind == "number" else 1 for item in properties)


def score_property(
    item: Property, target: Target, groups: NDArray[Any] | None, *, confidence_level: float, seed: int = 0
) -> PropertyScore | None:
    """Return the score of one property, or None if it is the same for all files or too few have it.

    Numbers are scored by their order, and by ranges of values, which detects non-monotone dependence; the better
    score is used. Categories and ranges are scored by the share of fakes among files of the same category in other
    folds, minus the overall share: an uninformative category gets 0 everywhere, however rare or common.

    Args:
        item: the property, with n_rows values.
        target: (n_rows,) 0 or 1.
        groups: (n_rows,) groups of dependent files, or None.
        confidence_level: level of the interval, already corrected for the number of properties.
        seed: seed of the folds.
    """
    has_it = np.isfinite(item.values) if item.kind == "number" else np.ones(len(target), bool)
    values, y = item.values[has_it], target[has_it]
    inside = None if groups is None else groups[has_it]
    if len(set(values.tolist())) < 2 or np.bincount(y, minlength=2).min() < _LEAST_PER_CLASS:
        return None
    found: list[tuple[float, float, float, Literal["order", "groups"], bool]] = []

    def add(scores: NDArray[np.float64], how: Literal["order", "groups"]) -> None:
        interval = score_interval("auc", y, scores, inside, confidence_level=confidence_level)
        low, high, auc = interval.low, interval.high, interval.score
        if how == "order" and auc < 0.5:
            low, high, auc = 1 - high, 1 - low, 1 - auc
        certain = low > 0.5 or (inside is None and auc > 0.5 and _rank_p_value(y, scores) < 1 - confidence_level)
        found.append((auc, low, high, how, certain))

    if item.kind == "number":
        numbers = values.astype(np.float64)
        add(numbers, "order")
        if len(numbers) >= _LEAST_BINNED:
            add(_held_out_rates(_bins(numbers), y, inside, seed), "groups")
    else:
        _, code = np.unique(values.astype(str), return_inverse=True)
        add(_held_out_rates(code, y, inside, seed), "groups")
    auc, low, high, how, certain = max(found, key=lambda one: (one[4], one[1]))
    real, fake = (_typical(values[y == label], item.kind) for label in (0, 1))
    return PropertyScore(item.name, item.kind, len(y), auc, low, high, how, certain, real, fake, item.advice)


def _rank_p_value(y: Target, scores: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of the Mann-Whitney test, exact for few rows without ties."""
    is_exact = len(scores) <= _MOST_EXACT and len(np.unique(scores)) == len(scores)
    method: Literal["exact", "asymptotic"] = "exact" if is_exact else "asymptotic"
    return float(mannwhitneyu(scores[y == 1], scores[y == 0], method=method).pvalue)


def _bins(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return ten ranges with equal numbers of values, or each distinct value if there are few."""
    distinct, code = np.unique(values, return_inverse=True)
    if len(distinct) <= _BINS:
        return np.asarray(code)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1]))
    return np.searchsorted(edges, values, side="left")


def _held_out_rates(code: NDArray[np.intp], y: Target, groups: NDArray[Any] | None, seed: int) -> NDArray[np.float64]:
    """Return the share of fakes in each row's category in the other folds, minus their base rate; shape (n_rows,)."""
    fold = _folds(y, groups, seed)
    rates = np.empty(len(y))
    for index in range(_FOLDS):
        inside = fold == index
        known = code[~inside]
        count = np.bincount(known, minlength=code.max() + 1)
        positive = np.bincount(known, weights=y[~inside], minlength=code.max() + 1)
        base = y[~inside].mean() if len(known) else 0.5
        rates[inside] = ((positive + _PRIOR_ROWS * base) / (count + _PRIOR_ROWS) - base)[code[inside]]
    return np.round(rates, 12)  # rounding makes rates equal to the base rate exact ties


def _folds(y: Target, groups: NDArray[Any] | None, seed: int) -> NDArray[np.intp]:
    """Return a random stratified fold for each row; groups are not split."""
    rng = np.random.default_rng(seed)
    fold = np.empty(len(y), np.intp)
    if groups is not None:
        _, of = np.unique(np.asarray(groups).astype(str), return_inverse=True)
        return np.asarray(rng.permutation(of.max() + 1)[of] % _FOLDS)
    for label in (0, 1):
        rows = np.flatnonzero(y == label)
        fold[rng.permutation(rows)] = np.arange(len(rows)) % _FOLDS
    return fold


def _typical(values: NDArray[Any], kind: Kind) -> str:
    """Return the median of numbers, or the most frequent category and its share."""
    if kind == "number":
        median = float(np.median(values))
        return f"{median:,.0f}" if abs(median) >= 10_000 else f"{median:.4g}"
    name, count = Counter(values.tolist()).most_common(1)[0]
    return f"{name or 'none'} ({count / len(values):.0%})"
