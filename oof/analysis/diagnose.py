"""What out-of-fold predictions tell beyond the score: weak kinds, doubtful labels, memorising, luck in epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from oof.errors import PredictionError
from oof.folds import Folds
from oof.metrics import roc_auc
from oof.metrics.intervals import score_interval


@dataclass(frozen=True)
class ClusterScore:
    """AUC within one kind of images, and of its fakes against all reals (where a kind holds one class mostly).

    NaN where a class is missing.
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
class Suspect:
    """A row whose label the models contradict with one voice. doubt: 0 to 1, mean rank on the wrong side."""

    id: str
    target: int
    doubt: float
    models_against: int
    models: int


@dataclass(frozen=True)
class FoldHabit:
    """How one fold's training went.

    best_epoch, best_auc: the highest AUC on the held-out rows, and when. last_auc: at the end.
    optimism: how much of best_auc is luck of choosing among the epochs. fell: best minus last.
    memorises: the loss still fell by more than a tenth after the AUC had stopped rising for half the training.
    """

    fold: int
    epochs: int
    best_epoch: int
    best_auc: float
    last_auc: float
    optimism: float
    fell: float
    memorises: bool


def cluster_scores(folds: Folds, oof: NDArray[Any], clusters: NDArray[np.object_]) -> list[ClusterScore]:
    """The AUC within each kind of images, the weakest first.

    A fall in one kind is what unseen forgeries will look like. A kind that holds few of one class
    tells little by itself; there the fakes of the kind are also scored against the reals of all
    kinds, and its reals against all fakes.

    Args:
        folds: rows and targets.
        oof: (n_rows,) predictions of one model or blend; rows with NaN are left out.
        clusters: (n_rows,) names, such as those of `trainers.data.groups.derive_groups`.
    """
    known = ~np.isnan(oof)
    y = folds.target
    found = []
    for name in sorted(set(clusters.tolist())):
        rows = known & (clusters == name)
        fake, real = rows & (y == 1), rows & (y == 0)
        interval = None
        if fake.any() and real.any():
            interval = score_interval("auc", y[rows], oof[rows])
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


def suspected_labels(folds: Folds, oof: Mapping[str, NDArray[Any]], *, most: int = 100) -> list[Suspect]:
    """Rows whose label may be wrong: models that have not seen them place them deep in the other class.

    Confident learning in its simplest form (Northcutt, Jiang and Chuang, JAIR 2021), on ranks, so
    that no model needs calibrated probabilities. A model is against a label where the row ranks
    deeper in the other class than a quarter of that class does; most models must be. Hard rows are among
    the suspects too: look at the pictures before changing a label.

    Args:
        folds: rows, targets and folds; ranks are taken within a fold, since each has a model of its own.
        oof: predictions by model, (n_rows,) each.
        most: how many rows at most, the most doubtful first.

    Raises:
        PredictionError: no models.
    """
    if not oof:
        raise PredictionError("No predictions to judge labels by. Run dfens train, or dfens oof import.")
    y = folds.target
    doubts, against = [], []
    for scores in oof.values():
        side = np.full(len(y), np.nan)  # rank from 0 to 1, 1 at the far end of the other class
        beyond = np.zeros(len(y), bool)
        for fold in range(folds.k):
            rows = np.flatnonzero((folds.fold == fold) & ~np.isnan(scores))
            if len(rows) < 2:
                continue
            rank = np.argsort(np.argsort(scores[rows], kind="stable"), kind="stable") / (len(rows) - 1)
            side[rows] = np.where(y[rows] == 1, 1 - rank, rank)
            for label in (0, 1):
                own = rows[y[rows] == label]
                other = rows[y[rows] != label]
                if len(own) and len(other):
                    beyond[own] = side[own] >= np.quantile(1 - side[other], 0.25)
        doubts.append(side)
        against.append(beyond)
    stacked = np.stack(doubts)
    voted = (~np.isnan(stacked)).sum(axis=0)
    doubt = np.where(voted > 0, np.nansum(stacked, axis=0) / np.maximum(voted, 1), 0.0)
    votes = np.stack(against).sum(axis=0)
    chosen = np.flatnonzero((votes * 2 > voted) & (voted > 0))
    chosen = chosen[np.argsort(-doubt[chosen], kind="stable")][:most]
    return [
        Suspect(str(folds.ids[row]), int(y[row]), float(doubt[row]), int(votes[row]), int(voted[row]))
        for row in chosen.tolist()
    ]


def fold_habits(histories: Mapping[int, Mapping[str, Sequence[float]]]) -> list[FoldHabit]:
    """How the training of each fold went, from its losses and AUCs by epoch.

    Choosing the epoch with the best AUC on the held-out rows takes the luckiest of several noisy
    values. The optimism is estimated as the expected maximum of as many normal draws as there are
    epochs near the top, with the spread of the curve around its running median as their noise.

    Args:
        histories: by fold, `loss` and `auc` with one value for each epoch.
    """
    found = []
    for fold, history in sorted(histories.items()):
        loss, auc = np.asarray(history["loss"], float), np.asarray(history["auc"], float)
        if not len(auc):
            continue
        best = int(auc.argmax())
        half = len(auc) // 2
        stalled = best < len(auc) - max(2, half)
        memorises = bool(stalled and loss[-1] < 0.9 * loss[best] and auc[-1] < auc[best])
        found.append(
            FoldHabit(
                fold, len(auc), best + 1, float(auc[best]), float(auc[-1]), pick_optimism(auc),
                float(auc[best] - auc[-1]), memorises,
            )
        )  # fmt: skip
    return found


def pick_optimism(auc: NDArray[np.float64]) -> float:
    """How much the best of a curve of noisy AUCs overstates: expected maximum of its noise, 0 or more.

    Only the epochs that could have been chosen count: those whose smoothed AUC lies within two
    spreads of the highest.

    Args:
        auc: (n_epochs,).
    """
    if len(auc) < 4:
        return 0.0
    # second differences hold no slope; for independent noise their spread is sqrt(6) times that of the noise
    bends = auc[2:] - 2 * auc[1:-1] + auc[:-2]
    settled = bends[len(bends) // 2 :] if len(bends) >= 4 else bends  # the first epochs bend by learning
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
    """All of it for one model: clusters, suspects (of all models given), habits by fold."""

    model: str
    auc: float
    clusters: tuple[ClusterScore, ...]
    suspects: tuple[Suspect, ...]
    habits: tuple[FoldHabit, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
