"""Measure the effect of calibration on log loss, and the bias of the nested log loss, on generated worlds.

OMP_NUM_THREADS=1 python benchmarks/probabilities.py [--seeds 2] [--rows 4000] [--workers 1]
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from concurrent.futures import ProcessPoolExecutor

import numpy as np
from worlds import WORLDS, draw

from ensemble.calibration import reliability
from ensemble.fit import fit_blend
from ensemble.settings import CALIBRATIONS
from oof.metrics import metric_by_name

# excluded: test rows predicted by the mean of five fold models are easier than OOF rows
NAMES = [name for name, world in WORLDS.items() if not world.fold_mean]


def one_set(job: tuple[str, int, int, str]) -> list[tuple[float, ...]]:
    """Return nested log loss, true log loss and true calibration error of a blend for each method of calibration."""
    name, seed, rows, optimize = job
    sample = draw(name, 500 + seed, test_rows=50_000, rows=rows)
    log_loss = metric_by_name("log_loss")
    found: list[tuple[float, ...]] = []
    for method in CALIBRATIONS:
        result = fit_blend(sample.oof, sample.y, folds=sample.folds, optimize=optimize, calibrate=method)
        predictions = result.predict(sample.test)
        bins = reliability(predictions, sample.test_y)
        error = float(np.mean([abs(item.mean_prediction - item.positive_share) for item in bins]))
        found.append((log_loss(sample.y, result.nested_oof), log_loss(sample.test_y, predictions), error))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    print(
        "| optimised for | calibration | nested log loss | on new rows | nested minus true (standard error) "
        "| calibration error, new rows | better / worse than none |\n|---|---|---:|---:|---:|---:|---:|"
    )
    with ProcessPoolExecutor(options.workers) as pool:
        for optimize in ("auc", "log_loss", "none"):
            jobs = [(name, seed, options.rows, optimize) for seed in range(options.seeds) for name in NAMES]
            values = np.array(list(pool.map(one_set, jobs)))  # (sets, methods, 3)
            for index, method in enumerate(CALIBRATIONS):
                nested, true, error = values[:, index].T
                gap, before = nested - true, values[:, 0, 1]
                better, worse = int((true < before - 1e-6).sum()), int((true > before + 1e-6).sum())
                print(
                    f"| {optimize} | {method} | {nested.mean():.4f} | {true.mean():.4f} | {gap.mean():+.4f} "
                    f"({gap.std(ddof=1) / np.sqrt(len(gap)):.4f}) | {error.mean():.4f} | {better} / {worse} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
