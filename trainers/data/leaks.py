"""Audit files for leaks: properties of the files that separate real from fake without regard to their content.

A model learns them first. Leading silence alone separates the classes of FakeAVCeleb and AV-Deepfake1M almost
perfectly, and models that learned it fail when it is trimmed (Smeu et al., CVPR 2025, arXiv 2412.00175).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import StoreError, examples
from oof.files import read_json
from oof.progress import SILENT, Progress
from oof.typed import typed
from trainers.data.competition import Problem
from trainers.data.file_index import Media
from trainers.data.leak_properties import read_properties
from trainers.data.leak_scores import Property, PropertyScore, Target, count_tests, score_property

LEAKS_NAME = "leaks.json"
FAMILY_LEVEL = 0.99  # probability that no property of clean data is reported as a leak by chance
SAMPLES: dict[Media, int] = {"images": 2000, "clips": 200}
MOST: dict[Media, int] = {"images": 40_000, "clips": 10_000}


@dataclass(frozen=True)
class LeakAudit:
    """How well each property of the files separates the classes by itself.

    media: "images" or "clips". real, fake: number of files that were read. all_rows: number of labelled files.
    scores: best first. constant: properties that are the same for all files. unreadable: number of files left out.
    confidence_level: of all intervals together. labels: `labels_fingerprint` of the labelled files' rows.
    """

    media: Media
    real: int
    fake: int
    all_rows: int
    scores: tuple[PropertyScore, ...]
    constant: tuple[str, ...]
    unreadable: int
    confidence_level: float = FAMILY_LEVEL
    labels: str = ""

    @property
    def leaks(self) -> tuple[PropertyScore, ...]:
        """Return the properties that separate the classes beyond chance, best first."""
        return tuple(score for score in self.scores if score.verdict != "clean")

    def as_json(self) -> dict[str, Any]:
        """Return plain values, each score with its verdict."""
        scores = [{**asdict(score), "verdict": score.verdict} for score in self.scores]
        return {**asdict(self), "scores": scores, "leaks": [score.name for score in self.leaks]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "LeakAudit":
        """Return the audit that `as_json` wrote.

        Raises:
            StoreError: if it has another version.
        """
        try:
            return typed(cls, stored)
        except TypeError as err:
            raise StoreError(f"The leak audit has another version ({err}). Run dfens check again.") from err

    def problems(self) -> list[Problem]:
        """Return one warning for each remedy, naming the properties it applies to."""
        by_advice: dict[str, list[PropertyScore]] = {}
        for score in self.leaks:
            by_advice.setdefault(score.advice, []).append(score)
        problems = []
        for advice, scores in by_advice.items():
            named = tuple(f"{score.name.split(' (')[0]} (AUC {score.auc:.3f})" for score in scores)
            words = "separates" if len(named) == 1 else "separate"
            listed = examples(list(named), 3)
            found = f"{listed[0].upper()}{listed[1:]} alone {words} real from fake, without regard to the content."
            problems.append(Problem("leak", "train", found, advice, named, is_error=False))
        return problems


def read_leak_audit(report_dir: Path) -> LeakAudit | None:
    """Return the audit of the last check from its folder, or None if there is none.

    Raises:
        StoreError: if the file cannot be read or has another version.
    """
    path = report_dir / LEAKS_NAME
    return LeakAudit.from_json(read_json(path)) if path.is_file() else None


def audit_leaks(
    paths: Sequence[str],
    target: NDArray[Any],
    media: Media,
    *,
    groups: NDArray[Any] | None = None,
    most: int | None = None,
    threads: int = 1,
    progress: Progress = SILENT,
) -> LeakAudit:
    """Return how well each property of files separates the classes by itself.

    Args:
        paths: paths of the files, (n_rows,).
        target: (n_rows,) 0 or 1.
        media: kind of files.
        groups: (n_rows,) groups of dependent files, such as clips of one person; None if there are none.
        most: number of files to read, half of each class if there are enough; None for all.
        threads: number of reading threads.
        progress: receives progress by file.
    """
    y = np.asarray(target, np.int8)
    chosen = _balanced_sample(y, len(y) if most is None else most)
    columns, is_read = read_properties([paths[row] for row in chosen], media, threads=threads, progress=progress)
    known = chosen[is_read]
    scores, constant = score_properties(columns, y[known], None if groups is None else np.asarray(groups)[known])
    counts = np.bincount(y[known], minlength=2)
    return LeakAudit(
        media, int(counts[0]), int(counts[1]), len(y), tuple(scores), tuple(constant), int((~is_read).sum())
    )


def score_properties(
    columns: Sequence[Property], target: Target, groups: NDArray[Any] | None = None
) -> tuple[list[PropertyScore], list[str]]:
    """Return the scores of properties, best first, and the names of those that cannot be scored.

    The intervals hold simultaneously for all properties with probability FAMILY_LEVEL (Bonferroni).
    """
    level = 1 - (1 - FAMILY_LEVEL) / max(1, count_tests(columns))
    scores, constant = [], []
    for item in columns:
        score = score_property(item, target, groups, confidence_level=level)
        if score is None:
            constant.append(item.name)
        else:
            scores.append(score)
    order = {"separates": 0, "hints": 1, "clean": 2}
    return sorted(scores, key=lambda score: (order[score.verdict], -score.auc)), constant


def _balanced_sample(y: Target, most: int) -> NDArray[np.intp]:
    """Return at most `most` rows, evenly spaced within each class, half of each class if there are enough."""
    by_class = [np.flatnonzero(y == label) for label in (0, 1)]
    share = max(most // 2, most - min(len(rows) for rows in by_class))
    chosen = [rows[np.unique(np.linspace(0, len(rows) - 1, min(share, len(rows))).astype(int))] for rows in by_class]
    return np.sort(np.concatenate(chosen))
