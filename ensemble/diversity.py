"""Measure the diversity of the members of a blend, and find those that it does not need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.arrays import Matrix, Vector
from oof.errors import BlendError
from oof.metrics import Metric, roc_auc
from oof.metrics.intervals import Difference, difference
from oof.progress import SILENT, Progress

Blend = Callable[[Sequence[int]], NDArray[Any]]


def average_ranks(values: NDArray[Any]) -> Vector:
    """Return ranks 1 … n of values without NaN, ties averaged; about 4 times as fast as scipy's."""
    order = np.argsort(values)
    ordered = values[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.diff(np.append(begins, len(values)))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(begins + (counts + 1) / 2, counts)
    return ranks


def rank_correlations(oof: NDArray[Any]) -> Matrix:
    """Return Spearman's rank correlation of each pair of members, shape (n_models, n_models).

    The members of a good blend are each good but different: one with a correlation of 1 adds nothing.

    Args:
        oof: (n_rows, n_models), NaN for no prediction. Two members are compared
            on the rows that both predict.

    Returns:
        1 on the diagonal; NaN if a member is constant or two members share fewer than 3 rows.
    """
    oof = np.asarray(oof)
    present = ~np.isnan(oof)
    found = np.full((oof.shape[1], oof.shape[1]), np.nan)
    # members that cover the same rows are ranked once and compared together
    patterns: dict[bytes, list[int]] = {}
    for model in range(oof.shape[1]):
        patterns.setdefault(np.packbits(present[:, model]).tobytes(), []).append(model)
    blocks = list(patterns.values())
    for position, block in enumerate(blocks):
        rows = present[:, block[0]]
        found[np.ix_(block, block)] = _correlations(oof[np.ix_(rows, block)])
        for other in blocks[position + 1 :]:
            shared = rows & present[:, other[0]]
            both = _correlations(oof[np.ix_(shared, [*block, *other])])[: len(block), len(block) :]
            found[np.ix_(block, other)] = both
            found[np.ix_(other, block)] = both.T
    return found


def _correlations(values: NDArray[Any]) -> Matrix:
    if len(values) < 3:
        return np.full((values.shape[1], values.shape[1]), np.nan)
    ranks = np.stack([average_ranks(np.ascontiguousarray(column)) for column in values.T])
    ranks -= ranks.mean(axis=1, keepdims=True)
    length = np.sqrt((ranks**2).sum(axis=1))
    length[length == 0] = np.nan
    ranks /= length[:, None]
    correlations: Matrix = np.clip(ranks @ ranks.T, -1, 1)
    np.fill_diagonal(correlations, np.where(np.isnan(length), np.nan, 1.0))
    return correlations


@dataclass(frozen=True)
class Duplicate:
    """A member that ranks rows like a better one: its column, the better one's column, their correlation."""

    member: int
    of: int
    correlation: float


def duplicate_members(y: NDArray[Any], oof: NDArray[Any], *, at_least: float = 0.999) -> list[Duplicate]:
    """Return the members that duplicate a better one, by rank correlation.

    Members are visited in order of decreasing AUC; a member whose correlation with an earlier, retained one is at
    least the threshold is its duplicate. Members that cover more rows take precedence.

    Args:
        y: (n_rows,) 0 or 1.
        oof: (n_rows, n_models), NaN for no prediction.
        at_least: rank correlation from which two members are duplicates.
    """
    oof = np.asarray(oof)
    correlations = rank_correlations(oof)
    present = ~np.isnan(oof)
    quality = [(int(present[:, m].sum()), _auc_or_half(y, oof[:, m], present[:, m])) for m in range(oof.shape[1])]
    kept: list[int] = []
    found = []
    for member in sorted(range(oof.shape[1]), key=lambda m: quality[m], reverse=True):
        close = [other for other in kept if correlations[member, other] >= at_least]
        if close:
            nearest = max(close, key=lambda other: correlations[member, other])
            found.append(Duplicate(member, nearest, float(correlations[member, nearest])))
        else:
            kept.append(member)
    return sorted(found, key=lambda duplicate: duplicate.member)


def _auc_or_half(y: NDArray[Any], scores: NDArray[Any], rows: NDArray[np.bool_]) -> float:
    target = np.asarray(y)[rows]
    return roc_auc(target, scores[rows]) if 0 < target.sum() < len(target) else 0.5


@dataclass(frozen=True)
class MemberGain:
    """The gain of a blend from one member: score of the full blend minus that without the member."""

    member: int
    gain: Difference


def leave_one_out(
    y: NDArray[Any],
    blend: Blend,
    n_models: int,
    *,
    groups: NDArray[Any] | None = None,
    metric: str | Metric = "auc",
    progress: Progress = SILENT,
) -> list[MemberGain]:
    """Return the gain from each member, with interval and p-value, the least useful member first.

    Args:
        y: (n_rows,).
        blend: returns the blend of some members (columns in ascending order), (n_rows,). For unbiased
            results it should return nested predictions, `fit_blend(oof[:, columns], …).nested_oof`.
        n_models: number of members, at least 2.
        groups: (n_rows,); rows of one group are treated as dependent.
        metric: metric to compare.
    """
    if n_models < 2:
        raise BlendError("Leaving out a member requires a blend of at least 2 members.")
    everyone = list(range(n_models))
    found = []
    with progress.task("leave one out", total=n_models + 1, unit="blend") as task:
        whole = blend(everyone)
        task.advance()
        for member in everyone:
            without = blend([other for other in everyone if other != member])
            found.append(MemberGain(member, difference(metric, y, whole, without, groups)))
            task.advance()
    return sorted(found, key=lambda item: item.gain.gain)


def prune_members(
    y: NDArray[Any],
    blend: Blend,
    n_models: int,
    *,
    groups: NDArray[Any] | None = None,
    metric: str | Metric = "auc",
    at_least: int = 1,
    progress: Progress = SILENT,
) -> list[int]:
    """Return the members that remain after dropping those that do not improve the blend, in ascending order.

    Members are visited from the least useful up. A member is dropped if the blend without it is better
    than the best blend so far, or within one standard error of the difference to it (if two blends do
    not differ significantly, the simpler one is preferred). This costs at most 2 n_models blends.
    Arguments as in `leave_one_out`.
    """
    kept = list(range(n_models))
    if n_models <= at_least:
        return kept
    gains = leave_one_out(y, blend, n_models, groups=groups, metric=metric, progress=progress)
    best = blend(kept)
    with progress.task("drop members", total=n_models, unit="blend") as task:
        for item in gains:
            if len(kept) <= at_least:
                break
            without = [member for member in kept if member != item.member]
            rest = blend(without)
            lost = difference(metric, y, best, rest, groups)
            if lost.gain <= lost.standard_error:
                kept = without
            if lost.gain < 0:
                best = rest
            task.advance()
    return kept
