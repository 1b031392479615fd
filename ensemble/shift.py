"""Compare test predictions with out-of-fold ones: detect broken inference, and weight OOF rows like the test set.

Each OOF prediction comes from one fold model, while test predictions are often means over the fold models,
whose distribution is narrower. If the predictions of each fold model are available, pass them as
(k, n_test, n_models): they are then compared without averaging.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ensemble.diversity import rank_correlations
from ensemble.transforms import fit_distribution
from oof.arrays import Vector
from oof.errors import BlendError
from oof.metrics import roc_auc
from oof.metrics.intervals import Interval, score_interval

_MOST_ROWS = 20_000  # maximum number of rows of each kind used to estimate the shift
_FOLDS = 4
# a shift of the data affects all models; a model that shifts alone, or by this much, is broken
_FAR = 0.5
_FAR_ALONE = 0.1
_FAR_ALONE_RATIO = 3.0
_LOST_AGREEMENT = 0.2  # loss of agreement in excess of the other models'
_LOST_AGREEMENT_OF_TWO = 0.4  # with two models, it is unclear which one is broken
_BEYOND = 0.01
_MARGIN = 0.1  # of the range of OOF predictions: the extremes of a few hundred rows are exceeded by chance


@dataclass(frozen=True)
class ModelShift:
    """The difference between one model's test and OOF predictions.

    auc: probability that a test prediction is higher than an OOF prediction; 0.5 if they are distributed equally.
    distance: Kolmogorov-Smirnov distance of the two distributions, 0 to 1.
    beyond: share of test predictions outside the range of the OOF predictions, widened by a tenth on each side.
    oof_agreement, test_agreement: median rank correlation with the other models, NaN for one model.
    reasons: sentences on what looks broken; empty if nothing does.
    """

    auc: float
    distance: float
    beyond: float
    oof_agreement: float
    test_agreement: float
    reasons: tuple[str, ...]


def model_shifts(oof: NDArray[Any], test: NDArray[Any]) -> list[ModelShift]:
    """Compare each model's test predictions with its OOF predictions, in the order of the columns.

    This detects typical mistakes at inference: different preprocessing (shifted distribution), rows
    joined in the wrong order (same distribution, but no agreement with the other models), a
    forgotten sigmoid (values out of range), constant predictions.

    Args:
        oof: (n_rows, n_models), NaN for no prediction.
        test: (n_test, n_models), or (k, n_test, n_models) by fold model.
    """
    oof, test = _checked(oof, test)
    stacked = test.reshape(-1, test.shape[-1])
    distances = [_distance(_present(a), _present(b)) for a, b in zip(oof.T, stacked.T, strict=True)]
    there, here = _agreement(oof), _agreement(stacked)
    lost = there - here
    found = []
    for model, distance in enumerate(distances):
        known, new = _present(oof[:, model]), _present(stacked[:, model])
        labels = np.repeat(np.array([0, 1], np.uint8), [len(known), len(new)])
        auc = roc_auc(labels, np.concatenate([known, new]))
        margin = _MARGIN * (known.max() - known.min())
        beyond = float(((new < known.min() - margin) | (new > known.max() + margin)).mean())
        others = [value for other, value in enumerate(distances) if other != model]
        reasons = _reasons(new, distance, others, beyond, len(known))
        reasons += _disagreements(float(lost[model]), np.delete(lost, model))
        found.append(ModelShift(auc, distance, beyond, float(there[model]), float(here[model]), reasons))
    return found


def _reasons(new: NDArray[Any], distance: float, others: list[float], beyond: float, n_known: int) -> tuple[str, ...]:
    reasons = []
    if new.min() == new.max():
        reasons.append(f"all test predictions are {new[0]:g}")
    if beyond > max(_BEYOND, 10 / n_known):
        reasons.append(f"{100 * beyond:.1f} % of the test predictions are outside the range of OOF")
    typical = float(np.median(others)) if others else 0.0
    if distance > _FAR:
        reasons.append(f"test predictions are far from OOF (distance {distance:.2f})")
    elif len(others) >= 2 and distance > max(_FAR_ALONE, _FAR_ALONE_RATIO * typical):
        reasons.append(
            f"test predictions are shifted (distance {distance:.2f}), more than those of the other models "
            f"({typical:.2f})"
        )
    return tuple(reasons)


def _disagreements(lost: float, others: Vector) -> tuple[str, ...]:
    """Detect rows in the wrong order, which preserve the distribution but not the agreement with other models.

    Harder rows in the test set reduce the agreement of all models, so a model is compared with the others.
    """
    others = others[~np.isnan(others)]
    if len(others) >= 2 and lost - np.median(others) > _LOST_AGREEMENT:
        return (f"agrees with the other models on OOF, but less on test (rank correlation lower by {lost:.2f})",)
    if len(others) == 1 and lost > _LOST_AGREEMENT_OF_TWO:
        return (f"the two models agree on OOF, but less on test (rank correlation lower by {lost:.2f})",)
    return ()


def fold_agreement(test_by_fold: NDArray[Any]) -> Vector:
    """Return the rank correlation of each fold model's test predictions with the mean of the others, shape (k,).

    Fold models with the same settings agree; one that was loaded incorrectly or not trained does not.

    Args:
        test_by_fold: (k, n_test) predictions of one model.
    """
    parts = np.asarray(test_by_fold, np.float64)
    total = parts.sum(axis=0)
    found = [
        rank_correlations(np.column_stack([part, (total - part) / max(1, len(parts) - 1)]))[0, 1] for part in parts
    ]
    return np.array(found, np.float64)


def adversarial_auc(oof: NDArray[Any], test: NDArray[Any], *, rng: np.random.Generator | None = None) -> Interval:
    """Return how well the predictions of all models jointly separate OOF and test rows, as an AUC.

    0.5 means not at all. A logistic regression on normal scores, their squares and the distance of each
    model from the others is cross-validated (4 folds, at most 20,000 rows of each kind).
    """
    generator = _rng(rng)
    values, labels, units, _ = _sample(*_checked(oof, test), generator)
    return score_interval("auc", labels, _cross_fitted(_Features(values)(values), labels, units, generator), units)


def shift_weights(
    oof: NDArray[Any], test: NDArray[Any], *, clip: float = 10.0, rng: np.random.Generator | None = None
) -> Vector:
    """Return importance weights of the OOF rows with respect to the test rows, shape (n_rows,), mean 1.

    The weight is the density ratio test / OOF at the row, from a classifier that has not seen the row; it is 1
    for all rows if OOF and test do not differ. Weights make a score noisier, so use them
    only if that helps out of fold. The effective number of rows is `w.sum() ** 2 / (w ** 2).sum()`.

    Shimodaira, Improving predictive inference under covariate shift by weighting the
    log-likelihood function, Journal of Statistical Planning and Inference 2000; Bickel et al.,
    Discriminative learning under covariate shift, JMLR 2009 (ratio from a classifier).

    Args:
        oof: (n_rows, n_models), NaN for no prediction.
        test: (n_test, n_models), or (k, n_test, n_models) by fold model.
        clip: weights are clipped to 1 / clip to clip.
        rng: random number generator for folds and sample; None for seed 0.
    """
    oof, test = _checked(oof, test)
    generator = _rng(rng)
    values, labels, units, rows = _sample(oof, test, generator)
    featured = _Features(values)
    features = featured(values)
    share = _cross_fitted(features, labels, units, generator)
    interval = score_interval("auc", labels, share, units)
    if interval.low <= 0.5:
        return np.ones(len(oof))
    probability = np.empty(len(oof))
    seen = labels == 0
    probability[rows] = share[seen]
    rest = np.ones(len(oof), bool)
    rest[rows] = False
    if rest.any():
        probability[rest] = _fitted(features, labels).predict_proba(featured(oof[rest]))[:, 1]
    weights = np.clip(probability / (1 - probability), 1 / clip, clip)
    normed: Vector = weights / weights.mean()
    return normed


def _checked(oof: NDArray[Any], test: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    oof, test = np.asarray(oof), np.asarray(test)
    if oof.ndim != 2 or test.ndim not in (2, 3) or oof.shape[1] != test.shape[-1] or not oof.size or not test.size:
        raise BlendError(
            f"Expected OOF predictions (n_rows, n_models) and test predictions of the same models, (n_test, n_models) "
            f"or (k, n_test, n_models); got {oof.shape} and {test.shape}."
        )
    for name, part in (("OOF", oof), ("test", test.reshape(-1, test.shape[-1]))):
        empty = np.flatnonzero(np.isnan(part).all(axis=0))
        if len(empty):
            raise BlendError(f"Model {empty[0]} has no {name} predictions. Leave it out.")
    return oof, test


def _present(values: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = values[~np.isnan(values)]
    return found


def _distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the Kolmogorov-Smirnov distance, the maximum difference of the two distribution functions."""
    a, b = np.sort(a), np.sort(b)
    both = np.concatenate([a, b])
    gap = np.searchsorted(a, both, side="right") / len(a) - np.searchsorted(b, both, side="right") / len(b)
    return float(np.abs(gap).max())


