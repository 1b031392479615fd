"""The design matrix of the fit: one or several transforms of each model, and the mean of each transform."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ensemble.formula import Formula
from ensemble.link import Link
from ensemble.table import BinaryTable, Segment
from oof.arrays import Vector

_FLAT = 1e-7  # standard deviation relative to the mean: the resolution of float32


@dataclass(frozen=True, eq=False)
class Design:
    """Standardised columns, computed block by block so that no transform is ever in memory as a whole.

    The columns are ordered by transform, then model; for more than one model, they are followed by the mean
    over the models of each transform. Shrinking the models' columns but not the means
    draws a blend of few rows toward uniform weights.
    """

    table: BinaryTable
    transforms: tuple[str, ...]

    @property
    def models(self) -> int:
        return len(self.table.columns)

    @property
    def with_means(self) -> bool:
        return self.models > 1

    @property
    def width(self) -> int:
        """Return the number of columns."""
        return len(self.transforms) * (self.models + self.with_means)

    @cached_property
    def groups(self) -> NDArray[np.intp]:
        """Return the shrinkage group of each column, (width,): one group per transform, and one for the means."""
        found = np.repeat(np.arange(len(self.transforms)), self.models)
        return np.asarray(np.r_[found, np.full(len(self.transforms) * self.with_means, len(self.transforms))], np.intp)

    def _raw_block(self, rows: Segment) -> NDArray[np.float32]:
        m = self.models
        inside = slice(rows.begin, rows.end)
        out = np.empty((self.width, rows.end - rows.begin), np.float32)
        columns = self.table.columns[:, inside]
        for index, transform in enumerate(self.transforms):
            part = out[index * m : (index + 1) * m]
            ranks = self.table.ranks[:, inside] if transform in ("rank", "rank-logit") else None
            self.table.transforms.apply(transform, columns, ranks=ranks, out=part)
            if self.with_means:
                part.mean(axis=0, out=out[len(self.transforms) * m + index])
        return out

    @cached_property
    def moments(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the mean and 1 / standard deviation of each column, (width, 1); 0 for a constant column."""
        total, square = np.zeros(self.width), np.zeros(self.width)
        shift: NDArray[np.float64] | None = None
        for rows in self.table.blocks(self.width):
            block = self._raw_block(rows)
            if shift is None:
                shift = block.mean(axis=1, dtype=np.float64)
            block -= shift.astype(np.float32)[:, None]
            total += block.sum(axis=1, dtype=np.float64)
            square += np.einsum("ij,ij->i", block, block)
        n = len(self.table.y)
        assert shift is not None
        mean = total / n
        deviation = np.sqrt(np.maximum(square / n - mean**2, 0.0))
        flat = deviation <= _FLAT * np.abs(shift + mean)
        scale = np.where(flat, 0.0, 1.0 / np.where(flat, 1.0, deviation))
        return (shift + mean).astype(np.float32)[:, None], scale.astype(np.float32)[:, None]

    def block(self, rows: Segment) -> NDArray[np.float32]:
        """Return the standardised columns of some rows, (width, rows)."""
        mean, scale = self.moments
        out = self._raw_block(rows)
        out -= mean
        out *= scale
        return out

    def like(self, table: BinaryTable) -> "Design":
        """Return the same columns for other rows, with the same standardisation."""
        other = Design(table, self.transforms)
        other.__dict__["moments"] = self.moments
        return other

    def formula(self, weights: Vector, link: Link | None) -> Formula:
        """Convert weights of standardised columns into coefficients of the transforms."""
        mean, scale = (moment[:, 0].astype(np.float64) for moment in self.moments)
        raw = weights * scale
        m = self.models
        terms = {}
        for index, transform in enumerate(self.transforms):
            own = raw[index * m : (index + 1) * m].copy()
            if self.with_means:
                own += raw[len(self.transforms) * m + index] / m
            terms[transform] = own
        return Formula(-float(raw @ mean), terms, link)
