"""What a check finds, as problems with a remedy: unreadable, identical, contradictory, near-identical images."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oof.errors import examples
from trainers.data.layouts import Problem
from trainers.media.image_info import Look

if TYPE_CHECKING:
    from trainers.data.layouts import Competition

CONTRADICTED = "same bytes as a file with the other label"


@dataclass
class Rows:
    """All rows of all parts side by side: part, id, target (-1 in the test set), path."""

    part: list[str] = field(default_factory=list)
    id: list[str] = field(default_factory=list)
    target: list[int] = field(default_factory=list)
    path: list[str] = field(default_factory=list)

    def add(self, part: str, rows: pd.DataFrame) -> None:
        self.part += [part] * len(rows)
        self.id += rows["id"].tolist()
        self.target += rows["target"].tolist() if "target" in rows else [-1] * len(rows)
        self.path += rows["path"].tolist()


def unlabelled(competition: "Competition") -> list[Problem]:
    return [
        Problem(
            "unlabelled",
            part,
            f"{len(files)} files in the {part} folder are named by no row: {examples([Path(p).name for p in files])}.",
            "They are not used.",
            tuple(files),
            is_error=False,
        )
        for part, files in competition.unlabelled.items()
    ]


def too_few(rows: Rows, k: int) -> list[Problem]:
    """Fewer rows of a class than folds; no row of a class at all is told where labels are read."""
    targets = [target for target, part in zip(rows.target, rows.part, strict=True) if part == "train"]
    least, label = min((targets.count(label), label) for label in (0, 1))
    if not 0 < least < k:
        return []
    found = f"The training set has {least} rows of class {label}, and {k} folds need {k} of each class at least."
    return [Problem("too-few", "train", found, f"Lower [folds] k to {max(2, least)}, or add rows.")]


def unreadable_problems(rows: Rows, bad: dict[int, str], skip_broken: bool) -> list[Problem]:
    problems = []
    for part in dict.fromkeys(rows.part):
        names = [f"{rows.id[row]} ({reason})" for row, reason in sorted(bad.items()) if rows.part[row] == part]
        if not names:
            continue
        if part == "test":
            remedy = (
                "Prediction stops at the first of them, and a test row cannot be left out, since a submission needs "
                "all: get these files again (dfens download)."
            )
        elif skip_broken:
            remedy = "They are left out ([data] skip_broken = true)."
        else:
            remedy = "Get these files again (dfens download), or leave them out with [data] skip_broken = true."
        found = f"{len(names)} {part} images cannot be read: {examples(names)}."
        problems.append(Problem("unreadable", part, found, remedy, tuple(names), part == "test" or not skip_broken))
    return problems


def contradictory(rows: Rows, same: list[list[int]]) -> set[int]:
    """Training rows whose bytes also stand under the other label."""
    found: set[int] = set()
    for copies in same:
        train = [row for row in copies if rows.part[row] == "train"]
        if len({rows.target[row] for row in train}) > 1:
            found.update(train)
    return found


def identical_problems(rows: Rows, same: list[list[int]], contradictory: set[int], skip_broken: bool) -> list[Problem]:
    def names(copies: list[int]) -> str:
        return " = ".join(
            f"{rows.id[row]}" + (f" ({rows.target[row]})" if row in contradictory else "") for row in copies
        )

    problems = []
    wrong = [copies for copies in same if any(row in contradictory for row in copies)]
    if wrong:
        remedy = (
            "They are left out ([data] skip_broken = true)."
            if skip_broken
            else "Correct the labels, or leave these rows out with [data] skip_broken = true."
        )
        lines = tuple(names([row for row in copies if row in contradictory]) for copies in wrong)
        found = f"{len(lines)} training images stand under both labels, byte for byte: {examples(list(lines), 3)}."
        problems.append(Problem("contradictory-images", "train", found, remedy, lines, not skip_broken))
    copies_in_train = tuple(
        names(train)
        for copies in same
        if len(train := [row for row in copies if rows.part[row] == "train" and row not in contradictory]) > 1
    )
    if copies_in_train:
        problems.append(
            Problem(
                "identical",
                "train",
                f"{len(copies_in_train)} training images are there more than once, byte for byte: "
                f"{examples(list(copies_in_train), 3)}.",
                'Copies in different folds make scores too good: set [folds] group = "duplicates".',
                copies_in_train,
                is_error=False,
            )
        )
    for part in ("test", "validation"):
        across = tuple(names(copies) for copies in same if {"train", part} <= {rows.part[row] for row in copies})
        if across:
            problems.append(
                Problem(
                    "identical",
                    part,
                    f"{len(across)} {part} images stand in the training set too, byte for byte: "
                    f"{examples(list(across), 3)}.",
                    f"The score on the {part} set will be too good by them.",
                    across,
                    is_error=False,
                )
            )
    return problems


def size_shortcut(rows: Rows, looks: dict[int, Look]) -> list[Problem]:
    """Warn where the size of an image alone tells its class: a model may learn that and nothing else."""
    from oof.metrics import roc_auc

    pixels = [
        (rows.target[row], look.height * look.width)
        for row, look in looks.items()
        if rows.part[row] == "train" and not look.error
    ]
    y = np.array([target for target, _ in pixels])
    if len(set(y.tolist())) < 2 or len(y) < 20:
        return []
    auc = roc_auc(y, np.array([area for _, area in pixels], np.float64))
    if max(auc, 1 - auc) < 0.8:
        return []
    return [
        Problem(
            "size-shortcut",
            "train",
            f"The size of an image alone tells real from fake with AUC {max(auc, 1 - auc):.3f}.",
            "A model may learn the traces of resizing and no forgery; see whether the test set has the same sizes.",
            is_error=False,
        )
    ]


def near_copies(
    rows: Rows, same: list[list[int]], hashes: NDArray[np.uint64], known: NDArray[np.bool_]
) -> list[Problem]:
    """Test images that are the same picture as a training image, re-encoded, resized or a little cropped.

    Args:
        rows: all rows.
        same: sets of identical files, which are told elsewhere.
        hashes, known: as `trainers.features.perceptual_hash.hash_files` gave them for all rows.
    """
    from trainers.features.perceptual_hash import nearest_hashes

    identical = {row for copies in same for row in copies}
    of_part = {
        part: np.array([row for row, name in enumerate(rows.part) if name == part and known[row]], np.int64)
        for part in ("train", "test")
    }
    queries = np.array([row for row in of_part["test"].tolist() if row not in identical], np.int64)
    if not len(queries) or not len(of_part["train"]):
        return []
    found, _ = nearest_hashes(hashes[of_part["train"]], hashes[queries])
    lines = [
        f"{rows.id[row]} ~ {rows.id[of_part['train'][at]]} ({rows.target[of_part['train'][at]]})"
        for row, at in zip(queries.tolist(), found.tolist(), strict=True)
        if at >= 0
    ]
    if not lines:
        return []
    return [
        Problem(
            "near",
            "test",
            f"{len(lines)} test images look like copies of training images: {examples(lines, 3)}.",
            "The score on the test set will be too good by them; their labels can be read off.",
            tuple(lines),
            is_error=False,
        )
    ]
