"""Fit weights by second-order steps on a likelihood of the order, jointly for all rows and without each fold.

Every task (all rows, or all but one fold) has its own weights, link and shrinkage; the tasks share
the passes over the columns. With few rows, each task computes its own curvature. With many rows, the
curvature of a fold at the weights of all rows is subtracted from the total: it only shortens or lengthens the steps,
and what decides where they end (gradient, direction of the scores) is computed by each task from its own rows.

Shrinkage: a normal prior for each group of columns, with the width of maximum marginal
likelihood (MacKay, Bayesian interpolation, 1992), so that nothing needs to be tuned.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from ensemble.design import Design
from ensemble.kernels import cells_of, count_by_bin, loss_of, non_negative_minimum, residuals, slope_moments
from ensemble.link import BINS, Link, even_cells, learnt_link, sigmoid_link
from oof.arrays import Vector

_EXACT_ROWS, _EXACT_FLOPS = 30_000, 6e9  # up to these, each task computes its own curvature
_CELLS = 40
_SMALL = 1e-6
_LONGEST = 5.0  # maximum root-mean-square change of the scores in one step
_LARGE = 1e7


@dataclass(frozen=True, eq=False)
class Fit:
    """Weights of standardised columns for each task; task 0 is all rows, task t all but fold t - 1.

    weights: (tasks, width). shrinkage: (tasks, groups). scores: (n_rows,) for each task.
    links: log-odds of the scores, one per task.
    """

    weights: NDArray[np.float64]
    shrinkage: NDArray[np.float64]
    scores: tuple[NDArray[np.float32], ...]
    links: tuple[Link, ...]


class _Task:
    """One set of rows: its weights, scores, link and penalised loss."""

    def __init__(self, solver: "_Solver", left_out: int, weights: Vector, shrinkage: Vector) -> None:
        self.solver, self.left_out = solver, left_out
        self.segments = [segment for segment in solver.design.table.segments if segment.fold != left_out]
        self.weights, self.shrinkage = weights, shrinkage
        self.previous: Link | None = None
        self.done = False

    def counts(self, scores: NDArray[np.float32], low: float, per_unit: float) -> tuple[Vector, Vector]:
        found = np.zeros((2, BINS))
        for begin, end, _, label in self.segments:
            count_by_bin(scores[begin:end], low, per_unit, found[label])
        return found[0], found[1]

    def try_weights(self, scores: NDArray[np.float32], weights: Vector) -> float:
        """Set the weights, fit the link to their scores, rescale both to unit slope, and return the penalised loss."""
        low, high = self.solver.range_of(scores)
        negatives, positives = self.counts(scores, low, BINS / max(high - low, 1e-9))
        if self.solver.learnt:
            link = learnt_link(low, high, positives, negatives, self.previous)
        else:
            link = sigmoid_link(low, high, positives, negatives)
        factor = 1.0
        if self.solver.learnt:  # a learned link leaves the length of the weights undetermined
            above, below = 0.0, 0.0
            for begin, end, _, _ in self.segments:
                a, b = slope_moments(scores[begin:end], link.low, link.per_unit, link.values, link.slopes)
                above, below = above + a, below + b
            factor = float(np.sqrt(above / below)) if above > 0 else 1.0
            link = link.rescaled(factor)
            scores = scores * np.float32(factor)
        self.trial = (scores, weights * factor, link)
        loss = 0.0
        for begin, end, _, label in self.segments:
            loss += loss_of(scores[begin:end], float(label), link.low, link.per_unit, link.values)
        return loss + self.penalty(weights * factor)

    def penalty(self, weights: Vector) -> float:
        return 0.5 * float(self.shrinkage[self.solver.design.groups] @ weights**2)

    def accept(self, loss: float) -> None:
        self.scores, self.weights, self.link = self.trial
        self.previous = self.link
        self.loss = loss


@dataclass(frozen=True, eq=False)
class _Curvature:
    """Sums over the rows of each part (a task or a fold): weighted squares of the columns, in total and by score cell.

    squares: (parts, width, width). means: (parts, cells, width). mass: (parts, cells).
    """

    squares: NDArray[np.float64]
    means: NDArray[np.float64]
    mass: NDArray[np.float64]

    @staticmethod
    def zeros(parts: int, width: int, cells: int) -> "_Curvature":
        return _Curvature(np.zeros((parts, width, width)), np.zeros((parts, cells, width)), np.zeros((parts, cells)))

    def add(self, part: int, block: NDArray[np.float32], weight: NDArray[np.float32], cell: NDArray[np.int64]) -> None:
        self.squares[part] += (block * weight) @ block.T
        spread = np.zeros((self.mass.shape[1], len(weight)), np.float32)
        spread[cell, np.arange(len(weight))] = weight
        self.means[part] += spread @ block.T
        self.mass[part] += spread.sum(axis=1)

    def of(self, parts: list[int]) -> tuple[NDArray[np.float64], NDArray[np.float64], Vector]:
        return self.squares[parts].sum(axis=0), self.means[parts].sum(axis=0), self.mass[parts].sum(axis=0)


class _Solver:
    def __init__(self, design: Design, learnt: bool, non_negative: bool, near: bool) -> None:
        self.near = near  # the start is close to the optimum
        self.kept: _Curvature | None = None
        self.design, self.learnt, self.non_negative = design, learnt, non_negative
        self.n = len(design.table.y)

    def range_of(self, scores: NDArray[np.float32]) -> tuple[float, float]:
        """Return the range of the scores, without the most extreme ones if there are many."""
        sample = scores if self.n <= 20_000 else scores[:: self.n // 10_000]
        low, high = (float(end) for end in np.quantile(sample, (0.0005, 0.9995)))
        margin = 0.05 * (high - low) + 1e-9
        return low - margin, high + margin

    def scores(self, weights: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return scores, (tasks, n_rows), from weights, (tasks, width)."""
        out = np.empty((len(weights), self.n), np.float32)
        single = weights.astype(np.float32)
        for rows in self.design.table.blocks(self.design.width):
            out[:, rows.begin : rows.end] = single @ self.design.block(rows)
        return out

    def derivatives(self, tasks: list[_Task]) -> list[tuple[Vector, NDArray[np.float64]]]:
        """Return gradient and curvature of each task, with the link profiled out."""
        width, count, k = self.design.width, len(tasks), self.design.table.k
        own = self.n <= _EXACT_ROWS and 2.0 * self.n * width * width * count < _EXACT_FLOPS
        cells = _CELLS if self.learnt else 1
        sums = self.kept or _Curvature.zeros(count if own else k, width, cells)
        pull = np.zeros((count, cells))
        gradient, along = np.zeros((2, count, width))
        tables = [self._cell_table(task, cells) for task in (tasks if own else tasks[:1])]
        for rows in self.design.table.blocks(width):
            block = self.design.block(rows)
            residual, weighted = np.zeros((2, count, block.shape[1]), np.float32)
            weight = np.zeros(block.shape[1], np.float32)
            cell = np.zeros(block.shape[1], np.int64)
            for t, task in enumerate(tasks):
                inside = task.left_out != rows.fold
                if not inside and own:
                    continue
                link, scores = task.link, task.scores[rows.begin : rows.end]
                residuals(
                    scores, float(rows.label), link.low, link.per_unit, link.values, link.slopes, residual[t], weight
                )
                if own or t == 0:
                    cells_of(scores, link.low, link.per_unit, tables[t], cell)
                    if self.kept is None:
                        sums.add(t if own else rows.fold, block, weight, cell)
                if inside:
                    pull[t] += np.bincount(cell, residual[t], minlength=cells)
                    np.multiply(weight, scores, out=weighted[t])
                else:
                    residual[t] = 0.0
            gradient += residual @ block.T
            along += weighted @ block.T
        if not own and self.near:
            self.kept = sums  # the weights hardly change any more, and the gradients remain exact
        found = []
        for t, task in enumerate(tasks):
            curvature, mean, mass = sums.of([t] if own else [fold for fold in range(k) if fold != task.left_out])
            pulled = pull[t]
            if t and not own:  # in cells of the scores of all rows, the weights could not leave those of all rows
                mean, mass, pulled = (part.sum(axis=0, keepdims=True) for part in (mean, mass, pulled))
            mass = np.maximum(mass, 1e-12)
            slope = gradient[t] - mean.T @ (pulled / mass)
            profiled = curvature - mean.T @ (mean / mass[:, None])
            found.append((slope, self._with_scale(task, slope, profiled, along[t])))
        return found

    def _with_scale(
        self, task: _Task, gradient: Vector, curvature: NDArray[np.float64], along: Vector
    ) -> NDArray[np.float64]:
        """Fix the length of the weights, which a learned link leaves undetermined: a step may only rotate them.

        along: (width,) the curvature of the task times its weights.
        """
        gradient -= self._shrinkage(task) * task.weights
        if self.learnt:
            length = float(task.weights @ along)
            if length > 0:
                gradient -= along * (float(task.weights @ gradient) / length)
                curvature = curvature + np.outer(along, along) / length
        return curvature

    def _shrinkage(self, task: _Task) -> Vector:
        return task.shrinkage[self.design.groups]

    def _cell_table(self, task: _Task, cells: int) -> NDArray[np.int64]:
        if cells == 1:
            return np.zeros(BINS, np.int64)
        negatives, positives = task.counts(task.scores, task.link.low, task.link.per_unit)
        return even_cells(negatives + positives, cells)

    def step(self, task: _Task, gradient: Vector, curvature: NDArray[np.float64]) -> tuple[Vector, Vector]:
        """Return the Newton step, and the effective number of free columns per group, which updates the shrinkage."""
        groups = self.design.groups
        shrinkage = self._shrinkage(task)
        ridge = 1e-8 * float(np.trace(curvature)) / len(gradient) + 1e-10
        whole = curvature + np.diag(shrinkage + ridge)
        factor = cho_factor(whole, lower=True)
        if self.non_negative:
            target = gradient + whole @ task.weights
            step = non_negative_minimum(whole, target, np.maximum(task.weights, 0.0), 500) - task.weights
        else:
            step = cho_solve(factor, gradient)
        variance = np.diag(cho_solve(factor, np.eye(len(gradient))))
        sizes = np.bincount(groups)
        free = sizes - task.shrinkage * np.bincount(groups, variance)
        return step, free


