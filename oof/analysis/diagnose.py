"""Diagnoses from out-of-fold predictions: score by cluster, label issues, overfitting, optimism of epoch selection."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from oof.errors import PredictionError
from oof.folds import Folds
from oof.metrics import roc_auc
from oof.metrics.intervals import score_interval


@dataclass(frozen=True)
class ClusterScore:
    """AUC within one cluster of images, with its 95 % interval; NaN if a class is missing.

    rows, fake: number of rows and of fakes. auc_of_fakes: the cluster's fakes against all reals;
    auc_of_reals: its reals against all fakes. Use these for clusters that are mostly of one class.
    """

    cluster: str
    rows: int
    fake: int
    auc: float
    low: float
    high: float
    auc_of_fakes: float
    auc_of_reals: float


@dataclass(frozen=True)
class LabelIssue:
    """A row whose label is probably wrong, because most models contradict it.

    label_error_score: 0 to 1, mean rank of the row among all rows, starting from its own class; a higher score means
    that an error is more likely. models_against: number of the `models` that contradict the label.
    """

    id: str
    target: int
    label_error_score: float
    models_against: int
    models: int


@dataclass(frozen=True)
class TrainingCurve:
    """A summary of the training of one fold.

    best_epoch, best_auc: epoch (from 1) with the highest AUC on the held-out rows, and that AUC.
    last_auc: after the last epoch. drop: best_auc minus last_auc.
    optimism: expected excess of best_auc over the true AUC due to choosing the best of several noisy epochs.
    overfits: whether the AUC did not improve for half of the epochs while the training loss fell by at least 10 %.
    """

    fold: int
    epochs: int
    best_epoch: int
    best_auc: float
    last_auc: float
    optimism: float
    drop: float
    overfits: bool


def cluster_scores(folds: Folds, oof: NDArray[Any], clusters: NDArray[np.object_]) -> list[ClusterScore]:
    """Return the AUC within each cluster of images, the weakest first.

    A weak cluster shows what to expect for unseen kinds of forgeries. If a cluster has few rows of
    one class, its own AUC is unreliable; therefore its fakes are also scored against the reals of all clusters,
    and its reals against all fakes.

    Args:
        folds: rows, targets and groups; rows of one group are treated as dependent.
        oof: predictions of one model or blend, shape (n_rows,); rows with NaN are left out.
        clusters: names of clusters, shape (n_rows,), e.g. from `trainers.data.groups.image_clusters`.
    """
    known = ~np.isnan(oof)
    y = folds.target
    found = []
    for name in sorted(set(clusters.tolist())):
        rows = known & (clusters == name)
        fake, real = rows & (y == 1), rows & (y == 0)
        interval = None
        if fake.any() and real.any():
            groups = None if folds.groups is None else folds.groups[rows]
            if groups is not None and (groups == groups[0]).all():
                groups = None  # the interval is for other rows of this group
            interval = score_interval("auc", y[rows], oof[rows], groups)
        found.append(
            ClusterScore(
                name,
                int(rows.sum()),
                int(fake.sum()),
                float("nan") if interval is None else interval.score,
                float("nan") if interval is None else interval.low,
                float("nan") if interval is None else interval.high,
                _auc(y, oof, fake | (known & (y == 0))),
                _auc(y, oof, real | (known & (y == 1))),
            )
        )
    return sorted(found, key=lambda one: (np.isnan(one.auc), one.auc))


def _auc(y: NDArray[Any], scores: NDArray[Any], rows: NDArray[np.bool_]) -> float:
    return float(roc_auc(y[rows], scores[rows])) if len(set(y[rows].tolist())) == 2 else float("nan")


def find_label_issues(folds: Folds, oof: Mapping[str, NDArray[Any]], *, limit: int = 100) -> list[LabelIssue]:
    """Return the rows whose label may be wrong, since models that have not seen them rank them within the other class.

    Confident learning in its simplest form (Northcutt, Jiang and Chuang, Confident Learning: Estimating
    Uncertainty in Dataset Labels, JAIR 2021), on ranks, so that no model needs calibrated probabilities.
    A model contradicts a label if the row ranks as far into the other class as a quarter of that class, and
    further than the median of its own class; a row is listed if most models contradict its label. Hard rows are
    listed too: look at the images before changing a label. Equal predictions get equal ranks. A model has no vote
    in a fold where all its predictions are equal, or are of one class.

    Args:
        folds: rows, targets and folds; ranks are taken within a fold, since each fold has its own model.
        oof: predictions by model, shape (n_rows,) each.
        limit: maximum number of rows, the most likely errors first.

    Raises:
        PredictionError: if there are no models.
    """
    if not oof:
        raise PredictionError("Finding label issues needs predictions. Run dfens train, or dfens oof import.")
    y = folds.target
    scores_by_model, against = [], []
    for scores in oof.values():
        side = np.full(len(y), np.nan)  # rank from 0 to 1; 1 is the far end of the other class
        beyond = np.zeros(len(y), bool)
        for fold in range(folds.k):
            rows = np.flatnonzero((folds.fold == fold) & ~np.isnan(scores))
            labels = y[rows]
            if len(np.unique(scores[rows])) < 2 or len(np.unique(labels)) < 2:
                continue
            rank = (rankdata(scores[rows]) - 1) / (len(rows) - 1)
            for label, depth in ((0, rank), (1, 1 - rank)):
                own, other = depth[labels == label], depth[labels != label]
                threshold = np.quantile(other, 0.25)
                # most rows may have one score, which then equals the threshold and says nothing about any of them
                typical = np.median(own) if len(own) > 1 else threshold
                side[rows[labels == label]] = own
                beyond[rows[labels == label]] = (own >= threshold) & (own > typical)
        scores_by_model.append(side)
        against.append(beyond)
    stacked = np.stack(scores_by_model)
    voted = (~np.isnan(stacked)).sum(axis=0)
    score = np.where(voted > 0, np.nansum(stacked, axis=0) / np.maximum(voted, 1), 0.0)
    votes = np.stack(against).sum(axis=0)
    chosen = np.flatnonzero((votes * 2 > voted) & (voted > 0))
    chosen = chosen[np.argsort(-score[chosen], kind="stable")][:limit]
    return [
        LabelIssue(str(folds.ids[row]), int(y[row]), float(score[row]), int(votes[row]), int(voted[row]))
        for row in chosen.tolist()
    ]


def training_curves(histories: Mapping[int, Mapping[str, Sequence[float]]]) -> list[TrainingCurve]:
    """Summarise the training of each fold from its losses and AUCs by epoch.

    Args:
        histories: by fold, `loss` and `auc` with one value per epoch.
    """
    found = []
    for fold, history in sorted(histories.items()):
        loss, auc = np.asarray(history["loss"], float), np.asarray(history["auc"], float)
        if not len(auc):
            continue
        best = int(auc.argmax())
        half = len(auc) // 2
        stalled = best < len(auc) - max(2, half)
        overfits = bool(stalled and loss[-1] < 0.9 * loss[best] and auc[-1] < auc[best])
        found.append(
            TrainingCurve(
                fold, len(auc), best + 1, float(auc[best]), float(auc[-1]), selection_optimism(auc),
                float(auc[best] - auc[-1]), overfits,
            )
        )  # fmt: skip
    return found


def selection_optimism(auc: NDArray[np.float64]) -> float:
    """Return by how much the best epoch's AUC is expected to exceed its true value, at least 0.

    Choosing the epoch with the highest AUC on the held-out rows favours positive noise. The excess is
    estimated as the expected maximum of n normal draws: n is the number of epochs whose smoothed AUC is within
    two standard deviations of the highest, and the standard deviation comes from the curve's second differences.

    Args:
        auc: AUC after each epoch, shape (n_epochs,).
    """
    if len(auc) < 4:
        return 0.0
    # second differences remove the slope; for independent noise, their standard deviation is sqrt(6) times the noise's
    bends = auc[2:] - 2 * auc[1:-1] + auc[:-2]
    # the curve of the first epochs bends because of learning
    settled = bends[len(bends) // 2 :] if len(bends) >= 4 else bends
    spread = float(np.sqrt(np.mean(settled**2) / 6))
    if spread == 0:
        return 0.0
    padded = np.pad(auc, 1, mode="edge")
    smooth = np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)
    rivals = int((smooth >= smooth.max() - 2 * spread).sum())
    # Blom's approximation of the expected maximum of n normal draws
    return spread * float(norm.ppf((rivals - 0.375) / (rivals + 0.25))) if rivals > 1 else 0.0


@dataclass(frozen=True)
class Diagnosis:
    """All diagnoses of one model; label issues come from all models together."""

    model: str
    auc: float
    clusters: tuple[ClusterScore, ...]
    label_issues: tuple[LabelIssue, ...]
    training_curves: tuple[TrainingCurve, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)
