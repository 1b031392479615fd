"""A small gradient-boosted stacker: shallow trees on the models' predictions and, optionally, features of the rows.

Friedman, Greedy function approximation: a gradient boosting machine, Annals of Statistics 2001. scikit-learn grows the
trees; predictions use a table of their nodes.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensemble.formula import Formula
from ensemble.methods import FittedMethod, Method
from ensemble.nested import nested_predictions, to_scale
from ensemble.table import BinaryTable
from ensemble.tree_formula import TreeFormula, Trees, tree_columns
from oof.arrays import Vector

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

_MOST_ROWS = 100_000  # more rows would not change the splits of such small trees


def fit_boosted(method: Method, table: BinaryTable, *, level: bool = True) -> FittedMethod:
    """Fit boosted trees to all rows and, for the nested scores, without each fold."""
    ranks = table.transforms.apply("rank-logit", table.columns, ranks=table.ranks)
    columns = tree_columns(ranks, table.features)
    everything = np.ones(len(table.y), bool)

    def fit(rows: NDArray[np.bool_]) -> tuple[TreeFormula, Vector]:
        trees = _grow(columns, table.y, np.flatnonzero(rows), table.seed)
        n_features = 0 if table.features is None else len(table.features)
        # not calibrated on these rows, which trees separate further than others: the slope would double
        scores = trees.odds(columns)
        return TreeFormula(trees, n_features, _nearest_sum(ranks, scores)), scores

    formula, scores = fit(everything)
    formulas: dict[int, TreeFormula] = {}
    held_out: dict[int, NDArray[np.float32]] = {}

    def without(fold: int) -> Vector | None:
        if table.k < 2 or not table.trainable(fold):
            return None
        formulas[fold], found = fit(table.fold != fold)
        held_out[fold] = found.astype(np.float32)
        return found

    mean = table.mean_ranks
    nested = nested_predictions(table.fold, without, scores, mean, level=to_scale if level else None)
    return FittedMethod(method, formula, scores.astype(np.float32), nested.astype(np.float32), formulas, held_out)


def _grow(columns: NDArray[np.float32], y: NDArray[np.int8], rows: NDArray[np.intp], seed: int) -> Trees:
    """Grow trees on some rows, in one thread, since a different summation order would change the splits."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    if len(rows) > _MOST_ROWS:
        rows = rows[:: -(-len(rows) // _MOST_ROWS)]  # rows are sorted by class and fold
    model = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=120,
        max_leaf_nodes=8,
        min_samples_leaf=max(5, min(50, len(rows) // 50)),
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )
    with threadpool_limits(1, user_api="openmp"):
        model.fit(columns[:, rows].T, y[rows])
    return _nodes_of(model)


def _nodes_of(model: "HistGradientBoostingClassifier") -> Trees:
    """Return the nodes of all trees; a test compares their predictions with scikit-learn's."""
    tables = [stage[0].nodes for stage in model._predictors]
    begins = np.cumsum([0, *map(len, tables)])
    nodes = np.concatenate(tables)
    offset = np.repeat(begins[:-1], [len(table) for table in tables])
    leaf = nodes["is_leaf"].astype(bool)
    return Trees(
        feature=np.where(leaf, -1, nodes["feature_idx"]).astype(np.int64),
        # infinite thresholds, which separate only NaN, become the largest float
        threshold=np.where(leaf, 0.0, np.nan_to_num(nodes["num_threshold"])).astype(np.float64),
        left=np.where(leaf, 0, nodes["left"] + offset).astype(np.int64),
        right=np.where(leaf, 0, nodes["right"] + offset).astype(np.int64),
        missing_left=nodes["missing_go_to_left"].astype(bool),
        value=nodes["value"].astype(np.float64),
        roots=begins[:-1].astype(np.int64),
        base=float(np.ravel(model._baseline_prediction)[0]),
    )


def _nearest_sum(ranks: NDArray[np.float32], scores: Vector) -> Formula:
    """Return the weighted sum of rank-logits closest to given scores, by least squares with a weak ridge penalty."""
    stride = max(1, len(scores) // 20_000)
    sample = ranks[:, ::stride].astype(np.float64)
    mean, target = sample.mean(axis=1, keepdims=True), scores[::stride]
    centred = sample - mean
    squares = centred @ centred.T
    ridge = 1e-3 * float(np.trace(squares)) / len(squares) + 1e-9
    weights = np.linalg.solve(squares + ridge * np.eye(len(squares)), centred @ (target - target.mean()))
    return Formula(float(target.mean() - weights @ mean[:, 0]), {"rank-logit": weights})
