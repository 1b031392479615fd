"""How a model's AUC falls under recompression, blur, noise and a smaller size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import TrainingError
from oof.ids import join_positions
from oof.metrics.intervals import score_interval
from oof.progress import SILENT, Progress
from oof.store import PredictionStore
from trainers.augment.corruptions import PERTURBATIONS
from trainers.features.handcrafted import Matrix, pixel_features, trace_features
from trainers.kinds.linear import linear_features
from trainers.media.image import Image, decode_image, resize_image
from trainers.settings import LinearSettings, ModelSettings, TimmSettings

if TYPE_CHECKING:
    from trainers.data.layouts import Competition

Predict = Callable[[list[Image]], NDArray[np.float64]]
_BATCH = 32


@dataclass(frozen=True)
class CurvePoint:
    """A model's AUC under one level of one harm ("none" for the images as they are), with its 95 % interval."""

    model: str
    harm: str
    level: float
    auc: float
    low: float
    high: float


def robustness_curves(
    competition: "Competition",
    store: PredictionStore,
    models: dict[str, ModelSettings],
    work_dir: Path,
    *,
    rows: int = 500,
    harms: Sequence[str] = tuple(PERTURBATIONS),
    seed: int = 0,
    progress: Progress = SILENT,
) -> list[CurvePoint]:
    """The AUC of each model on held-out images that were harmed at the scale of their files.

    Each fold model predicts an even draw of the rows it has not seen; all models see the same
    rows and the same noise. No test-time augmentation, so that the model alone is measured.

    Args:
        competition: rows and files.
        store: folds.
        models: settings by name; their folds must be trained.
        work_dir: of this room; holds the weights.
        rows: at most so many over all folds.
        harms: of PERTURBATIONS.
        seed: of the rows drawn and of the noise.
        progress: told per image and level.

    Raises:
        TrainingError: a model without weights.
    """
    folds = store.folds
    position = join_positions(folds.ids, competition.train["id"].to_numpy(object), "the training table", extra="ignore")
    paths = competition.train["path"].to_numpy(object)[position]
    chosen = _draw(folds.target, folds.fold, rows, seed)
    trained = {name: _trained_folds(name, settings, folds.k, work_dir) for name, settings in models.items()}
    common = sorted(set.intersection(*map(set, trained.values())))
    if not common:
        raise TrainingError("These models have no trained fold in common. Run dfens train for the same folds of each.")
    chosen = chosen[np.isin(folds.fold[chosen], common)]
    features = {
        name: linear_features(settings, paths.tolist(), progress=progress)
        for name, settings in models.items()
        if isinstance(settings, LinearSettings)
    }
    levels = [("none", 0.0), *((harm, level) for harm in harms for level in PERTURBATIONS[harm].levels)]
    found = {(name, *level): np.zeros(len(folds.ids)) for name in models for level in levels}
    with progress.task("harmed images", total=len(chosen) * len(levels), unit="image") as task:
        for fold in common:
            held_out = chosen[folds.fold[chosen] == fold]
            seen = np.flatnonzero(folds.fold != fold)
            predictors = {
                name: _linear_predictor(settings, features[name][seen], folds.target[seen])
                if isinstance(settings, LinearSettings)
                else _timm_predictor(settings, _weights(work_dir, name, fold))
                for name, settings in models.items()
            }
            for start in range(0, len(held_out), _BATCH):
                batch = held_out[start : start + _BATCH]
                images = [decode_image(path) for path in paths[batch]]
                for harm, level in levels:
                    harmed = [
                        _harm(image, harm, level, seed, row) for image, row in zip(images, batch.tolist(), strict=True)
                    ]
                    for name, predict in predictors.items():
                        found[name, harm, level][batch] = predict(harmed)
                    task.advance(len(batch))
    points = []
    groups = None if folds.groups is None else folds.groups[chosen]
    for (name, harm, level), predictions in found.items():
        interval = score_interval("auc", folds.target[chosen], predictions[chosen], groups)
        points.append(CurvePoint(name, harm, level, interval.score, interval.low, interval.high))
    return points


def _draw(target: NDArray[Any], fold: NDArray[Any], rows: int, seed: int) -> NDArray[np.intp]:
    """An even draw of rows: every fold and class keeps its share."""
    if rows >= len(target):
        return np.arange(len(target))
    shuffled = np.random.default_rng(seed).permutation(len(target))
    order = shuffled[np.lexsort((target[shuffled], fold[shuffled]))]
    return np.sort(order[np.linspace(0, len(order) - 1, rows).astype(int)])


def _harm(image: Image, harm: str, level: float, seed: int, row: int) -> Image:
    if harm == "none":
        return image
    return PERTURBATIONS[harm].change(image, level, np.random.default_rng([seed, row]))


def _trained_folds(name: str, settings: ModelSettings, k: int, work_dir: Path) -> list[int]:
    if isinstance(settings, LinearSettings):
        return list(range(k))
    there = [fold for fold in range(k) if _weights(work_dir, name, fold).is_file()]
    if not there:
        raise TrainingError(f"Model '{name}' has no weights in {work_dir / name}. Run dfens train --model {name}.")
    return there


def _weights(work_dir: Path, name: str, fold: int) -> Path:
    return work_dir / name / f"fold{fold}" / "weights.safetensors"


def _linear_predictor(settings: LinearSettings, features: Matrix, y: NDArray[np.int8]) -> Predict:
    from trainers.kinds.linear import fit_classifier

    classify = fit_classifier(settings, features, y)

    def predict(images: list[Image]) -> NDArray[np.float64]:
        x = [np.concatenate([trace_features(image), pixel_features(image, settings.image_size)]) for image in images]
        return classify(np.stack(x)).astype(np.float64)

    return predict


def _timm_predictor(settings: TimmSettings, weights: Path) -> Predict:
    from trainers.kinds.timm.predict import Predictor

    predictor = Predictor.load(settings, [weights])
    edge = settings.crop or settings.image_size

    def predict(images: list[Image]) -> NDArray[np.float64]:
        reduced = np.stack([resize_image(image, edge) for image in images])
        return np.asarray(predictor.images(reduced, tta=False)[0], np.float64)

    return predict
