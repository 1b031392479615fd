"""Boosted trees as a plain table of nodes, which can be written to JSON and read back bit for bit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.formula import Features, Formula
from oof.arrays import Vector
from oof.compiled import compiled


@dataclass(frozen=True, eq=False)
class Trees:
    """Boosted trees as a table of nodes.

    feature: (n_nodes,) column of the split, -1 for a leaf. threshold: rows with values up to this go left.
    left, right: (n_nodes,) child nodes. missing_left: whether NaN goes left. value: (n_nodes,) value of a leaf.
    roots: (n_trees,) root node of each tree. base: log-odds before the first tree.
    """

    feature: NDArray[np.int64]
    threshold: Vector
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    missing_left: NDArray[np.bool_]
    value: Vector
    roots: NDArray[np.int64]
    base: float

    def odds(self, columns: NDArray[np.float32]) -> Vector:
        """Return log-odds (n_rows,) from columns (n_columns, n_rows)."""
        out = np.full(columns.shape[1], self.base)
        _add_trees(
            np.ascontiguousarray(columns, np.float32),
            self.feature, self.threshold, self.left, self.right, self.missing_left, self.value, self.roots, out,
        )  # fmt: skip
        return out

    def to_json(self) -> dict[str, Any]:
        """Return the nodes as JSON values."""
        return {
            "base": self.base,
            "roots": self.roots.tolist(),
            "feature": self.feature.tolist(),
            "threshold": self.threshold.tolist(),
            "left": self.left.tolist(),
            "right": self.right.tolist(),
            "missing_left": self.missing_left.tolist(),
            "value": self.value.tolist(),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Trees":
        """Return what `to_json` wrote."""
        return Trees(
            feature=np.array(value["feature"], np.int64),
            threshold=np.array(value["threshold"], np.float64),
            left=np.array(value["left"], np.int64),
            right=np.array(value["right"], np.int64),
            missing_left=np.array(value["missing_left"], np.bool_),
            value=np.array(value["value"], np.float64),
            roots=np.array(value["roots"], np.int64),
            base=value["base"],
        )


@dataclass(frozen=True, eq=False)
class TreeFormula:
    """Log-odds from boosted trees on rank-logits of the models, their mean and spread, and features of the rows.

    n_features: number of features per row. linear: the closest weighted sum of rank-logits, which shows the
    contribution of each model. slope, shift: calibration of the trees' log-odds in blends of earlier versions.
    """

    trees: Trees
    n_features: int
    linear: Formula
    slope: float = 1.0
    shift: float = 0.0

    @property
    def transforms(self) -> tuple[str, ...]:
        return ("rank-logit",)

    def scores(self, by_transform: Mapping[str, Vector], features: Features = None) -> Vector:
        """Return log-odds, (n_rows,), from rank-logits (n_models, n_rows) and features (n_features, n_rows)."""
        columns = tree_columns(by_transform["rank-logit"].astype(np.float32), features if self.n_features else None)
        return self.slope * self.trees.odds(columns) + self.shift

    def to_json(self) -> dict[str, Any]:
        """Return the formula as JSON values."""
        return {
            "trees": self.trees.to_json(),
            "n_features": self.n_features,
            "slope": self.slope,
            "shift": self.shift,
            "linear": self.linear.to_json(),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "TreeFormula":
        """Return what `to_json` wrote."""
        trees, linear = Trees.from_json(value["trees"]), Formula.from_json(value["linear"])
        return TreeFormula(trees, value["n_features"], linear, value["slope"], value["shift"])


def tree_columns(ranks: NDArray[np.float32], features: Features) -> NDArray[np.float32]:
    """Return rank-logits of the models, their mean and standard deviation, and features, (n_columns, n_rows)."""
    own = [ranks, ranks.mean(axis=0, dtype=np.float64)[None], ranks.std(axis=0, dtype=np.float64)[None]]
    return np.concatenate([part.astype(np.float32) for part in own] + ([] if features is None else [features]))


@compiled
def _add_trees(
    columns: NDArray[np.float32],
    feature: NDArray[np.int64],
    threshold: NDArray[np.float64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    missing_left: NDArray[np.bool_],
    value: NDArray[np.float64],
    roots: NDArray[np.int64],
    out: NDArray[np.float64],
) -> None:
    """Add the leaf value that each row, a column of (n_columns, n_rows), reaches in each tree."""
    for row in range(len(out)):
        for root in roots:
            node = root
            while feature[node] >= 0:
                number = columns[feature[node], row]
                go_left = missing_left[node] if np.isnan(number) else number <= threshold[node]
                node = left[node] if go_left else right[node]
            out[row] += value[node]
