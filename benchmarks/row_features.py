"""Measure the gain from features of the rows (`dfens blend --methods boosted --features …`): held-out AUC.

OMP_NUM_THREADS=1 python benchmarks/row_features.py [--seeds 6] [--rows 1500]

Each set is blended three times: by default, with boosted trees, and with boosted trees that read features. In the first
worlds the quality of a member depends on a feature; in those of worlds.py the features are noise.
"""

import argparse
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy import stats
from second_level import QUALITY, Arrays, world

from ensemble.fit import fit_blend
from oof.metrics import roc_auc
from oof.metrics.intervals import difference

LOW = "one model good on low-quality files"
INFORMATIVE = (LOW, QUALITY, f"{QUALITY}, weakly", f"{QUALITY}, few rows")
NOISE = ("plain", "few rows", "noise members", "correlated families", "confident mistakes", "1 % positive")


def low_quality_world(seed: int, rows: int) -> Arrays:
    """Generate four models, one of which is trained on compressed files: better below JPEG quality 50, worse above."""
    rng = np.random.default_rng([seed, 78])
    found: Arrays = {}
    for part, count in (("oof", rows), ("test", 50_000)):
        y = rng.integers(0, 2, count)
        quality = rng.integers(20, 100, count).astype(float)
        sees = np.full((count, 4), 0.9) - 0.4 * (quality[:, None] < 50)
        sees[:, 3] = np.where(quality < 50, 1.4, 0.3)
        latent = (2 * y[:, None] - 1) * sees + rng.normal(size=(count, 4)) + 0.5 * rng.normal(size=(count, 1))
        found[part] = (1 / (1 + np.exp(-1.5 * latent))).astype(np.float32)
        found[f"{part}_y"] = y
        found[f"{part}_features"] = np.column_stack([quality, rng.random((count, 2))])
    return found


def one_set(name: str, seed: int, rows: int) -> tuple[float, ...]:
    """Return the AUC of the default blend, the gains of trees without and with features, and of the nested score."""
    data = low_quality_world(seed, rows) if name == LOW else world(name, seed, rows)
    oof, y, test = data["oof"], data["oof_y"], data["test"]
    plain = fit_blend(oof, y)
    trees = fit_blend(oof, y, methods=["boosted"])
    reading = fit_blend(oof, y, methods=["boosted"], features=data["oof_features"])
    scores = plain.predict(test), trees.predict(test), reading.predict(test, features=data["test_features"])
    gains = [difference("auc", data["test_y"], found, scores[0]).gain for found in scores[1:]]
    share = sum(item.share for item in reading.methods if item.name == "boosted trees")
    return roc_auc(data["test_y"], scores[0]), *gains, reading.nested_score - plain.nested_score, share


def with_interval(values: np.ndarray) -> str:
    """Return the mean in 1e-5, with its 95 % interval over the sets (Student)."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{1e5 * values.mean():+.1f} ({1e5 * (values.mean() - half):+.1f} to {1e5 * (values.mean() + half):+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--rows", type=int, default=1_500)
    options = parser.parse_args()
    print("| world | default AUC | trees | trees with features | features on minus off | nested gain | share |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    pooled = []
    for name in (*INFORMATIVE, *NOISE):
        found = np.array([one_set(name, seed, options.rows) for seed in range(options.seeds)]).T
        auc, off, on, nested, share = found
        pooled += [on - off] if name in NOISE else []
        gains = " | ".join(map(with_interval, (off, on, on - off, nested)))
        print(f"| {name} | {auc.mean():.5f} | {gains} | {share.mean():.0%} |")
        print(name, file=sys.stderr, flush=True)
    print(f"\nFeatures of noise, all {len(pooled)} worlds: {with_interval(np.concatenate(pooled))}")


if __name__ == "__main__":
    main()
