"""Ridge regression on several transforms of the models, with the penalty from generalised cross-validation.

Hoerl and Kennard, Ridge regression, Technometrics 1970; Golub, Heath and Wahba, Generalized cross-validation as a
method for choosing a good ridge parameter, Technometrics 1979.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ensemble.design import Design
from ensemble.formula import Formula
from ensemble.methods import FittedMethod, Method, to_log_odds
from ensemble.nested import nested_predictions, to_distribution
from ensemble.table import BinaryTable
from oof.arrays import Vector

_PENALTIES = np.geomspace(1e-6, 1e2, 33)  # relative to the number of rows; columns are standardised


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over rows: Gram matrix (width, width), products with y and column sums (width,), row count, sum of y."""

    squares: NDArray[np.float64]
    products: Vector
    columns: Vector
    rows: float
    positives: float

    @staticmethod
    def total(parts: Sequence["_Sums"]) -> "_Sums":
        """Return the sums over all parts."""
        return _Sums(
            np.sum([part.squares for part in parts], axis=0),
            np.sum([part.products for part in parts], axis=0),
            np.sum([part.columns for part in parts], axis=0),
            sum(part.rows for part in parts),
            sum(part.positives for part in parts),
        )

    def less(self, other: "_Sums") -> "_Sums":
        """Return the sums minus those of some of the rows."""
        return _Sums(
            self.squares - other.squares,
            self.products - other.products,
            self.columns - other.columns,
            self.rows - other.rows,
            self.positives - other.positives,
        )


def fit_ridge(method: Method, table: BinaryTable, *, level: bool = True) -> FittedMethod:
    """Fit ridge regression to the labels of all rows and, for the nested scores, without each fold.

    All folds need only one pass over the columns, since the sums of a fold are subtracted from the total.
    """
    design = Design(table, method.transforms)
    by_fold = _sums_by_fold(design)
    whole = _Sums.total(by_fold)
    everything = np.ones(len(table.y), bool)

    def fit(sums: _Sums, rows: NDArray[np.bool_]) -> tuple[Formula, Vector]:
        weights, intercept = _solve(sums)
        raw = _scores(design, weights) + intercept
        slope, shift = to_log_odds(raw, table.y, rows)
        linear = design.formula(weights, None)
        terms = {name: slope * found for name, found in linear.terms.items()}
        return replace(
            linear, terms=terms, intercept=slope * (linear.intercept + intercept) + shift
        ), slope * raw + shift

    formula, scores = fit(whole, everything)
    formulas: dict[int, Formula] = {}
    held_out: dict[int, NDArray[np.float32]] = {}

    def without(fold: int) -> Vector | None:
        if table.k < 2 or not table.trainable(fold):
            return None
        formulas[fold], found = fit(whole.less(by_fold[fold]), table.fold != fold)
        held_out[fold] = found.astype(np.float32)
        return found

    mean = table.mean_ranks
    nested = nested_predictions(table.fold, without, scores, mean, level=to_distribution if level else None)
    return FittedMethod(method, formula, scores.astype(np.float32), nested.astype(np.float32), formulas, held_out)


def _sums_by_fold(design: Design) -> list[_Sums]:
    table, width = design.table, design.width
    squares, products, columns = (
        np.zeros((table.k, width, width)),
        np.zeros((table.k, width)),
        np.zeros((table.k, width)),
    )
    for rows in table.blocks(width):
        block = design.block(rows)
        total = block.sum(axis=1, dtype=np.float64)
        squares[rows.fold] += block @ block.T
        columns[rows.fold] += total
        products[rows.fold] += rows.label * total
    counts = np.bincount(table.fold, minlength=table.k)
    positives = np.bincount(table.fold, table.y, minlength=table.k)
    return [
        _Sums(squares[fold], products[fold], columns[fold], float(counts[fold]), float(positives[fold]))
        for fold in range(table.k)
    ]


def _solve(sums: _Sums) -> tuple[Vector, float]:
    """Return weights (width,) and intercept, with the penalty from generalised cross-validation."""
    n = sums.rows
    squares = sums.squares - np.outer(sums.columns, sums.columns) / n
    products = sums.products - sums.columns * sums.positives / n
    values, vectors = np.linalg.eigh(squares)
    values = np.maximum(values, 0.0)
    along = vectors.T @ products
    spread = sums.positives * (1 - sums.positives / n)  # sum of squares of y around its mean
    best, chosen = np.inf, np.zeros(len(along))
    for penalty in _PENALTIES * n:
        weights = along / (values + penalty)
        residual = spread - 2 * weights @ along + weights**2 @ values
        free = n - 1 - float((values / (values + penalty)).sum())
        score = residual / max(free, 1e-9) ** 2
        if score < best:
            best, chosen = score, weights
    found = vectors @ chosen
    return found, float((sums.positives - sums.columns @ found) / n)


def _scores(design: Design, weights: Vector) -> Vector:
    found = np.empty(len(design.table.y))
    for rows in design.table.blocks(design.width):
        found[rows.begin : rows.end] = weights @ design.block(rows)
    return found
