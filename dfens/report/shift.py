"""Panel "shift": how test predictions differ from OOF predictions, and how scores differ between groups."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfens.report.inputs import ReportInputs
from ensemble.shift import ModelShift, adversarial_auc, model_shifts
from oof.metrics import roc_auc

_BINS = 40
MOST_GROUPS = 20
FEWEST_ROWS = 20  # minimum number of rows for a meaningful AUC of a group


@dataclass(frozen=True)
class ScoreHistograms:
    """Distributions of one model's OOF and test predictions.

    auc: probability that a test prediction is higher than an OOF prediction, 0.5 if they are distributed equally.
    distance: Kolmogorov-Smirnov distance. oof, test: shares of rows in up to 40 bins between `low` and `high`.
    reasons: what looks broken, in sentences.
    """

    name: str
    auc: float
    distance: float
    low: float
    high: float
    oof: tuple[float, ...]
    test: tuple[float, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class GroupScore:
    """AUC of the newest blend (otherwise of the best model) within one group."""

    group: str
    rows: int
    positives: int
    auc: float


@dataclass(frozen=True)
class ShiftPanel:
    """Shift of every model with test predictions, and the scores of the largest groups.

    adversarial: (AUC, low, high) of a classifier that separates OOF from test rows by all predictions together; None
    if no model has test predictions. groups_of: "groups" or "folds". without_test: models that lack some or all.
    """

    models: tuple[ScoreHistograms, ...]
    adversarial: tuple[float, float, float] | None
    groups: tuple[GroupScore, ...]
    groups_of: str
    scored: str
    without_test: tuple[str, ...]


def shift_panel(inputs: ReportInputs) -> ShiftPanel | None:
    """Compare OOF with test predictions; None if there are no models."""
    if not inputs.models:
        return None
    rows = inputs.sample_rows()
    having = [model for model in inputs.models if _is_whole(model.test_by_fold) and np.isfinite(model.oof[rows]).any()]
    shifts: tuple[ScoreHistograms, ...] = ()
    adversarial = None
    if having and inputs.n_test:
        tests = np.arange(inputs.n_test)
        if len(tests) > len(rows):
            tests = np.sort(np.random.default_rng(0).choice(len(tests), len(rows), replace=False))
        oof = np.stack([model.oof[rows] for model in having], axis=1)
        test = np.stack([_parts(model.test_by_fold, tests) for model in having], axis=1)
        found = model_shifts(oof, test)
        shifts = tuple(
            _row(model.name, oof[:, place], test[:, place], moved)
            for place, (model, moved) in enumerate(zip(having, found, strict=True))
        )
        known = np.isfinite(oof).all(axis=1)
        if known.sum() >= 50 and len(tests) >= 50:
            interval = adversarial_auc(oof[known], test)
            adversarial = (interval.score, interval.low, interval.high)
    scored, scores = inputs.scored
    return ShiftPanel(
        shifts,
        adversarial,
        _group_scores(inputs, scores),
        inputs.blocks_of,
        scored,
        tuple(model.name for model in inputs.models if not _is_whole(model.test_by_fold)),
    )


def _is_whole(test_by_fold: NDArray[np.float32] | None) -> bool:
    return test_by_fold is not None and bool(np.isfinite(test_by_fold).all())


def _parts(test_by_fold: NDArray[np.float32] | None, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return one fold model's predictions per row, cycling through them, since a mean has a narrower distribution."""
    assert test_by_fold is not None
    return test_by_fold[rows % len(test_by_fold), rows]


def _row(
    name: str,
    oof: NDArray[np.float32],
    test: NDArray[np.float32],
    moved: ModelShift,
) -> ScoreHistograms:
    known = oof[np.isfinite(oof)]
    low, high = float(min(known.min(), test.min())), float(max(known.max(), test.max()))
    bins = int(np.clip(min(len(known), len(test)) ** 0.5, 8, _BINS))
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    shares = [np.histogram(values, edges)[0] / len(values) for values in (known, test)]
    oof_share, test_share = (tuple(round(float(value), 5) for value in share) for share in shares)
    return ScoreHistograms(name, moved.auc, moved.distance, low, high, oof_share, test_share, moved.reasons)


def _group_scores(inputs: ReportInputs, scores: NDArray[np.float64] | NDArray[np.float32]) -> tuple[GroupScore, ...]:
    """Return the AUC within the largest groups that contain both classes, the weakest first."""
    blocks, names = inputs.blocks
    known = np.isfinite(scores)
    blocks, y, values = blocks[known], inputs.target[known], scores[known]
    rows, positives = np.bincount(blocks, minlength=len(names)), np.bincount(blocks, y, len(names))
    mixed = np.flatnonzero((positives > 0) & (positives < rows) & (rows >= FEWEST_ROWS))
    largest = mixed[np.argsort(-rows[mixed], kind="stable")][:MOST_GROUPS]
    found = [
        GroupScore(names[g], int(rows[g]), int(positives[g]), roc_auc(y[blocks == g], values[blocks == g]))
        for g in largest
    ]
    return tuple(sorted(found, key=lambda item: item.auc))
