"""Compare the nested score of a blend and its interval with the true AUC, over many generated data sets.

python benchmarks/calibration.py [--sets 200] [--first 200] [--workers 1]
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from concurrent.futures import ProcessPoolExecutor

import numpy as np
from worlds import WORLDS, draw

from ensemble.fit import fit_blend
from oof.metrics import roc_auc
from oof.metrics.intervals import score_interval

# excluded: test rows predicted by the mean of five fold models are easier than OOF rows
NAMES = [name for name, world in WORLDS.items() if not world.fold_mean]


def one_set(seed: int) -> tuple[float, ...]:
    """Return true AUC, nested score, interval and fitted score of one set; true AUC and interval of the plain mean."""
    rng = np.random.default_rng(seed)
    name = NAMES[seed % len(NAMES)]
    rows = int(np.exp(rng.uniform(np.log(400), np.log(4000))))
    rows = max(rows, 3000) if "1 %" in name or "99 %" in name else rows
    sample = draw(name, 1000 + seed, test_rows=60_000, rows=rows)
    result = fit_blend(sample.oof, sample.y, folds=sample.folds)
    truth = roc_auc(sample.test_y, result.predict(sample.test))
    mean_truth = roc_auc(sample.test_y, sample.test.mean(axis=1))
    plain = score_interval("auc", sample.y, sample.oof.mean(axis=1))
    return truth, result.nested_score, *result.nested_interval, result.score, mean_truth, plain.low, plain.high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--first", type=int, default=200, help="seed of the first set; 0 to 199 were used for tuning")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.workers) as pool:
        found = np.array(list(pool.map(one_set, range(options.first, options.first + options.sets))))
    truth, nested, low, high, fitted, mean_truth, mean_low, mean_high = found.T
    width = high - low
    covered = (low <= truth) & (truth <= high)
    error = (nested - truth) / width
    print(f"{options.sets} generated sets of 400 to 4,000 rows, true AUC on 60,000 new rows each")
    gap = nested - truth
    print(f"nested score minus true AUC: mean {gap.mean():+.5f}, as a share of the interval {error.mean():+.3f}")
    print(f"  (standard error of that share {error.std(ddof=1) / np.sqrt(len(error)):.3f})")
    print(f"score on the fitted rows minus true AUC: mean {np.mean(fitted - truth):+.5f}")
    print(f"95 % interval contains the true AUC: {covered.mean():.1%}")
    mean_covered = np.mean((mean_low <= mean_truth) & (mean_truth <= mean_high))
    print(f"  (of the plain mean, which has no fitted weights, {mean_covered:.1%})")
    print(f"  true AUC below it {np.mean(truth < low):.1%}, above {np.mean(truth > high):.1%}")


if __name__ == "__main__":
    main()
