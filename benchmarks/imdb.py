"""Compare the default blend with simpler ones on real OOF predictions: weights fitted on 4 folds, scored on the 5th.

python benchmarks/imdb.py FOLDER   (the folder of imdb_word2vec_13.npz)
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers import installed
from sklearn.model_selection import StratifiedKFold

from ensemble.auc import auc_of_classes
from ensemble.fit import fit_blend
from ensemble.search import greedy_selection, line_search
from oof.metrics import roc_auc


def greedy(transform: str) -> Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[Any]]:
    def fit(oof: NDArray[Any], y: NDArray[Any], test: NDArray[Any]) -> NDArray[Any]:
        known, new = (oof, test) if transform == "prob" else (_ranks(oof, oof), _ranks(oof, test))
        order = np.argsort(y, kind="stable")
        columns = np.ascontiguousarray(known[order].T, np.float32)
        return np.asarray(new @ greedy_selection(columns, int((y == 0).sum())).weights)

    return fit


def signed_line_search(oof: NDArray[Any], y: NDArray[Any], test: NDArray[Any]) -> NDArray[Any]:
    """Search signed weights of rank-logits by coordinates on the exact AUC."""
    known, new = (np.log(ranks / (1 - ranks)) for ranks in (_ranks(oof, oof), _ranks(oof, test)))
    order = np.argsort(y, kind="stable")
    columns = np.ascontiguousarray(known[order].T, np.float32)
    split = int((y == 0).sum())
    start = greedy_selection(columns, split, rounds=25).weights
    weights = line_search(columns, split, start, signed=True, sweeps=20)
    assert auc_of_classes((weights @ columns)[:split], (weights @ columns)[split:]) > 0.5
    return np.asarray(new @ weights)


def _ranks(known: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    found = []
    for a, b in zip(known.T, new.T, strict=True):
        ordered = np.sort(a)
        places = np.searchsorted(ordered, b, "left") + np.searchsorted(ordered, b, "right")
        found.append((places + 1) / (2 * len(ordered) + 2))
    return np.column_stack(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=1, help="number of random divisions into 5 folds")
    options = parser.parse_args()
    with np.load(options.folder / "imdb_word2vec_13.npz") as data:
        oof, y = data["oof"], data["y"]
        names = [str(name) for name in data["models"]]
    complete = ~np.isnan(oof).any(axis=0)
    print(f"{len(y)} rows, {int(complete.sum())} complete models: {', '.join(np.array(names)[complete])}")
    oof = oof[:, complete]
    methods = {
        "dfens, default": lambda a, b, c: fit_blend(a, b).predict(c),
        "dfens, greedy on ranks": greedy("rank"),
        "dfens, greedy on probabilities": greedy("prob"),
        "dfens, coordinate search on AUC, rank-logits, signed": signed_line_search,
        **installed(quick=True),
    }
    for name, fit in methods.items():
        scores = []
        for seed in range(options.seeds):
            for inside, outside in StratifiedKFold(5, shuffle=True, random_state=seed).split(oof, y):
                scores.append(roc_auc(y[outside], np.asarray(fit(oof[inside], y[inside], oof[outside]))))
        print(f"| {name} | {np.mean(scores):.5f} |", flush=True)


if __name__ == "__main__":
    main()
