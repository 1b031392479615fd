"""Sealed rows: training rows that are excluded from training and scoring until a final blend is scored on them.

A score that was used for choices is biased upward, however correctly it was computed: the best of fifty models by OOF
score is partly the luckiest. Rows that were not looked at before the final choice are free of this bias. This holds
only for the first look, so every look is recorded.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof import files
from oof.errors import FoldError, StoreError
from oof.ids import Ids, as_ids, labels_fingerprint
from oof.typed import typed

FORMAT_VERSION = 1
N_DRAWS = 8


@dataclass(frozen=True, eq=False)
class SealedRows:
    """The sealed rows with their labels, which only `dfens unseal` reads.

    ids: (n_rows,) text. target: (n_rows,) 0 or 1. groups: (n_rows,) text, or None.
    """

    ids: Ids
    target: NDArray[np.int8]
    groups: Ids | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of ids and targets, independent of the order of the rows."""
        return labels_fingerprint(self.ids, self.target)


def choose_sealed(
    ids: Ids, target: NDArray[Any], share: float, *, seed: int, groups: Ids | None = None
) -> NDArray[np.bool_]:
    """Choose the rows to seal: a share of each class, keeping groups together.

    The choice depends on the set of rows, the share and the seed, not on the order of the rows or the number of folds.
    Groups (or rows, without groups) are drawn in random order, and each is sealed if that brings both classes closer to
    their share. Large groups that are drawn early can leave one class far from its share, so that the closest of
    several such draws is taken.

    Args:
        ids: (n_rows,) unique strings.
        target: (n_rows,) 0 or 1.
        share: fraction of the rows, more than 0 and at most 0.5.
        seed: random seed.
        groups: (n_rows,) text, or None.

    Returns:
        Boolean mask of the sealed rows, shape (n_rows,).

    Raises:
        FoldError: if the sealed rows or the remaining rows would lack a class.
    """
    ids, target = as_ids(ids, "training ids"), np.asarray(target)
    order = np.argsort(ids.astype(str), kind="stable")
    names = ids if groups is None else np.asarray(groups, dtype=object)
    _, unit = np.unique(names[order].astype(str), return_inverse=True)
    counts = np.stack([np.bincount(unit, target[order] == label) for label in (0, 1)], axis=1)  # (n_units, 2)
    wanted = share * counts.sum(axis=0)
    rng = np.random.default_rng([seed, 0x5EA1])  # a different stream from that of the folds
    draws = [_draw_units(counts, wanted, rng) for _ in range(1 if groups is None else N_DRAWS)]
    chosen, _ = min(draws, key=lambda draw: draw[1])
    sealed = np.zeros(len(ids), bool)
    sealed[order] = chosen[unit]
    for part, rows in (("sealed rows", sealed), ("rows left for training", ~sealed)):
        lacking = [label for label in (0, 1) if not (target[rows] == label).any()]
        if lacking:
            what = "rows" if groups is None else "groups"
            raise FoldError(
                f"[folds] sealed = {share:g} of {len(ids)} rows: the {part} would lack class {lacking[0]}. The {what} "
                f"of that class are too few; choose another share, other groups, or seal none."
            )
    return sealed


def _draw_units(
    counts: NDArray[np.int64], wanted: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.bool_], float]:
    """Choose units in random order, and return them with the distance of the classes from their shares.

    The distance is the sum over the classes of the squared difference from the wanted number, relative to that number.
    Plain numbers are used: with 300,000 groups, one array operation per group would take most of a minute.
    """
    negatives, positives = (max(float(value), 1e-9) for value in wanted)
    sealed_negatives = sealed_positives = 0.0
    chosen, distance = np.zeros(len(counts), bool), 2.0
    order = rng.permutation(len(counts))
    for candidate, (negative, positive) in zip(order.tolist(), counts[order].tolist(), strict=True):
        new_negatives, new_positives = sealed_negatives + negative, sealed_positives + positive
        new_distance = (new_negatives / negatives - 1) ** 2 + (new_positives / positives - 1) ** 2
        if new_distance < distance:
            sealed_negatives, sealed_positives, distance = new_negatives, new_positives, new_distance
            chosen[candidate] = True
    return chosen, distance


# ---- record of looks ---------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """One look at the sealed rows.

    time: UTC, ISO 8601. blend: name of the blend. fingerprint: fingerprint of its predictions on the sealed rows.
    sealed: fingerprint of the sealed rows. metric, score, low, high: the score and its 95 % interval. nested_score:
    nested score of the blend.
    """

    time: str
    blend: str
    fingerprint: str
    sealed: str
    rows: int
    metric: str
    score: float
    low: float
    high: float
    nested_score: float


class LookRecord:
    """The record of all looks at sealed rows: `looks.json`, which is never moved or removed.

    It is kept when folds are recreated, since a look cannot be undone. Only one process at a time can add to it
    (`.looks.lock`), and the file is replaced atomically.
    """

    def __init__(self, root: Path | str) -> None:
        self.path = Path(root) / "looks.json"

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the lock that prevents other processes from looking at the same time."""
        with files.file_lock(self.path.with_name(".looks.lock")):
            yield

    def read(self) -> tuple[Look, ...]:
        """Return all looks, oldest first.

        Raises:
            StoreError: if the file was truncated or edited, or was written by a newer dfens.
        """
        try:
            value = files.read_json(self.path, "version", "looks")
        except FileNotFoundError:
            return ()
        except StoreError as err:  # whose advice to move the file away would make a later look the first
            raise StoreError(f"{self.path} is not a readable record of looks. Restore it from a copy.") from err
        if value["version"] != FORMAT_VERSION:
            raise StoreError(
                f"{self.path} has format version {value['version']}; this dfens reads {FORMAT_VERSION}. Use the dfens "
                f"that wrote it, or a newer one."
            )
        try:
            return typed(tuple[Look, ...], value["looks"])
        except TypeError as err:
            raise StoreError(
                f"{self.path} is not a record of looks ({err}). It was edited by hand: restore it."
            ) from err

    def write(self, looks: Sequence[Look]) -> None:
        """Replace the record; must be called within `turn`."""
        files.write_json(self.path, {"version": FORMAT_VERSION, "looks": [asdict(look) for look in looks]})


def count_looks(looks: Sequence[Look], sealed: str) -> str:
    """Return a phrase that states how often the sealed rows were looked at.

    Args:
        looks: all looks of the record. sealed: fingerprint of the currently sealed rows.
    """
    if not looks:
        return "not looked at yet"
    times = "once" if len(looks) == 1 else f"{len(looks)} times"
    before = sum(look.sealed != sealed for look in looks)
    more = f", {before} of them before the folds were recreated" if before else ""
    return f"looked at {times}{more}"
