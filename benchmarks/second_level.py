"""Measure the gain from ridge and boosted trees as further methods of a blend: held-out AUC on generated worlds.

OMP_NUM_THREADS=1 python benchmarks/second_level.py [--seeds 2] [--workers 1]

Uses the worlds of worlds.py, whose rows have no features, and one in which each model is good at one JPEG quality,
which is a feature of the rows.
"""

import argparse
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from worlds import WORLDS, draw

from ensemble.fit import fit_blend
from oof.metrics import roc_auc
from oof.metrics.intervals import difference

QUALITY = "models good at one quality"
METHODS: dict[str, tuple[str, ...]] = {
    "ridge": ("ridge",),
    "boosted trees": ("boosted",),
    "both": ("ridge", "boosted"),
    "boosted trees, features": ("boosted",),
}
Arrays = dict[str, NDArray[Any]]


def quality_world(seed: int, rows: int, strength: float = 1.0) -> Arrays:
    """Generate six models, each best at one JPEG quality (a feature), and two uninformative features."""
    rng = np.random.default_rng([seed, 77])
    centre = rng.random(6)
    found: Arrays = {}
    for part, count in (("oof", rows), ("test", 50_000)):
        y = rng.integers(0, 2, count)
        quality = rng.random(count)
        sees = 0.6 + strength * np.exp(-(((quality[:, None] - centre) / 0.2) ** 2))
        latent = (2 * y[:, None] - 1) * 0.9 * sees + rng.normal(size=(count, 6)) + 0.5 * rng.normal(size=(count, 1))
        found[part] = (1 / (1 + np.exp(-1.5 * latent))).astype(np.float32)
        found[f"{part}_y"] = y
        found[f"{part}_features"] = np.column_stack([quality, rng.random((count, 2))])
    return found


def world(name: str, seed: int, rows: int) -> Arrays:
    """Return OOF and test predictions, labels and features of one set."""
    if name.startswith(QUALITY):
        return quality_world(seed, rows // 4 if "few rows" in name else rows, 0.15 if "weakly" in name else 1.0)
    sample = draw(name, seed, test_rows=50_000, rows=min(WORLDS[name].rows, rows))
    rng = np.random.default_rng(seed)  # uninformative features
    return {
        "oof": sample.oof,
        "oof_y": sample.y,
        "oof_features": rng.random((len(sample.y), 3)),
        "test": sample.test,
        "test_y": sample.test_y,
        "test_features": rng.random((len(sample.test_y), 3)),
    }


def one_set(job: tuple[str, int, int]) -> tuple[str, float, dict[str, tuple[float, str, float]]]:
    """Return the held-out AUC of the default blend, and gain, outcome and share for each choice of methods."""
    name = job[0]
    data = world(*job)
    plain = fit_blend(data["oof"], data["oof_y"]).predict(data["test"])
    found = {}
    for label, methods in METHODS.items():
        reads = "features" in label
        result = fit_blend(
            data["oof"], data["oof_y"], methods=methods, features=data["oof_features"] if reads else None
        )
        scores = result.predict(data["test"], features=data["test_features"] if reads else None)
        gap = difference("auc", data["test_y"], scores, plain)
        outcome = "tie" if abs(gap.gain) <= 2 * gap.standard_error else "win" if gap.gain > 0 else "loss"
        share = sum(item.share for item in result.methods if item.name.startswith(("ridge", "boosted")))
        found[label] = (gap.gain, outcome, share)
    return name, roc_auc(data["test_y"], plain), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    extra = (QUALITY, f"{QUALITY}, weakly", f"{QUALITY}, few rows")
    jobs = [(name, seed, options.rows) for seed in range(options.seeds) for name in (*WORLDS, *extra)]
    with ProcessPoolExecutor(options.workers) as pool:
        results = []
        for found in pool.map(one_set, jobs):
            print(found, file=sys.stderr, flush=True)
            results.append(found)
    print("| added to the default | sets | win | tie | loss | mean gain, 1e-5 AUC | worst | best | mean share |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for label in METHODS:
        for title, chosen in (
            ("worlds.py", [found[label] for name, _, found in results if name in WORLDS]),
            (QUALITY, [found[label] for name, _, found in results if name not in WORLDS]),
        ):
            gains = 1e5 * np.array([gain for gain, _, _ in chosen])
            counts = " | ".join(
                str(sum(word == outcome for _, outcome, _ in chosen)) for word in ("win", "tie", "loss")
            )
            share = np.mean([share for _, _, share in chosen])
            print(
                f"| {label} | {title} | {counts} | {gains.mean():+.1f} | {gains.min():+.1f} | {gains.max():+.1f} "
                f"| {share:.0%} |"
            )
    print("\n| world | default AUC | " + " | ".join(METHODS) + " |\n|---|---:|" + "---:|" * len(METHODS))
    for name in dict.fromkeys(job[0] for job in jobs):
        mine = [(auc, found) for other, auc, found in results if other == name]
        cells = [f"{1e5 * np.mean([found[label][0] for _, found in mine]):+.1f}" for label in METHODS]
        print(f"| {name} | {np.mean([auc for auc, _ in mine]):.5f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
