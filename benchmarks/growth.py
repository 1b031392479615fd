"""Measure how the time of a default blend scales with rows and with models; print a table and draw two plots.

python benchmarks/growth.py --out FOLDER [--most-rows 10000000]
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from blend import LARGE
from numpy.typing import NDArray
from worlds import draw_from

from ensemble.fit import fit_blend

ROWS = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
MODELS = (5, 10, 20, 50, 100, 200, 500)


def seconds(oof: NDArray[np.float32], y: NDArray[np.int8]) -> float:
    started = time.process_time()
    fit_blend(oof, y)
    return time.process_time() - started


def tiled(rows: int, models: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Generate rows; beyond 300,000 they are resampled with a little noise, which is cheaper."""
    sample = draw_from(replace(LARGE, rows=min(rows, 300_000), models=models), "large", 0, test_rows=10)
    if rows <= 300_000:
        return sample.oof, sample.y
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(sample.y), rows)
    oof = sample.oof[chosen]
    oof += 1e-4 * rng.random(oof.shape, dtype=np.float32)
    return np.clip(oof, 0, 1, out=oof), sample.y[chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most-rows", type=int, default=10_000_000)
    options = parser.parse_args()
    fit_blend(*tiled(2_000, 3))
    by_rows = {rows: seconds(*tiled(rows, 5)) for rows in ROWS if rows <= options.most_rows}
    by_models = {models: seconds(*tiled(50_000, models)) for models in MODELS}
    _, axes = plt.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    for axis, found, label in zip(axes, (by_rows, by_models), ("rows (5 models)", "models (50,000 rows)"), strict=True):
        x, y = np.array(list(found)), np.array(list(found.values()))
        axis.loglog(x, y, "o-", label="dfens fit_blend")
        axis.loglog(x, y[-1] * x / x[-1], "--", color="grey", label="linear")
        axis.set_xlabel(label)
        axis.set_ylabel("processor seconds")
        axis.grid(which="both", alpha=0.3)
        axis.legend()
        print(f"| {label} | processor seconds |\n|---:|---:|")
        for value, took in found.items():
            print(f"| {value:,} | {took:.2f} |")
    options.out.mkdir(parents=True, exist_ok=True)
    plt.savefig(options.out / "blend_growth.png", dpi=120)


if __name__ == "__main__":
    main()
