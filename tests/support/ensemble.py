"""Generated OOF predictions for the tests of blends."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.folds import Folds, make_folds
from oof.store import PredictionStore

CONFIG = '[competition]\nslug = "tiny"\n[data]\nlayout = "table"\nroot = "data"\n'


def make_oof(
    rows: int, models: int, *, seed: int = 0, positive_share: float = 0.5, noise: float = 1.5
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Generate probabilities (rows, models) of models that see the labels with noise, and labels (rows,)."""
    rng = np.random.default_rng(seed)
    y = (rng.random(rows) < positive_share).astype(np.int8)
    y[:2] = [0, 1]
    strength = rng.uniform(0.5, 1.5, models)
    logits = (2 * y[:, None] - 1) * strength + noise * rng.normal(size=(rows, models)) + rng.normal(size=(rows, 1))
    return (1 / (1 + np.exp(-logits))).astype(np.float32), y


def make_drifting(
    rows: int, *, spread: float, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.int64], NDArray[np.float64]]:
    """Return predictions of 4 models whose 4 fold models are on different scales.

    Probabilities (rows, 4), labels and folds (rows,), and the shift of each fold model in logits, (n_folds, n_models).
    """
    oof, y = make_oof(rows, 4, noise=1.0, seed=seed)
    folds = np.arange(rows) % 4
    shift = np.random.default_rng(9).normal(0, spread, (4, 4))
    return moved(oof, shift[folds]), y, folds, shift


def moved(probabilities: NDArray[np.floating], shift: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return probabilities with their logits moved."""
    logits = np.log(probabilities / (1 - probabilities)) + shift
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def make_workspace(root: Path, rows: int = 200, models: int = 3, *, with_test: bool = True) -> Any:
    """Make a folder with a dfens.toml and a store of complete models m0, m1, …; return (store, folds, oof)."""
    (root / "dfens.toml").write_text(CONFIG)
    oof, y = make_oof(rows, models)
    ids = np.array([f"{row:05d}" for row in range(rows)], object)
    folds: Folds = make_folds(ids, y, k=4, seed=0)
    store = PredictionStore(root / "work" / "oof")
    store.save_folds(folds)
    test, _ = make_oof(50, models, seed=1)
    store.save_test_ids(np.array([f"t{row}" for row in range(50)], object))
    for model in range(models):
        name = f"m{model}"
        store.save_model(name, "linear", {})
        for fold in range(4):
            inside = folds.rows(fold)
            store.save_oof(name, ids[inside], oof[inside, model], fold=fold)
            if with_test:
                store.save_test(name, store.test_ids, test[:, model], fold=fold)
    return store, folds, oof
