"""Measure the gain from seeds and a refit: test AUC of one small network on generated faces, over several worlds.

    OMP_NUM_THREADS=1 python benchmarks/repeats.py [--worlds 8] [--seeds 4] [--rows 384] [--size 48] [--epochs 12]

Each world has its own faces, whose fakes are blends (as in the demo). Differences are paired by world, with Student's
95 % intervals over the worlds.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from competitions import World, make_store, read_faces
from measure import machine, show
from numpy.typing import NDArray
from scipy.stats import t as student

from dfens.demo.competition import make_competition
from oof.averaging import mean_of_logits, on_scale_of
from oof.ids import join_positions
from oof.metrics import roc_auc
from oof.store import ModelPredictions, PredictionStore
from trainers.kinds.timm.settings import TimmSettings
from trainers.train import train_models

WEIGHTS = (0.2, 0.5, 0.8, 1.0)
K = 3


def one_world(number: int, options: argparse.Namespace) -> dict[str, float]:
    """Return the AUC of each method in one world."""
    settings = TimmSettings(
        backbone="resnet14t", backbone_options={"channels": [16, 32, 64, 128]}, inputs=("srm",), pretrained=False,
        image_size=options.size, epochs=options.epochs, batch_size=32, lr=2e-3, seeds=options.seeds, refit=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_competition(folder, train_rows=options.rows, test_rows=options.tests, size=options.size, seed=number)
        competition = read_faces(folder / "data")
        store = make_store(folder / "oof", competition, k=K)
        truth = pd.read_csv(folder / "truth.csv", dtype={"img_name": str})
        rows = join_positions(store.test_ids, truth["img_name"].to_numpy(object), "truth.csv")
        train_models(World(competition, store, folder).job({"m": settings}), range(K))
        return scores(store, truth["target"].to_numpy()[rows], options.seeds)


def scores(store: PredictionStore, y: NDArray[np.int64], seeds: int) -> dict[str, float]:
    """Return the test AUC of each method, and the OOF AUC of one seed and of all seeds."""
    apart = [store.load("m", seed=seed) for seed in range(seeds)]
    found: dict[str, Any] = {"OOF, one seed": np.mean([roc_auc(store.folds.target, model.oof) for model in apart])}
    found["OOF, all seeds"] = roc_auc(store.folds.target, store.load("m").oof)
    found["test, one seed"] = np.mean([roc_auc(y, model.test) for model in apart if model.test is not None])
    for count in sorted({2, seeds}):
        groups = [range(start, start + count) for start in range(0, seeds - count + 1, count)]
        found[f"test, {count} seeds"] = np.mean([roc_auc(y, averaged([apart[i] for i in group])) for group in groups])
    refits = [refit_of(store, seed) for seed in range(seeds)]
    for weight in WEIGHTS:
        values = [roc_auc(y, mixed(model, refit, weight)) for model, refit in zip(apart, refits, strict=True)]
        found[f"test, one seed, refit_weight = {weight:g}"] = np.mean(values)
    found["test, refits alone, on their own scale"] = np.mean([roc_auc(y, refit) for refit in refits])
    whole = store.load("m")
    assert whole.test is not None
    found[f"test, {seeds} seeds, refit_weight = 0.5"] = roc_auc(y, whole.test)
    return {name: float(value) for name, value in found.items()}


def averaged(models: list[ModelPredictions]) -> NDArray[np.float32]:
    """Return the test predictions averaged over some seeds."""
    tests = [model.test_by_fold for model in models if model.test_by_fold is not None]
    return np.asarray(np.mean([mean_of_logits(np.stack([test[fold] for test in tests])) for fold in range(K)], axis=0))


def refit_of(store: PredictionStore, seed: int) -> NDArray[np.float32]:
    """Return the unmodified test predictions of a refit."""
    name = "test.refit.parquet" if seed == 0 else f"test.refit.seed{seed}.parquet"
    table = pd.read_parquet(store.model_dir("m") / name)
    rows = join_positions(store.test_ids, table["id"].to_numpy(object), name)
    return np.asarray(table["prediction"].to_numpy(np.float32)[rows])


def mixed(model: ModelPredictions, refit: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Return test predictions mixed with a refit in the same way as in the store."""
    assert model.test_by_fold is not None
    shares = np.array([1 - weight, weight])
    parts = [mean_of_logits(np.stack([row, on_scale_of(refit, row)]), shares) for row in model.test_by_fold]
    return np.asarray(np.mean(parts, axis=0))


def gain(values: NDArray[np.float64], base: NDArray[np.float64]) -> str:
    """Format the mean paired difference with its 95 % interval, AUC x 1e4."""
    differences = 1e4 * (values - base)
    half = student.ppf(0.975, len(base) - 1) * differences.std(ddof=1) / np.sqrt(len(base))
    return f"{differences.mean():+.0f} ({differences.mean() - half:+.0f} to {differences.mean() + half:+.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("worlds", 8), ("first", 0), ("seeds", 4), ("rows", 384), ("tests", 1024), ("size", 48)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    found: list[dict[str, float]] = []
    for number in range(options.first, options.first + options.worlds):
        found.append(one_world(number, options))
        print(number, {name: round(value, 4) for name, value in found[-1].items()}, flush=True)
    print(machine(torch.device("cpu")))
    names = list(found[0])
    values = {name: np.array([world[name] for world in found]) for name in names}
    heads = ["variant", "AUC", "less one seed's, AUC x 1e4"]
    show(heads, [row(name, values) for name in names])


def row(name: str, values: dict[str, NDArray[np.float64]]) -> list[str]:
    base = values["OOF, one seed" if name.startswith("OOF") else "test, one seed"]
    return [name, f"{values[name].mean():.4f}", "" if values[name] is base else gain(values[name], base)]


if __name__ == "__main__":
    main()
