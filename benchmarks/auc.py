"""Time the exact AUC against other implementations, in one process, and print a Markdown table.

    pip install --no-deps --target build/peers -r benchmarks/requirements.txt
    OMP_NUM_THREADS=1 PYTHONPATH=build/peers python benchmarks/auc.py [--rows 150000 500000] [--repeats 15]

Implementations that are not installed are left out. Each computes the AUC of the same float32 (or float64) scores
with ties. Times are medians over the repeats; all implementations take turns within each repeat, and ratios are
relative to scikit-learn's median. "Alone" repeats one implementation without the others in between, as an
optimizer does, so that its data are still in the cache.
"""

import argparse
import contextlib
import importlib
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from oof.metrics import roc_auc, roc_auc_columns

Implementation = Callable[[NDArray[Any], NDArray[Any]], float]


def by_rankdata(y: NDArray[Any], scores: NDArray[Any]) -> float:
    positives = int(y.sum())
    ranks = rankdata(scores)[y == 1].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * (len(y) - positives)))


def by_argsort(y: NDArray[Any], scores: NDArray[Any]) -> float:
    """Return an AUC that breaks ties by position."""
    positives = int(y.sum())
    ranks = (np.flatnonzero(y[np.argsort(scores)] == 1) + 1).sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * (len(y) - positives)))


def implementations() -> dict[str, Implementation]:
    """Return the installed implementations of the AUC by name."""
    found: dict[str, Implementation] = {"dfens `roc_auc`": roc_auc, "scikit-learn `roc_auc_score`": roc_auc_score}
    with contextlib.suppress(ImportError):
        found["AutoGluon's scorer"] = importlib.import_module("autogluon.core.metrics").roc_auc
    found["scipy `rankdata`"] = by_rankdata
    with contextlib.suppress(ImportError):
        binary_auroc = importlib.import_module("torchmetrics.functional.classification").binary_auroc
        from_numpy = importlib.import_module("torch").from_numpy
        found["torchmetrics, exact"] = lambda y, scores: float(
            binary_auroc(from_numpy(scores), from_numpy(y), validate_args=False)
        )
    found["numpy argsort (ties ignored)"] = by_argsort
    return found


def make_rows(rows: int, dtype: str) -> tuple[NDArray[np.int8], NDArray[Any]]:
    """Generate labels with 80 % positives, and probabilities with some ties."""
    rng = np.random.default_rng(0)
    y = (rng.random(rows) < 0.8).astype(np.int8)  # as stored
    scores = 1 / (1 + np.exp(-(rng.normal(size=rows) + 2 * y - 1)))
    scores[: rows // 10] = np.round(scores[: rows // 10], 2)
    return y, scores.astype(dtype)


def timed(implementation: Implementation, y: NDArray[Any], scores: NDArray[Any]) -> tuple[float, float]:
    started = time.perf_counter()
    auc = float(implementation(y, scores))
    return time.perf_counter() - started, auc


def compare(rows: int, dtype: str, repeats: int) -> None:
    y, scores = make_rows(rows, dtype)
    found = implementations()
    times: dict[str, list[float]] = {name: [] for name in found}
    aucs: dict[str, float] = {}
    for repeat in range(repeats + 1):  # the first one compiles and is not counted
        for name, implementation in found.items():
            elapsed, aucs[name] = timed(implementation, y, scores)
            if repeat:
                times[name].append(elapsed)
    alone = {
        name: float(np.median([timed(each, y, scores)[0] for _ in range(repeats)])) for name, each in found.items()
    }
    reference = "scikit-learn `roc_auc_score`"
    median = {name: float(np.median(values)) for name, values in times.items()}
    print(f"\n{rows:,} rows, {dtype}\n")
    print("| implementation | ms | relative speed | alone, ms | alone, relative speed | AUC minus scikit-learn's |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in found:
        print(
            f"| {name} | {1e3 * median[name]:.2f} | {median[reference] / median[name]:.1f} | {1e3 * alone[name]:.2f} "
            f"| {alone[reference] / alone[name]:.1f} | {aucs[name] - aucs[reference]:.1e} |"
        )


def compare_columns(rows: int, columns: int, repeats: int) -> None:
    y, scores = make_rows(rows, "float32")
    noise = np.random.default_rng(1).normal(size=(columns, rows)).astype(np.float32)
    matrix = (scores + 0.1 * noise).T  # Fortran order
    print(f"\n{columns} models x {rows:,} rows, float32, `roc_auc_columns`\n\n| threads | order | ms | ms per model |")
    print("|---:|---|---:|---:|")
    for order in ("F", "C"):
        values = np.array(matrix, order=order)
        for threads in (1, 2):
            found = []
            for _ in range(repeats):
                started = time.perf_counter()
                roc_auc_columns(y, values, threads=threads)
                found.append(time.perf_counter() - started)
            elapsed = 1e3 * float(np.median(found))
            print(f"| {threads} | {order} | {elapsed:.1f} | {elapsed / columns:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the exact AUC against other implementations.")
    parser.add_argument("--rows", type=int, nargs="+", default=[150_000, 500_000])
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    names = ["numpy", "numba", "sklearn", "scipy", "autogluon.core", "torch", "torchmetrics"]
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {importlib.import_module(name).__version__}")
        except ImportError:
            versions.append(f"{name} not installed")
    print(f"Python {platform.python_version()}, {', '.join(versions)}")
    for rows in options.rows:
        for dtype in ("float32", "float64"):
            compare(rows, dtype, options.repeats)
        compare_columns(rows, 20, max(3, options.repeats // 3))


if __name__ == "__main__":
    main()