def fit_weights(
    design: Design,
    *,
    learnt: bool = True,
    non_negative: bool = False,
    left_out: tuple[int, ...] = (-1,),
    start: Fit | None = None,
    iterations: int = 12,
) -> Fit:
    """Fit the weights of all tasks.

    Args:
        design: the columns.
        learnt: whether the link is learned or the sigmoid.
        non_negative: whether weights must not be negative.
        left_out: the fold that each task leaves out, -1 for none; the first must be -1.
        start: an initial fit of the same columns (its task 0 is used for tasks that it lacks).
        iterations: maximum number of iterations.
    """
    solver = _Solver(design, learnt, non_negative, start is not None)
    groups = int(design.groups.max()) + 1
    tasks = []
    for t, fold in enumerate(left_out):
        if start is None:
            weights = np.zeros(design.width)
            weights[-len(design.transforms) if design.with_means else 0 :] = 1.0 / len(design.transforms)
            shrinkage = np.ones(groups)
        else:
            source = t if t < len(start.weights) else 0
            weights, shrinkage = start.weights[source].copy(), start.shrinkage[source].copy()
        tasks.append(_Task(solver, fold, weights, shrinkage))
    for task, scores in zip(tasks, solver.scores(np.stack([task.weights for task in tasks])), strict=True):
        task.accept(task.try_weights(scores, task.weights))
    for iteration in range(iterations):
        found = solver.derivatives(tasks)
        steps, free = zip(*(solver.step(task, g, h) for task, (g, h) in zip(tasks, found, strict=True)), strict=True)
        changes = solver.scores(np.stack(steps))
        for task, step, change, freedom in zip(tasks, steps, changes, free, strict=True):
            if not task.done:
                task.done = not _advance(task, step, change) and iteration > 0
                _update_shrinkage(task, freedom, design.groups)
        if all(task.done for task in tasks):
            break
    return Fit(
        np.stack([task.weights for task in tasks]),
        np.stack([task.shrinkage for task in tasks]),
        tuple(task.scores for task in tasks),
        tuple(task.link for task in tasks),
    )


def _advance(task: _Task, step: Vector, change: NDArray[np.float32]) -> bool:
    """Move along the step as far as the penalised loss decreases; return whether it decreased noticeably."""
    # nearly collinear columns get large weights, so the change of the scores is limited instead
    reach = float(np.sqrt(np.mean(change[:: max(1, len(change) // 10_000)] ** 2)))
    length = min(1.0, _LONGEST / max(reach, 1e-12))
    for _ in range(6):
        loss = task.try_weights(task.scores + np.float32(length) * change, task.weights + length * step)
        if loss < task.loss:
            fell = task.loss - loss
            task.accept(loss)
            return fell > 0.05
        length /= 3.0
    return False


def _update_shrinkage(task: _Task, free: Vector, groups: NDArray[np.intp]) -> None:
    before = task.penalty(task.weights)
    square = np.bincount(groups, task.weights**2)
    task.shrinkage = np.clip(np.maximum(free, 1e-3) / np.maximum(square, 1e-12), _SMALL, _LARGE)
    task.loss += task.penalty(task.weights) - before
