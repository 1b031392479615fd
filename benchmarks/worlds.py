"""Generated worlds: OOF predictions of many models on rows with known labels, and test rows from the same distribution.

Each world emphasises one property of real sets of models. A row has a latent difficulty; the models of a family share
an error; each model adds its own error, and each fold model a smaller one; then the scale of the model is distorted as
by an uncalibrated network.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Sample:
    """OOF and test predictions of one world: oof (n_rows, n_models), y, folds; test (n_test, n_models), test_y."""

    name: str
    oof: Matrix
    y: NDArray[np.int8]
    folds: NDArray[np.int8]
    test: Matrix
    test_y: NDArray[np.int8]


@dataclass(frozen=True)
class World:
    """Properties of the models of a world.

    rows, models: shape of the OOF matrix. positive_share: share of positive rows. signal: distance between the classes.
        strength: (low, high) part of the signal that a model uses. own, family, fold: standard deviations of the
            errors.
        families: number of families. amplified: share of models with twice the error of their family and little signal.
        noise_models: share of models without any signal. distortion: spread of the scales. outliers: share of rows on
        which a model is wrong with confidence. experts: whether each model is good on only a part of the rows.
        hard, confidence: where hard > 0, that share of the rows is hard and the rest is easy, and the distance of each
        prediction from one half is multiplied by exp(confidence x normal), so that the order of confident predictions
        is noise, and ranks and logits are less informative than probabilities.
        levels: number of distinct values, 0 for no rounding. fold_mean: test rows are predicted by the mean of
        five fold models, as on Kaggle, instead of one. drift: spread of the scales of fold models.
    """

    rows: int = 20_000
    models: int = 20
    positive_share: float = 0.5
    signal: float = 2.0
    strength: tuple[float, float] = (0.5, 1.0)
    own: float = 1.0
    family: float = 0.5
    fold: float = 0.0
    families: int = 4
    amplified: float = 0.0
    noise_models: float = 0.0
    distortion: float = 0.3
    outliers: float = 0.0
    experts: bool = False
    hard: float = 0.0
    confidence: float = 0.0
    levels: int = 0
    fold_mean: bool = False
    drift: float = 0.0


WORLDS: dict[str, World] = {
    "plain": World(),
    "few good, many weak": World(models=40, strength=(0.05, 0.25), noise_models=0.3),
    "distorted scales": World(distortion=1.5),
    "correlated families": World(family=1.5, own=0.4, families=3),
    "noise members": World(noise_models=0.5),
    "few rows": World(rows=600, models=15),
    "few rows, many models": World(rows=1_000, models=60),
    "1 % positive": World(positive_share=0.01),
    "99 % positive": World(positive_share=0.99),
    "80 % positive, distorted, noise": World(rows=50_000, positive_share=0.8, distortion=1.0, noise_models=0.2),
    "amplified family errors": World(family=1.2, amplified=0.4, own=0.4),
    "confident mistakes": World(models=11, outliers=0.03, distortion=1.0, signal=3.5, own=1.0),
    "experts": World(models=10, experts=True),
    "coarse levels": World(levels=50, distortion=0.8),
    "easy rows, noisy confidence": World(
        models=11, hard=0.3, confidence=0.6, own=1.0, signal=5.4, family=0.8, fold=1.0
    ),
    "easy rows, 5 % positive": World(
        models=11, hard=0.3, confidence=1.0, own=1.0, signal=5.4, family=0.8, fold=1.5, positive_share=0.05
    ),
    "fold models on unlike scales": World(models=11, fold=0.7, drift=0.5, signal=3.0, fold_mean=True),
    "test by the mean of five": World(models=11, fold=0.7, distortion=0.8, signal=3.0, fold_mean=True),
    "test by the mean of five, confident mistakes": World(
        models=11, rows=50_000, fold=0.7, distortion=1.0, outliers=0.03, signal=3.5, fold_mean=True
    ),
}


def draw(name: str, seed: int, *, test_rows: int = 50_000, rows: int | None = None) -> Sample:
    """Generate a sample of a world; the same seed gives the same numbers."""
    return draw_from(
        WORLDS[name] if rows is None else replace(WORLDS[name], rows=rows), name, seed, test_rows=test_rows
    )


def draw_from(
    world: World, name: str, seed: int, *, test_rows: int, test_positive_share: float | None = None
) -> Sample:
    """Generate a sample of any world; the AUC of test rows does not depend on their balance."""
    rng = np.random.default_rng([seed, sum(map(ord, name))])
    make = _models(world, rng)
    y = _labels(world.rows, world.positive_share, rng)
    folds = (rng.permutation(world.rows) % 5).astype(np.int8)
    test_y = _labels(test_rows, test_positive_share or world.positive_share, rng)
    oof = make(y, folds, rng)
    test = make(test_y, None, rng)
    return Sample(name, oof, y, folds, test, test_y)


def _labels(rows: int, share: float, rng: np.random.Generator) -> NDArray[np.int8]:
    y: NDArray[np.int8] = (np.arange(rows) < max(2, round(rows * share))).astype(np.int8)
    rng.shuffle(y)
    return y


Make = Callable[[NDArray[np.int8], NDArray[np.int8] | None, np.random.Generator], Matrix]


def _models(world: World, rng: np.random.Generator) -> Make:
    """Draw the models once; return a function that predicts rows by the model of each row's fold, or by all five."""
    m = world.models
    low, high = world.strength
    strength = rng.uniform(low, high, m)
    if high < 0.5:
        strength[:3] = rng.uniform(0.8, 1.0, 3)
    strength[rng.permutation(m)[: int(world.noise_models * m)]] = 0.0
    family = rng.integers(0, world.families, m)
    family_error = np.full(m, world.family)
    amplified = rng.permutation(m)[: int(world.amplified * m)]
    family_error[amplified] *= 2.0
    strength[amplified] *= 0.4
    slope = np.exp(rng.normal(0, world.distortion, m)) * 1.5
    shift = rng.normal(0, world.distortion, m)
    bend = rng.uniform(1.0, 1.0 + world.distortion, m)
    field = rng.integers(0, 3, m)
    fold_direction = rng.normal(size=(5, m, 8))
    fold_slope, fold_shift = np.exp(world.drift * 0.4 * rng.normal(size=(m, 5))), world.drift * rng.normal(size=(m, 5))

    def make(y: NDArray[np.int8], folds: NDArray[np.int8] | None, rng: np.random.Generator) -> Matrix:
        n = len(y)
        sign = (2.0 * y - 1.0) * world.signal / 2
        difficulty = rng.gamma(2.0, 0.5, n)
        spread = np.ones(n)
        if world.hard:
            hard = rng.random(n) < world.hard
            difficulty = np.where(hard, rng.gamma(2.0, 0.22, n), rng.gamma(6.0, 0.33, n))
            spread = np.where(hard, 1.5, 0.6)
        truth = sign * difficulty + rng.normal(0, 0.5, n)
        shared = rng.normal(size=(n, world.families))
        region = rng.integers(0, 3, n)
        texture = rng.normal(size=(n, 8)) / np.sqrt(8)
        out = np.empty((n, m), np.float32)
        for j in range(m):
            sees = strength[j] * (np.where(region == field[j], 1.0, 0.15) if world.experts else 1.0)
            own = family_error[j] * shared[:, family[j]] + world.own * rng.normal(size=n)
            latent = sees * truth + spread * own
            wrong = rng.random(n) < world.outliers
            latent[wrong] = rng.normal(0, 4.0, int(wrong.sum()))
            if not world.fold:
                out[:, j] = _scale(latent, slope[j], shift[j], bend[j])
                continue
            errors = world.fold * (texture @ fold_direction[:, j].T + 0.7 * rng.normal(size=(n, 5)))
            by_fold = (latent[:, None] + errors * spread[:, None]) * np.exp(world.confidence * rng.normal(size=(n, 5)))
            by_fold = by_fold * fold_slope[j] + fold_shift[j]
            by_fold = _scale(by_fold, slope[j], shift[j], bend[j])
            if folds is None:
                out[:, j] = by_fold.mean(axis=1) if world.fold_mean else by_fold[:, 0]
            else:
                out[:, j] = by_fold[np.arange(n), folds]
        if world.levels:
            out = np.round(out * world.levels) / np.float32(world.levels)
        return out

    return make


def _scale(latent: NDArray[np.float64], slope: float, shift: float, bend: float) -> NDArray[np.float64]:
    bent = np.sign(latent) * np.abs(latent) ** bend
    return 1.0 / (1.0 + np.exp(-np.clip(slope * bent + shift, -30, 30)))
