"""Measure the gain from pseudo-labels on a shifted test set and their effect on the OOF score: fold-safe and plain.

    OMP_NUM_THREADS=1 python benchmarks/pseudo.py [--worlds 6] [--rows 400] [--tests 800] [--kind timm] [--noise]

Each world has its own generated faces. Test faces are shifted: smaller, blurred and compressed, as by another website.
A blend of two models labels them; then both models are retrained with the labels of `ensemble.fold_safe` and, which
dfens does not allow, with the unmodified labels of the blend ("plain"). "Fresh" faces have the distribution of the
training faces and were seen by no model: OOF AUC minus the AUC of the same fold models on them is the optimism of the
OOF score. With --noise the training labels are random, so that every AUC above 0.5 indicates a leak.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from competitions import World, make_store, read_faces
from measure import machine, show
from numpy.typing import NDArray
from scipy.stats import t as student

from dfens.demo.competition import make_competition
from ensemble.fit import fit_blend
from ensemble.fold_safe import predict_without_fold
from ensemble.settings import BlendSettings
from oof.metrics import roc_auc
from trainers.jobs.runner import FoldRunner
from trainers.kinds.base import ModelSettings
from trainers.kinds.linear.settings import LinearSettings
from trainers.kinds.prediction import predict_rows
from trainers.kinds.pseudo_labels import PseudoLabels
from trainers.kinds.registry import kind_of
from trainers.kinds.repeats import PseudoSettings
from trainers.kinds.timm.settings import TimmSettings
from trainers.train import TrainingJob, train_models

K = 4
Array = NDArray[np.float64]
VARIANTS = ("without", "fold-safe", "plain")


def models_of(options: argparse.Namespace) -> dict[str, ModelSettings]:
    """Return the two members of the blend."""
    pseudo = PseudoSettings(weight=options.weight, confidence=options.confidence)
    if options.kind == "linear":
        return {
            "lines": LinearSettings(image_size=options.size // 2, pseudo=pseudo),
            "coarse": LinearSettings(image_size=options.size // 4, pseudo=pseudo),
        }
    shared: dict[str, Any] = {
        "pretrained": False, "image_size": options.size, "epochs": options.epochs, "batch_size": 32, "lr": 2e-3,
        "pseudo": pseudo,
    }  # fmt: skip
    small = {"channels": [16, 32, 64, 128]}
    return {
        "noise": TimmSettings(backbone="resnet14t", backbone_options=small, inputs=("srm",), **shared),
        "light": TimmSettings(backbone="resnet14t", backbone_options=small, inputs=("ycbcr", "srm"), **shared),
    }


def shift_images(folder: Path, seed: int, scale: tuple[float, float], quality: tuple[int, int]) -> None:
    """Downscale and upscale all images of a folder, and compress them more strongly.

    Args:
        scale, quality: lowest and highest relative size and JPEG quality.
    """
    rng = np.random.default_rng(seed)
    for path in sorted(folder.iterdir()):
        image = cv2.imread(str(path))
        assert image is not None
        side = image.shape[0]
        small = round(side * rng.uniform(*scale))
        image = cv2.resize(cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA), (side, side))
        path.write_bytes(
            cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*quality))])[1].tobytes()
        )


@dataclasses.dataclass(frozen=True, eq=False)
class ShiftedWorld(World):
    """A competition with its test labels, and fresh rows from the training distribution."""

    test_y: NDArray[np.int64]
    fresh: pd.DataFrame


def make_world(folder: Path, number: int, options: argparse.Namespace) -> ShiftedWorld:
    """Generate the faces of a world."""
    make_competition(folder, train_rows=options.rows, test_rows=options.tests, size=options.size, seed=number)
    make_competition(folder / "fresh", train_rows=options.rows, test_rows=8, size=options.size, seed=10_000 + number)
    if not options.noise:
        shift_images(folder / "data" / "test", number, tuple(options.scale), tuple(options.quality))
    competition, fresh = read_faces(folder / "data"), read_faces(folder / "fresh" / "data")
    train = competition.train
    if options.noise:
        train["target"] = np.random.default_rng(number).permutation(train["target"].to_numpy())
        competition = dataclasses.replace(competition, test=copies(competition.test, train))
    store = make_store(folder / "oof", competition, k=K)
    truth = pd.read_csv(folder / "truth.csv", dtype={"img_name": str})
    known = dict(zip(truth["img_name"], truth["target"], strict=True))
    test_y = np.array([known.get(id_, 0) for id_ in store.test_ids])
    return ShiftedWorld(competition, store, folder, test_y, fresh.train)


def copies(test: pd.DataFrame, train: pd.DataFrame) -> pd.DataFrame:
    """Return the test rows plus copies of the training faces, which are the easiest leak if labels are noise."""
    again = train[["id", "path"]].assign(id="copy-" + train["id"])
    return pd.concat([test, again], ignore_index=True)


def labels_of(world: ShiftedWorld, names: list[str], variant: str) -> PseudoLabels:
    """Return pseudo-labels for each fold: fold-safe, or directly from the blend."""
    folds, models = world.store.folds, [world.store.load(name) for name in names]
    oof = np.stack([model.oof for model in models], axis=1)
    test = np.stack([model.test_by_fold for model in models if model.test_by_fold is not None], axis=2)
    if variant == "fold-safe":
        found = predict_without_fold(oof, folds.target, folds.fold, test, BlendSettings(), groups=folds.groups)
        return PseudoLabels(np.concatenate([found, found.mean(axis=0, keepdims=True)]))
    blend = fit_blend(oof, folds.target, folds=folds.fold, groups=folds.groups, calibrate="platt")
    return PseudoLabels(np.broadcast_to(blend.predict(test).astype(np.float32), (K + 1, test.shape[1])))


def one_world(number: int, options: argparse.Namespace) -> dict[tuple[str, str], float]:
    """Return OOF, fresh and test AUC of the mean of both models for each method."""
    models = models_of(options)
    with tempfile.TemporaryDirectory() as temporary:
        world = make_world(Path(temporary), number, options)
        found: dict[tuple[str, str], float] = {}
        for variant in VARIANTS:
            labels = None if variant == "without" else labels_of(world, list(models), variant)
            named = {name if labels is None else f"{name}-{variant}": settings for name, settings in models.items()}
            job = world.job(named, pseudo=labels)
            train_models(job, range(K))
            found |= {(variant, what): value for what, value in scores(world, job).items()}
    return found


def scores(world: ShiftedWorld, job: TrainingJob) -> dict[str, float]:
    """Return the mean AUCs over the models of a job."""
    runner, folds = FoldRunner(job), world.store.folds
    found: dict[str, list[float]] = {"OOF": [], "fresh": [], "test": []}
    for name, settings in job.models.items():
        model = world.store.load(name)
        assert model.test is not None
        fresh = predict_rows(kind_of(settings).load(runner.context(name), range(K)), world.fresh)
        by_fold = [folds.rows(fold) for fold in range(K)]
        found["OOF"].append(float(np.mean([roc_auc(folds.target[rows], model.oof[rows]) for rows in by_fold])))
        found["fresh"].append(float(np.mean([roc_auc(world.fresh["target"].to_numpy(), row) for row in fresh])))
        known = np.array([not id_.startswith("copy-") for id_ in world.store.test_ids])
        found["test"].append(roc_auc(world.test_y[known], model.test[known]))
    return {what: float(np.mean(values)) for what, values in found.items()}


def interval(values: Array, digits: int = 4) -> str:
    """Format the mean over the worlds with its 95 % interval."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    low, high = values.mean() - half, values.mean() + half
    return f"{values.mean():.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("worlds", 6), ("first", 0), ("rows", 400), ("tests", 800), ("size", 48), ("epochs", 12)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--weight", type=float, default=0.5)
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--kind", choices=("timm", "linear"), default="timm")
    parser.add_argument("--scale", type=float, nargs=2, default=(0.7, 0.9), help="relative size of test faces")
    parser.add_argument("--quality", type=int, nargs=2, default=(50, 80), help="JPEG quality of test faces")
    parser.add_argument("--noise", action="store_true", help="labels at random")
    options = parser.parse_args()
    worlds = []
    for number in range(options.first, options.first + options.worlds):
        worlds.append(one_world(number, options))
        print(number, {" ".join(key): round(value, 4) for key, value in worlds[-1].items()}, flush=True)
    print(machine(torch.device("cpu")))
    values = {key: np.array([world[key] for world in worlds]) for key in worlds[0]}
    rows = []
    for variant in VARIANTS:
        promise = values[variant, "OOF"] - values[variant, "fresh"]
        gained = values[variant, "test"] - values["without", "test"]
        cells = [interval(values[variant, what]) for what in ("OOF", "fresh", "test")]
        rows.append([variant, *cells, interval(promise), "" if variant == "without" else interval(gained)])
    show(["pseudo-labels", "OOF AUC", "fresh AUC", "test AUC", "OOF less fresh", "test gained"], rows)


if __name__ == "__main__":
    main()
