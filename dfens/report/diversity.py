"""Panel "diversity": how the members differ, what each adds, and how the blend grows with their number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from dfens.report.inputs import BlendInput, ReportInputs
from ensemble.diversity import average_ranks, rank_correlations
from ensemble.fit import fit_blend
from oof.errors import DfensError
from oof.metrics.intervals import difference

_GROWTH_ROWS = 8_000  # rows of each fit for the growth curve
_SIZES = (1, 2, 3, 5, 8, 12, 20, 30, 50)
_MOST_FITTED = 12  # members up to which the blend is refitted


@dataclass(frozen=True)
class MemberValue:
    """What one member adds to the newest blend.

    weight: share in the blend. gain: score of the weighted mean of ranks of all members minus that without this one,
    with its 95 % interval (low, high); the other weights keep their proportions and are not refitted.
    """

    name: str
    weight: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class DiversityPanel:
    """Rank correlations of the models in clustered order, the members' values, and the growth of the nested score.

    correlations: (n_models, n_models) by row. growth: (number of members, nested score of their blend), members
    added by decreasing weight. rows: number of rows used.
    """

    names: tuple[str, ...]
    correlations: tuple[tuple[float, ...], ...]
    members: tuple[MemberValue, ...]
    growth: tuple[tuple[int, float], ...]
    blend: str
    rows: int
    growth_rows: int


def diversity_panel(inputs: ReportInputs) -> DiversityPanel | None:
    """Compare the models with each other; None for fewer than two."""
    if len(inputs.models) < 2:
        return None
    rows = inputs.sample_rows()
    oof = np.stack([model.oof[rows] for model in inputs.models], axis=1)
    correlations = rank_correlations(oof)
    order = _clustered(correlations)
    names = [model.name for model in inputs.models]
    blend = inputs.newest_blend
    members: tuple[MemberValue, ...] = ()
    growth: tuple[tuple[int, float], ...] = ()
    if blend is not None and set(blend.weights) <= set(names) and not blend.changed_members:
        members = _member_values(inputs, blend, rows)
        growth = _growth(inputs, blend)
    return DiversityPanel(
        tuple(names[place] for place in order),
        tuple(tuple(round(float(correlations[a, b]), 4) for b in order) for a in order),
        members,
        growth,
        blend.name if blend else "",
        len(rows),
        min(len(inputs.ids), _GROWTH_ROWS),
    )


def _clustered(correlations: NDArray[np.float64]) -> list[int]:
    """Return the order in which similar models are adjacent (average linkage on 1 - correlation)."""
    distance = np.nan_to_num(1 - correlations, nan=1.0)
    distance = np.clip((distance + distance.T) / 2, 0, None)
    np.fill_diagonal(distance, 0)
    return [int(place) for place in leaves_list(linkage(squareform(distance, checks=False), "average"))]


def _member_values(inputs: ReportInputs, blend: BlendInput, rows: NDArray[np.intp]) -> tuple[MemberValue, ...]:
    by_name = {model.name: model for model in inputs.models}
    weights = {name: weight for name, weight in blend.weights.items() if weight > 0}
    values = np.stack([by_name[name].oof[rows] for name in weights], axis=1)
    whole = np.isfinite(values).all(axis=1)
    y = inputs.target[rows][whole]
    if len(weights) < 2 or len(set(y.tolist())) < 2 or inputs.metric.kind != "ranking":
        return ()
    groups = None if inputs.group is None else inputs.group[rows][whole]
    ranks = np.stack([average_ranks(column) for column in values[whole].T])  # (n_members, n_rows)
    share = np.array(list(weights.values()))
    everyone = share @ ranks
    found = []
    for place, name in enumerate(weights):
        gain = difference("auc", y, everyone, everyone - share[place] * ranks[place], groups)
        found.append(MemberValue(name, float(share[place]), gain.gain, gain.low, gain.high))
    return tuple(sorted(found, key=lambda item: -item.weight))


def _growth(inputs: ReportInputs, blend: BlendInput) -> tuple[tuple[int, float], ...]:
    """Return the nested scores of blends of the first 1, 2, 3, … members, refitted on evenly spaced rows."""
    by_name = {model.name: model for model in inputs.models}
    names = sorted((name for name, weight in blend.weights.items() if weight > 0), key=lambda n: -blend.weights[n])
    rows = np.arange(len(inputs.ids))
    if len(rows) > _GROWTH_ROWS:
        rows = np.sort(np.random.default_rng(1).choice(len(rows), _GROWTH_ROWS, replace=False))
    y, folds = inputs.target[rows], inputs.fold[rows]
    sizes: Sequence[int] = [size for size in _SIZES if size < min(len(names), _MOST_FITTED)]
    sizes = [*sizes, min(len(names), _MOST_FITTED)]
    found = []
    for size in dict.fromkeys(sizes):
        oof: NDArray[Any] = np.stack([by_name[name].oof[rows] for name in names[:size]], axis=1)
        try:
            result = fit_blend(oof, y, folds=folds, optimize=inputs.metric.name, seed=0)
        except DfensError:  # a sample with one class in a fold, or a member without rows
            return ()
        found.append((size, round(float(result.nested_score), 6)))
    return tuple(found)
