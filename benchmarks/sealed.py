"""Measure the bias of a score by which a model was chosen, and of looks at sealed rows, on generated sets.

python benchmarks/sealed.py [--sets 400]

All models are equally good and differ only by chance; the one with the best OOF AUC is chosen. A fifth of the rows is
sealed. For comparison, models are also chosen by their sealed scores: the best of the first five, and of all.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from oof.metrics import roc_auc
from oof.sealed import choose_sealed

AUC = 0.9


def draw(rows: int, models: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Generate labels and scores (rows, models) with the same true AUC and a common error."""
    y = np.arange(rows) % 2
    noise = 0.7 * rng.normal(size=(rows, 1)) + np.sqrt(0.51) * rng.normal(size=(rows, models))
    return y, noise + np.sqrt(2) * float(ndtri(AUC)) * y[:, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=400)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    columns = (
        "rows",
        "models",
        "best OOF AUC minus true AUC",
        "its sealed AUC minus true AUC",
        "best of 5 looks",
        "of all",
    )
    print("| " + " | ".join(columns) + " |\n|" + "---:|" * len(columns))
    for rows in (500, 2000, 10_000):
        for models in (5, 20, 50):
            found = np.zeros((options.sets, 4))
            for number in range(options.sets):
                y, scores = draw(rows, models, rng)
                sealed = choose_sealed(np.arange(rows).astype(str).astype(object), y, 0.2, seed=number)
                oof = np.array([roc_auc(y[~sealed], column[~sealed]) for column in scores.T])
                looks = np.array([roc_auc(y[sealed], column[sealed]) for column in scores.T])
                found[number] = oof.max(), looks[np.argmax(oof)], looks[:5].max(), looks.max()
            gaps = found - AUC
            errors = gaps.std(axis=0, ddof=1) / np.sqrt(options.sets)
            cells = [f"{mean:+.4f} ± {error:.4f}" for mean, error in zip(gaps.mean(axis=0), errors, strict=True)]
            print(f"| {rows} | {models} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
