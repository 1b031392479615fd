"""Measure held-out AUC and intervals of a default blend of real models on public tables with few positives.

OMP_NUM_THREADS=1 python benchmarks/small_tables.py [--sets 60] [--workers 1]

The tables come with scikit-learn (breast cancer, wine, digits; one class against the others). Only a few random columns
are used, so that no model is nearly perfect. Six models make out-of-fold predictions in five folds; the remaining rows
are held out.
"""

import argparse
import os
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")

from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from few_positives import COLUMNS, POSITIVES, facts, row
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ensemble.fit import fit_blend

Array = NDArray[Any]


def models(seed: int) -> list[Any]:
    return [
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        make_pipeline(StandardScaler(), KNeighborsClassifier(7)),
        GaussianNB(),
        RandomForestClassifier(60, random_state=seed),
        ExtraTreesClassifier(60, random_state=seed),
        GradientBoostingClassifier(n_estimators=40, random_state=seed),
    ]


def table(positives: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return columns and labels of a table with at least `2 * positives` positives, (n_rows, 3 to 8) and (n_rows,)."""
    while True:
        load = (load_breast_cancer, load_wine, load_digits, load_digits, load_digits)[rng.integers(5)]
        x, target = load(return_X_y=True)
        y = (target == rng.choice(np.unique(target))).astype(np.int8)
        if y.sum() >= 2 * positives and (1 - y).sum() >= 4 * positives:
            used = rng.permutation(np.flatnonzero(x.std(axis=0) > 0))[: rng.integers(3, 9)]
            return x[:, used], y


def one_set(job: tuple[int, int]) -> tuple[float, ...]:
    """Return the results of one set, as in few_positives.py."""
    positives, seed = job
    warnings.filterwarnings("ignore")
    rng = np.random.default_rng([positives, seed, 9])
    x, y = table(positives, rng)
    negatives = int(min((1 - y).sum() // 2, positives * rng.integers(2, 12)))
    drawn = {label: rng.permutation(np.flatnonzero(y == label)) for label in (0, 1)}
    train = np.concatenate([drawn[1][:positives], drawn[0][:negatives]])
    held_out = np.setdiff1d(np.arange(len(y)), train)
    oof, test = np.zeros((len(train), 6)), np.zeros((5, len(held_out), 6))
    folds = np.zeros(len(train), int)
    splits = StratifiedKFold(5, shuffle=True, random_state=seed).split(train, y[train])
    for fold, (inside, outside) in enumerate(splits):
        folds[outside] = fold
        for index, model in enumerate(models(seed)):
            model.fit(x[train[inside]], y[train[inside]])
            oof[outside, index] = model.predict_proba(x[train[outside]])[:, 1]
            test[fold, :, index] = model.predict_proba(x[held_out])[:, 1]
    result = fit_blend(oof, y[train], folds=folds)
    # predict with single fold models, like OOF predictions; their mean would be better than the OOF score
    return facts(result, test, y[held_out])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=60)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---:|" * len(COLUMNS))
    with ProcessPoolExecutor(options.workers) as pool:
        for positives in POSITIVES:
            found = list(pool.map(one_set, [(positives, seed) for seed in range(options.sets)]))
            print(row(positives, np.array(found)), flush=True)


if __name__ == "__main__":
    main()