def _agreement(values: NDArray[Any]) -> Vector:
    correlations = rank_correlations(values)
    np.fill_diagonal(correlations, np.nan)
    known = ~np.isnan(correlations).all(axis=1)
    found = np.full(len(correlations), np.nan)
    found[known] = np.nanmedian(correlations[known], axis=1)
    return found


def _sample(
    oof: NDArray[Any], test: NDArray[Any], rng: np.random.Generator
) -> tuple[NDArray[Any], NDArray[np.uint8], NDArray[np.intp], NDArray[np.intp]]:
    """Return a sample of OOF and test rows, whether each is a test row, their units, and the positions of the OOF rows.

    The predictions of a test row by several fold models are one unit: nearly equal, they are no independent evidence.
    """
    stacked = test.reshape(-1, test.shape[-1])
    rows = np.sort(rng.permutation(len(oof))[:_MOST_ROWS])
    taken = np.sort(rng.permutation(len(stacked))[:_MOST_ROWS])
    labels = np.repeat(np.array([0, 1], np.uint8), [len(rows), len(taken)])
    units = np.concatenate([rows, len(oof) + taken % test.shape[-2]])
    return np.concatenate([oof[rows], stacked[taken]]), labels, units, rows


class _Features:
    """Features for the classifier: each model's normal score, its square, and its squared distance to the mean.

    Squares detect a narrower or wider distribution, distances a model that no longer agrees with the others.
    """

    def __init__(self, values: NDArray[Any]) -> None:
        self._distributions = [fit_distribution(_present(column).astype(np.float32)) for column in values.T]

    def __call__(self, values: NDArray[Any]) -> Vector:
        scores = np.zeros(values.shape)
        for column, distribution in enumerate(self._distributions):
            known = ~np.isnan(values[:, column])  # a missing prediction is replaced by the median
            scores[known, column] = ndtri(distribution.ranks(values[known, column]).astype(np.float64))
        np.clip(scores, -4, 4, out=scores)
        apart = scores - scores.mean(axis=1, keepdims=True)
        parts = [scores, scores**2] if values.shape[1] == 1 else [scores, scores**2, apart**2]
        return np.concatenate(parts, axis=1)


def _fitted(features: Vector, labels: NDArray[np.uint8]) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(solver="newton-cholesky", class_weight="balanced").fit(features, labels)


def _cross_fitted(
    features: Vector, labels: NDArray[np.uint8], units: NDArray[np.intp], rng: np.random.Generator
) -> Vector:
    """Return the probability that each row is a test row, by a classifier that has not seen its unit."""
    distinct, unit = np.unique(units, return_inverse=True)
    fold_of_unit = np.empty(len(distinct), np.intp)
    for side in (0, 1):
        inside = np.unique(unit[labels == side])
        if len(inside) < _FOLDS:
            raise BlendError(f"Comparing OOF and test rows needs at least {_FOLDS} rows of each.")
        fold_of_unit[rng.permutation(inside)] = np.arange(len(inside)) % _FOLDS
    fold = fold_of_unit[unit]
    found = np.empty(len(labels))
    for held_out in range(_FOLDS):
        known = fold != held_out
        found[~known] = _fitted(features[known], labels[known]).predict_proba(features[~known])[:, 1]
    return found


def _rng(rng: np.random.Generator | None) -> np.random.Generator:
    return np.random.default_rng(0) if rng is None else rng
