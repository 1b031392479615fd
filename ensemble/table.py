"""OOF predictions as columns, with rows sorted by class and fold so that all parts are slices."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.transforms import Columns, FittedTransforms

_CACHED = 1 << 19  # numbers


class Segment(NamedTuple):
    """The rows from begin to end, all in one fold and class."""

    begin: int
    end: int
    fold: int
    label: int


@dataclass(frozen=True, eq=False)
class BinaryTable:
    """The rows of a binary blend.

    columns: (n_models, n_rows) float32 without NaN. y: (n_rows,) 0s, then 1s.
    fold: (n_rows,) 0..k-1, increasing within a class. order: (n_rows,) position of each row in the input.
    features: (n_features, n_rows) of the rows, NaN if unknown; None if there are none.
    """

    columns: Columns
    y: NDArray[np.int8]
    fold: NDArray[np.int32]
    k: int
    order: NDArray[np.intp]
    transforms: FittedTransforms
    names: tuple[str, ...]
    seed: int
    features: NDArray[np.float32] | None = None

    @cached_property
    def positives(self) -> int:
        return int(self.y.sum())

    @cached_property
    def split(self) -> int:
        """Return the index of the first positive."""
        return len(self.y) - self.positives

    @cached_property
    def ranks(self) -> Columns:
        """Return every model's ranks over all rows, (n_models, n_rows)."""
        return self.transforms.apply("rank", self.columns)

    @cached_property
    def mean_ranks(self) -> NDArray[np.float64]:
        """Return the mean rank of each row over the models, (n_rows,)."""
        return self.transforms.mean_ranks(self.columns)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """Return the segments of rows by class and fold."""
        key = self.y.astype(np.int64) * self.k + self.fold
        begins = np.flatnonzero(np.r_[True, np.diff(key) != 0])
        ends = np.r_[begins[1:], len(key)]
        return tuple(
            Segment(int(b), int(e), int(self.fold[b]), int(self.y[b])) for b, e in zip(begins, ends, strict=True)
        )

    def blocks(self, width: int = 64) -> Iterator[Segment]:
        """Yield the segments, split into pieces of which `width` columns fit into the CPU cache."""
        size = max(4096, _CACHED // width)
        for begin, end, fold, label in self.segments:
            for at in range(begin, end, size):
                yield Segment(at, min(at + size, end), fold, label)

    def trainable(self, fold: int) -> bool:
        """Return whether the rows outside a fold have both classes."""
        outside = self.y[self.fold != fold]
        return bool(0 < outside.sum() < len(outside))

    def rows(self, chosen: NDArray[np.intp]) -> "BinaryTable":
        """Return a subset of the rows, in ascending order; transforms remain as fitted on all rows."""
        return BinaryTable(
            np.ascontiguousarray(self.columns[:, chosen]),
            self.y[chosen],
            self.fold[chosen],
            self.k,
            np.arange(len(chosen)),
            self.transforms,
            self.names,
            self.seed,
            None if self.features is None else np.ascontiguousarray(self.features[:, chosen]),
        )

    def only(self, models: NDArray[np.intp]) -> "BinaryTable":
        """Return a subset of the models."""
        if len(models) == len(self.columns):
            return self
        return replace(
            self,
            columns=np.ascontiguousarray(self.columns[models]),
            transforms=self.transforms.only(models),
            names=tuple(self.names[model] for model in models),
        )

    def thin(self, rows: int) -> "BinaryTable":
        """Return about `rows` rows, evenly from each class and fold, but all rows of a small class."""
        kept = []
        rarer = min(self.positives, self.split)
        for segment in self.segments:
            size = self.split if segment.label == 0 else self.positives
            share = min(1.0, max(rows - rarer, rows / 2) / size if size > rarer else (rows / 2) / size)
            count = max(1, round(share * (segment.end - segment.begin)))
            kept.append(segment.begin + (np.arange(count) * (segment.end - segment.begin)) // count)
        return self.rows(np.concatenate(kept))

    def in_input_order(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values in row order of the table, rearranged to the order of the input."""
        back = np.empty_like(values)
        back[self.order] = values
        return back


def sort_rows(y: NDArray[Any], fold: NDArray[Any]) -> NDArray[np.intp]:
    """Return the order by class, then fold."""
    return np.lexsort((fold, y))
