"""Measure held-out AUC and coverage of the intervals of a default blend with few positives, on generated sets.

OMP_NUM_THREADS=1 python benchmarks/few_positives.py [--sets 200] [--first 0] [--workers 1]

Each set has 4 to 25 models of one of the worlds, the given number of positives, from 8 rows per positive up to 4,000
rows, and five folds; the true AUC is measured on 20,000 new rows.
"""

import argparse
import os
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from worlds import WORLDS, draw_from

from ensemble.fit import BlendResult, fit_blend
from oof.metrics import roc_auc

POSITIVES = (10, 15, 25, 40, 60)
COLUMNS = (
    "positives", "blend", "best single", "plain mean", "nested minus true AUC", "coverage of the interval", "its width",
    "coverage, gain over best single", "gain over the mean", "falsely significant",
)  # fmt: skip
# excluded: test rows predicted by the mean of five fold models are easier than OOF rows
NAMES = [name for name, world in WORLDS.items() if not world.fold_mean and "99 %" not in name]


def one_set(job: tuple[int, int]) -> tuple[float, ...]:
    """Return true AUC, nested score and interval of one set, for the blend and its differences to simpler blends."""
    positives, seed = job
    rng = np.random.default_rng([positives, seed])
    name = NAMES[seed % len(NAMES)]
    rows = int(np.exp(rng.uniform(np.log(8 * positives), np.log(4000))))
    world = replace(WORLDS[name], rows=rows, models=int(rng.integers(4, 26)), positive_share=positives / rows)
    sample = draw_from(world, name, 10_000 + seed, test_rows=20_000, test_positive_share=0.5)
    folds = np.empty(rows, np.int64)
    for label in (0, 1):  # stratified folds, as in dfens
        inside = np.flatnonzero(sample.y == label)
        folds[inside] = rng.permutation(len(inside)) % 5
    result = fit_blend(sample.oof, sample.y, folds=folds)
    return facts(result, sample.test[None], sample.test_y)


def facts(result: BlendResult, test: NDArray[Any], test_y: NDArray[Any]) -> tuple[float, ...]:
    """Return the results of one set for `row`; held-out scores are means over fold models (k, n_test, n_models)."""

    def true(scores: Callable[[NDArray[Any]], NDArray[Any]]) -> float:
        return float(np.mean([roc_auc(test_y, scores(part)) for part in test]))

    best = int(np.argmax(result.single_scores))
    others = {
        "best single": true(lambda part: part[:, best]),
        "mean of probabilities": true(lambda part: part.mean(axis=1)),
    }
    truth = true(lambda part: result.predict(part))
    found = [truth, result.nested_score, *result.nested_interval, result.score]
    for comparison in result.comparisons:
        found += [others[comparison.other], *comparison.interval, float(comparison.p_value < 0.05)]
    return tuple(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="seed of the first set")
    parser.add_argument("--positives", type=int, nargs="+", default=POSITIVES)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---:|" * len(COLUMNS))
    with ProcessPoolExecutor(options.workers) as pool:
        for positives in options.positives:
            jobs = [(positives, seed) for seed in range(options.first, options.first + options.sets)]
            print(row(positives, np.array(list(pool.map(one_set, jobs)))), flush=True)


def row(positives: int, found: NDArray[np.float64]) -> str:
    """Return one line of the table."""
    truth, nested, low, high, _ = found[:, :5].T
    held = np.mean((low <= truth) & (truth <= high))
    cells = [f"{positives}", f"{truth.mean():.4f}"]
    gains, wrong = [], []
    for begin in (5, 9):
        other, least, most, different = found[:, begin : begin + 4].T
        cells.append(f"{other.mean():.4f}")
        gap = truth - other
        gains.append(f"{np.mean((least <= gap) & (gap <= most)):.1%}")
        wrong.append(np.mean((different == 1) & (np.sign(gap) != np.sign(least + most))))
    cells += [f"{np.mean(nested - truth):+.4f}", f"{held:.1%}", f"{np.mean(high - low):.3f}", *gains]
    return "| " + " | ".join([*cells, " and ".join(f"{share:.1%}" for share in wrong)]) + " |"


if __name__ == "__main__":
    main()
