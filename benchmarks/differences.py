"""Measure the coverage of the 95 % interval of a difference between two AUCs with few positives.

python benchmarks/differences.py [--sets 200]

Two models score the same rows; their scores are binormal and correlated. The rate of false positives is measured on
pairs that are equally good.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from oof.metrics.intervals import difference

Scores = NDArray[np.float64]
PAIRS = ((0.65, 0.65), (0.9, 0.9), (0.99, 0.99), (0.8, 0.7), (0.95, 0.9), (0.99, 0.97))
CORRELATIONS = (0.0, 0.5, 0.9, 0.98)
SIZES = ((10, 20), (10, 500), (15, 500), (25, 500), (40, 500), (60, 500), (60, 60), (400, 400), (2000, 2000))


def draw(
    m: int, n: int, aucs: tuple[float, float], correlation: float, spread: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Scores]:
    """Generate labels and two columns of scores, (rows, 2); `spread` is the standard deviation of the positives."""
    y = np.repeat([1, 0], [m, n])
    shared = np.sqrt(correlation) * rng.normal(size=(m + n, 1))
    scores = shared + np.sqrt(1 - correlation) * rng.normal(size=(m + n, 2))
    scores[:m] = spread * scores[:m] + ndtri(aucs) * np.sqrt(1 + spread**2)
    return y, scores


def coverage(
    m: int, n: int, correlation: float, spread: float, sets: int, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Return the mean coverage, the lowest coverage of a pair of AUCs, and the rate of false positives."""
    held, errors = [], []
    for aucs in PAIRS:
        inside = 0
        for _ in range(sets):
            y, scores = draw(m, n, aucs, correlation, spread, rng)
            found = difference("auc", y, scores[:, 0], scores[:, 1])
            inside += found.low <= aucs[0] - aucs[1] <= found.high
            if aucs[0] == aucs[1]:
                errors.append(found.is_significant)
        held.append(inside / sets)
    return float(np.mean(held)), min(held), float(np.mean(errors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200)
    options = parser.parse_args()
    rng = np.random.default_rng(2)
    columns = [(correlation, 1.0) for correlation in CORRELATIONS] + [(0.9, 1.8), (0.9, 0.5)]
    names = [f"correlation {c:g}" + ("" if s == 1 else f", positives' spread {s:g}") for c, s in columns]
    print("| positives, negatives | " + " | ".join(names) + " |\n|---|" + "---:|" * len(names))
    for m, n in SIZES:
        cells = []
        for correlation, spread in columns:
            mean, least, errors = coverage(m, n, correlation, spread, options.sets, rng)
            cells.append(f"{mean:.1%} (from {least:.0%}; {errors:.1%} wrong)")
        print(f"| {m}, {n} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
