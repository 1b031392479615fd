"""Measure the coverage of the 95 % interval of an AUC with few positives, on generated sets of four kinds.

python benchmarks/intervals.py [--sets 200]
"""

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from oof.metrics.intervals import score_interval

Scores = NDArray[np.float64]
AUCS = (0.65, 0.8, 0.9, 0.97, 0.99)
SIZES = ((10, 20), (10, 500), (15, 500), (25, 500), (40, 500), (60, 500), (60, 60), (400, 400), (2000, 2000))


def _normal(spread: float) -> Callable[[int, float, np.random.Generator], Scores]:
    """Return a generator of normal scores: negatives with standard deviation 1, positives with `spread`."""
    return lambda m, auc, rng: spread * rng.normal(size=m) + float(ndtri(auc)) * np.sqrt(1 + spread**2)


def _missed(m: int, auc: float, rng: np.random.Generator) -> Scores:
    """Generate scores in which up to a tenth of the positives look like negatives; the others yield `auc`."""
    share = min(0.1, 1 - auc)
    rest = (auc - share / 2) / (1 - share)
    return rng.normal(size=m) + np.where(rng.random(m) < share, 0, float(ndtri(rest)) * np.sqrt(2))


WORLDS: dict[str, Callable[[int, float, np.random.Generator], Scores]] = {
    "equal spread": _normal(1.0),
    "positives wider (1.8)": _normal(1.8),
    "positives narrower (0.5)": _normal(0.5),
    "a tenth of the positives missed": _missed,
}


def coverage(world: str, m: int, n: int, auc: float, sets: int, rng: np.random.Generator) -> float:
    """Return the share of generated sets whose interval contains the true AUC."""
    y = np.repeat([1, 0], [m, n])
    held = 0
    for _ in range(sets):
        scores = np.concatenate([WORLDS[world](m, auc, rng), rng.normal(size=n)])
        found = score_interval("auc", y, scores)
        held += found.low <= auc <= found.high
    return held / sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=200)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    print("| positives, negatives | " + " | ".join(WORLDS) + " |\n|---|" + "---:|" * len(WORLDS))
    for m, n in SIZES:
        cells = []
        for world in WORLDS:
            found = [coverage(world, m, n, auc, options.sets, rng) for auc in AUCS]
            cells.append(f"{np.mean(found):.1%} ({min(found):.0%} to {max(found):.0%})")
        print(f"| {m}, {n} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
