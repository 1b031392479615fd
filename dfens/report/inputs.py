"""The input of a report: folds, predictions, blends, training histories and the ledger, read once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensemble.blend_store import better_blend, scores_by
from ensemble.summary import BlendSummary
from oof.errors import DfensError
from oof.metrics import Metric
from oof.sealed import Look
from submissions.entry import Entry

MOST_ROWS = 50_000  # rows for pairwise comparisons of models; more would not change any displayed digit


@dataclass(frozen=True, eq=False)
class ModelInput:
    """One model in the store.

    oof: (n_rows,) float32, NaN where there is no prediction. test_by_fold: (n_parts, n_test) or None.
    histories: fold -> history.json, empty for imported predictions; of several seeds those of the first.
    repeats: history.json of the trainings of further seeds and of refits on all rows.
    refit_weight: share of a refit on all rows in the test predictions.
    """

    name: str
    kind: str
    oof: NDArray[np.float32]
    test_by_fold: NDArray[np.float32] | None
    histories: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    repeats: Sequence[Mapping[str, Any]] = ()
    refit_weight: float = 0.0


@dataclass(frozen=True, eq=False)
class BlendInput:
    """One stored blend: blend.json, its predictions in the order of the folds, and the members that changed since.

    command: the command that makes it again.
    """

    name: str
    facts: Mapping[str, Any]
    oof: NDArray[np.float64]
    nested_oof: NDArray[np.float64]
    changed_members: tuple[str, ...] = ()
    command: str = ""

    @property
    def summary(self) -> BlendSummary:
        """The summary for display."""
        return BlendSummary.from_json(self.facts)

    @property
    def weights(self) -> dict[str, float]:
        """Member name -> weight."""
        return {item["name"]: float(item["weight"]) for item in self.facts["members"]}


@dataclass(frozen=True)
class FoldGap:
    """OOF AUC of the linear baseline with random folds, and with whole groups held out (`dfens groups`)."""

    random_auc: float
    group: str
    grouped_auc: float


@dataclass(frozen=True)
class DuplicateSets:
    """Sets of near-duplicates among the training images, and how many of them are in more than one fold."""

    sets: int
    across_folds: int


@dataclass(frozen=True)
class ChosenFinals:
    """The pair that `dfens submissions select` recommended.

    expected: its best-of-two private score. gain: over "best public + best CV"; beats: probability to beat that pair.
    candidates: labels of the submissions that were compared. public_scores: those of the ledger at that time, by name.
    oof: fingerprints of their OOF predictions, by label; empty in results of earlier versions.
    """

    pair: tuple[str, str]
    expected: float
    gain: float
    beats: float
    candidates: tuple[str, ...]
    public_scores: Mapping[str, float]
    oof: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ReportInputs:
    """Everything that a report is computed from.

    ids, target, fold, group: (n_rows,); group is None where folds are not grouped. n_test: rows to predict.
    how: how the folds were made. blends: newest last. problems: sentences about unreadable inputs.
    medals: (name, score) of the last rank that gets each medal, if the leaderboard is known.
    fold_gap, duplicates, finals: stored by other commands, None before them.
    sealed: number of sealed rows. looks: recorded looks at them. looked: phrase stating their number.
    """

    competition: str
    metric: Metric
    made: datetime
    ids: NDArray[np.object_]
    target: NDArray[np.int8]
    fold: NDArray[np.int16]
    group: NDArray[np.object_] | None
    how: Mapping[str, Any]
    n_test: int
    models: Sequence[ModelInput]
    blends: Sequence[BlendInput]
    entries: Sequence[Entry]
    next_command: str
    submissions_per_day: int | None = None
    medals: Sequence[tuple[str, float]] = ()
    fold_gap: FoldGap | None = None
    duplicates: DuplicateSets | None = None
    finals: ChosenFinals | None = None
    problems: Sequence[str] = ()
    sealed: int = 0
    looks: Sequence[Look] = ()
    looked: str = ""

    @property
    def k(self) -> int:
        """Number of folds."""
        return int(self.fold.max()) + 1 if len(self.fold) else 0

    @property
    def newest_blend(self) -> BlendInput | None:
        """The blend that `dfens submit` sends; the other panels describe it too."""
        return self.blends[-1] if self.blends else None

    @cached_property
    def scored(self) -> tuple[str, NDArray[np.float64] | NDArray[np.float32]]:
        """Name and held-out predictions, (n_rows,), that the panels of images and groups describe.

        Those of the newest blend (nested); without a blend, of the best model by the competition's metric. A model
        that the metric cannot score comes last, and there must be a model or a blend.
        """
        if self.newest_blend:
            return self.newest_blend.name, self.newest_blend.nested_oof
        best = max(self.models, key=lambda model: self.gains[model.name])
        return best.name, best.oof

    @cached_property
    def gains(self) -> dict[str, float]:
        """The score of each model by the competition's metric, negated for losses; -inf if it has none."""
        return {model.name: self._gain(model.oof) for model in self.models}

    def _gain(self, oof: NDArray[np.float32]) -> float:
        """Return the score of predictions, negated for losses; -inf if the metric is not defined for them."""
        known = np.isfinite(oof)
        y = self.target[known]
        if not 0 < int(y.sum()) < len(y):
            return -np.inf
        try:
            score = self.metric.gain(self.metric(y, oof[known]))
        except DfensError:  # predictions unsuitable for the metric, such as logits for log loss
            return -np.inf
        return -np.inf if np.isnan(score) else score

    @property
    def better_blend(self) -> tuple[str, float] | None:
        """An earlier blend with a better nested score by the competition's metric, if its members are unchanged."""
        current = [blend.name for blend in self.blends if not blend.changed_members or blend is self.blends[-1]]
        nested = {name: nested for name, (_, nested) in self.blend_scores.items() if name in current}
        name = better_blend(self.metric, nested, current[-1]) if current else None
        return None if name is None else (name, nested[name])

    @cached_property
    def blend_scores(self) -> dict[str, tuple[float, float]]:
        """Score and nested score by the competition's metric of each blend that has them, by name."""
        found = {
            blend.name: scores_by(self.metric, blend.facts, self.target, blend.oof, blend.nested_oof)
            for blend in self.blends
        }
        return {name: scores for name, scores in found.items() if scores is not None}

    @cached_property
    def group_codes(self) -> NDArray[np.intp] | None:
        """A number for the group of each row, (n_rows,), for intervals; None if folds are not grouped."""
        return None if self.group is None else pd.factorize(self.group)[0]

    @cached_property
    def blocks(self) -> tuple[NDArray[np.intp], tuple[str, ...]]:
        """The block of each row, (n_rows,), and the names of the blocks; see `blocks_of`."""
        if self.group is not None:
            codes, names = pd.factorize(self.group, sort=True)
            positives, rows = np.bincount(codes, self.target), np.bincount(codes)
            if ((positives > 0) & (positives < rows)).sum() >= 2:
                return codes.astype(np.intp), tuple(map(str, names))
        return self.fold.astype(np.intp), tuple(map(str, range(self.k)))

    @property
    def blocks_of(self) -> str:
        """What `blocks` are: "groups" or "folds"; groups of one row, or of one class each, cannot be scored."""
        blocks, _ = self.blocks
        return "folds" if self.group is None or np.array_equal(blocks, self.fold) else "groups"

    def sample_rows(self) -> NDArray[np.intp]:
        """Return the rows for comparing many models: all, or `MOST_ROWS` evenly spaced ones (always the same)."""
        if len(self.ids) <= MOST_ROWS:
            return np.arange(len(self.ids))
        return np.sort(np.random.default_rng(0).choice(len(self.ids), MOST_ROWS, replace=False))
