"""Other blending methods, each as (oof, y, test) -> scores of the test rows; those not installed are left out.

pip install --no-deps --target build/peers -r benchmarks/requirements.txt
PYTHONPATH=build/peers:. python benchmarks/blend.py
"""

import contextlib
import importlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logit
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ensemble.fit import fit_blend
from oof.metrics import roc_auc

Scores = NDArray[np.float64]
Peer = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], Scores]


def dfens(oof: NDArray[Any], y: NDArray[Any], test: NDArray[Any]) -> Scores:
    scores: Scores = fit_blend(oof, y).predict(test)
    return scores


def best_single(oof: NDArray[Any], y: NDArray[Any], test: NDArray[Any]) -> Scores:
    chosen = int(np.argmax([roc_auc(y, column) for column in oof.T]))
    scores: Scores = test[:, chosen]
    return scores


def mean(oof: NDArray[Any], y: NDArray[Any], test: NDArray[Any]) -> Scores:
    return np.asarray(test.mean(axis=1))


def mean_of_logits(oof: NDArray[Any], y: NDArray[Any], test: NDArray[Any]) -> Scores:
    return np.asarray(_logits(test).mean(axis=1))


def mean_of_ranks(oof: NDArray[Any], y: NDArray[Any], test: NDArray[Any]) -> Scores:
    return np.asarray(np.mean([rankdata(column) for column in test.T], axis=0))


def _logits(values: NDArray[Any]) -> Scores:
    return np.asarray(logit(np.clip(values.astype(np.float64), 1e-6, 1 - 1e-6)))


def nelder_mead(oof: NDArray[Any], y: NDArray[Any], test: NDArray[Any]) -> Scores:
    """Maximise the AUC of raw probabilities by Nelder-Mead, from equal weights."""
    columns = np.ascontiguousarray(oof.T, np.float32)

    def loss(weights: Scores) -> float:
        return -roc_auc(y, weights.astype(np.float32) @ columns)

    start = np.full(len(columns), 1 / len(columns))
    found = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 200 * len(columns), "adaptive": True})
    return np.asarray(test @ found.x)


def logistic(oof: NDArray[Any], y: NDArray[Any], test: NDArray[Any]) -> Scores:
    """Fit logistic regression on logits."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(_logits(oof), y)
    return np.asarray(model.decision_function(_logits(test)))


def three_transforms(oof: NDArray[Any], y: NDArray[Any], test: NDArray[Any]) -> Scores:
    """Fit logistic regression on the probability, logit and rank-logit of each model."""

    def transforms(values: NDArray[Any]) -> Scores:
        ranks = []
        for known, new in zip(oof.T, values.T, strict=True):
            ordered = np.sort(known)
            places = np.searchsorted(ordered, new, "left") + np.searchsorted(ordered, new, "right")
            ranks.append((places + 1) / (2 * len(ordered) + 2))
        return np.column_stack([values, _logits(values), logit(np.column_stack(ranks))])

    model = make_pipeline(StandardScaler(), LogisticRegression(C=10.0, max_iter=2000)).fit(transforms(oof), y)
    return np.asarray(model.decision_function(transforms(test)))


def boosted_stacker(oof: NDArray[Any], y: NDArray[Any], test: NDArray[Any]) -> Scores:
    model = HistGradientBoostingClassifier(learning_rate=0.05, max_leaf_nodes=15, early_stopping=True, random_state=0)
    return np.asarray(model.fit(oof, y).decision_function(test))


def autogluon(rounds: int) -> Peer:
    selection = importlib.import_module("autogluon.core.models.greedy_ensemble.ensemble_selection").EnsembleSelection
    scorer = importlib.import_module("autogluon.core.metrics").roc_auc

    def fit(oof: NDArray[Any], y: NDArray[Any], test: NDArray[Any]) -> Scores:
        found = selection(ensemble_size=rounds, problem_type="binary", metric=scorer)
        found.fit([column.copy() for column in oof.T], y)
        return np.asarray(test @ found.weights_)

    return fit


def hillclimbers(*, own_auc: bool) -> Peer:
    """Run `climb_hill` with scikit-learn's AUC as in its README, or with dfens's, which gives the same blend faster."""
    package = importlib.import_module("hillclimbers")
    function = roc_auc if own_auc else importlib.import_module("sklearn.metrics").roc_auc_score

    def fit(oof: NDArray[Any], y: NDArray[Any], test: NDArray[Any]) -> Scores:
        names = [f"m{index}" for index in range(oof.shape[1])]
        with contextlib.redirect_stdout(io.StringIO()):
            found = package.climb_hill(
                train=pd.DataFrame({"y": y}),
                oof_pred_df=pd.DataFrame(oof, columns=names),
                test_pred_df=pd.DataFrame(test, columns=names),
                target="y",
                objective="maximize",
                eval_metric=package.partial(function),
                plot_hill=False,
            )
        return np.asarray(found)

    return fit


def installed(*, quick: bool) -> dict[str, Peer]:
    """Return all installed peers by name; `quick` uses dfens's AUC inside hillclimbers."""
    found: dict[str, Peer] = {
        "best single": best_single,
        "mean of probabilities": mean,
        "mean of logits": mean_of_logits,
        "mean of ranks": mean_of_ranks,
        "Nelder-Mead on AUC": nelder_mead,
        "logistic regression on logits": logistic,
        "logistic regression on three transforms": three_transforms,
        "gradient-boosted stacker": boosted_stacker,
    }
    with contextlib.suppress(ImportError):
        found["AutoGluon EnsembleSelection, 100 rounds"] = autogluon(100)
    with contextlib.suppress(ImportError):
        found["hillclimbers climb_hill"] = hillclimbers(own_auc=quick)
    return found
