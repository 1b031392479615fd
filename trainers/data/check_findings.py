"""Convert the findings of a check into problems with remedies: unreadable, identical, contradictory, near-duplicate."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oof.errors import examples
from trainers.data.competition import Problem
from trainers.data.file_index import Media
from trainers.media.image_info import ImageInfo

if TYPE_CHECKING:
    from trainers.data.competition import Competition

CONTRADICTED = "same bytes as a file with the other label"


@dataclass
class CheckedRows:
    """All rows of all parts: part, id, target (-1 in the test set), path; media: kind of files."""

    media: Media = "images"
    part: list[str] = field(default_factory=list)
    id: list[str] = field(default_factory=list)
    target: list[int] = field(default_factory=list)
    path: list[str] = field(default_factory=list)

    @classmethod
    def of_competition(cls, competition: "Competition") -> "CheckedRows":
        """Return the rows of all parts of a competition."""
        rows = cls(competition.media)
        rows.add("train", competition.train)
        if competition.validation is not None:
            rows.add("validation", competition.validation)
        rows.add("test", competition.test)
        return rows

    def add(self, part: str, rows: pd.DataFrame) -> None:
        """Append the rows of one part."""
        self.part += [part] * len(rows)
        self.id += rows["id"].tolist()
        self.target += rows["target"].tolist() if "target" in rows else [-1] * len(rows)
        self.path += rows["path"].tolist()

    def of(self, part: str) -> list[int]:
        """Return the positions of the rows of one part."""
        return [row for row, name in enumerate(self.part) if name == part]


def unlabelled(competition: "Competition") -> list[Problem]:
    """Report files without a row."""
    return [
        Problem(
            "unlabelled",
            part,
            f"{len(files)} files in the {part} folder have no row: {examples([Path(p).name for p in files])}.",
            "They are not used.",
            tuple(files),
            is_error=False,
        )
        for part, files in competition.unlabelled.items()
    ]


def too_few(rows: CheckedRows, k: int) -> list[Problem]:
    """Report a class with fewer rows than folds; a class without rows is reported when labels are read."""
    targets = [target for target, part in zip(rows.target, rows.part, strict=True) if part == "train"]
    least, label = min((targets.count(label), label) for label in (0, 1))
    if not 0 < least < k:
        return []
    found = f"The training set has {least} rows of class {label}, but {k} folds need at least {k} of each class."
    remedy = f"Lower [folds] k to {least}, or add rows." if least > 1 else "Add rows of this class."
    return [Problem("too-few", "train", found, remedy)]


def unreadable_problems(rows: CheckedRows, bad: dict[int, str], skip_broken: bool) -> list[Problem]:
    """Report the files of each part that cannot be used, with reasons."""
    problems = []
    for part in dict.fromkeys(rows.part):
        names = [f"{rows.id[row]} ({reason})" for row, reason in sorted(bad.items()) if rows.part[row] == part]
        if not names:
            continue
        if part == "test":
            effect = (
                "Prediction would fail" if rows.media == "images" else "They would be predicted from what can be read"
            )
            remedy = (
                f"{effect}, and a test row cannot be left out, since a submission needs "
                f"all rows: get these files again (dfens download)."
            )
        elif skip_broken:
            remedy = "They are left out ([data] skip_broken = true)."
        else:
            remedy = "Get these files again (dfens download), or leave them out with [data] skip_broken = true."
        total = sum(of == part for of in rows.part)
        found = f"{len(names)} of {total} {part} {rows.media} cannot be read: {examples(names)}."
        problems.append(Problem("unreadable", part, found, remedy, tuple(names), part == "test" or not skip_broken))
    return problems


def contradictory(rows: CheckedRows, same: list[list[int]]) -> set[int]:
    """Return the training rows whose bytes also have the other label."""
    found: set[int] = set()
    for copies in same:
        train = [row for row in copies if rows.part[row] == "train"]
        if len({rows.target[row] for row in train}) > 1:
            found.update(train)
    return found


def identical_problems(
    rows: CheckedRows, same: list[list[int]], contradictory: set[int], skip_broken: bool
) -> list[Problem]:
    """Report files with the same bytes: with both labels, within the training set, and across sets."""

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
        found = f"{len(lines)} training {rows.media} have both labels, byte for byte: {examples(list(lines), 3)}."
        problems.append(Problem("contradictory-images", "train", found, remedy, lines, not skip_broken))
    copies_in_train = tuple(
        names(train)
        for copies in same
        if len(train := [row for row in copies if rows.part[row] == "train" and row not in contradictory]) > 1
    )
    if copies_in_train:
        remedy = 'set [folds] group = "duplicates".' if rows.media == "images" else "remove them, or group them."
        found = (
            f"{len(copies_in_train)} training {rows.media} appear more than once, byte for byte: "
            f"{examples(list(copies_in_train), 3)}."
        )
        remedy = f"Copies in different folds inflate scores: {remedy}"
        problems.append(Problem("identical", "train", found, remedy, copies_in_train, is_error=False))
    for part in ("test", "validation"):
        across = tuple(names(copies) for copies in same if {"train", part} <= {rows.part[row] for row in copies})
        if across:
            found = (
                f"{len(across)} {part} {rows.media} are in the training set too, byte for byte: "
                f"{examples(list(across), 3)}."
            )
            remedy = f"They inflate the score on the {part} set."
            problems.append(Problem("identical", part, found, remedy, across, is_error=False))
    return problems


def animated(rows: CheckedRows, info: dict[int, ImageInfo]) -> list[Problem]:
    """Report files with several frames or pages, of which only the first is used."""
    problems = []
    for part in dict.fromkeys(rows.part):
        names = tuple(
            f"{rows.id[row]} ({found.frames})"
            for row, found in sorted(info.items())
            if rows.part[row] == part and found.frames > 1
        )
        if names:
            found_words = f"{len(names)} {part} images have several frames or pages: {examples(list(names))}."
            problems.append(Problem("animated", part, found_words, "Only the first is used.", names, is_error=False))
    return problems


def near_duplicates(
    rows: CheckedRows, same: list[list[int]], hashes: NDArray[np.uint64], known: NDArray[np.bool_]
) -> list[Problem]:
    """Report test and validation images that are re-encoded, resized or slightly cropped training images.

    Args:
        rows: all rows.
        same: sets of identical files, which are reported elsewhere.
        hashes, known: as `trainers.features.perceptual_hash.hash_files` returns them for all rows.
    """
    from trainers.features.perceptual_hash import nearest_hashes

    identical = {row for copies in same if any(rows.part[row] == "train" for row in copies) for row in copies}
    train = np.array([row for row in rows.of("train") if known[row]], np.int64)
    problems = []
    for part in ("test", "validation"):
        queries = np.array([row for row in rows.of(part) if known[row] and row not in identical], np.int64)
        if not len(queries) or not len(train):
            continue
        found, _ = nearest_hashes(hashes[train], hashes[queries])
        lines = tuple(
            f"{rows.id[row]} ~ {rows.id[train[at]]} ({rows.target[train[at]]})"
            for row, at in zip(queries.tolist(), found.tolist(), strict=True)
            if at >= 0
        )
        if lines:
            words = f"{len(lines)} {part} images look like copies of training images: {examples(list(lines), 3)}."
            remedy = f"They inflate the score on the {part} set."
            problems.append(Problem("near-duplicate", part, words, remedy, lines, is_error=False))
    return problems
