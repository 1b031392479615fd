"""Check a competition's labels and media before days of training: what is wrong, by name, and the way out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oof.files import write_json, write_text
from oof.progress import SILENT, Progress
from trainers.data.check_findings import (
    CONTRADICTED,
    Rows,
    contradictory,
    identical_problems,
    near_copies,
    size_shortcut,
    too_few,
    unlabelled,
    unreadable_problems,
)
from trainers.data.layouts import Problem
from trainers.data.quarantine import read_quarantine, write_quarantine
from trainers.features.perceptual_hash import hash_files
from trainers.media.image_info import Look, file_sizes, identical_files, in_threads, look_at

if TYPE_CHECKING:
    from trainers.data.layouts import Competition

_SAMPLE = 1000  # images of a part that are decoded where not all are asked for
_MOST_SIZES = 5


@dataclass(frozen=True)
class PartCounts:
    """How many rows a part has, of which class, and what its images look like.

    decoded: images decoded, of which `unreadable` failed. sizes: the commonest "width x height" and their counts.
    """

    part: str
    rows: int
    real: int | None
    fake: int | None
    files_mb: float
    decoded: int
    unreadable: int
    distinct_sizes: int
    sizes: dict[str, int]


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    parts: counts. problems: errors first. left_out: training rows that skip_broken leaves out, with reasons.
    lists: full list of names of each problem, by "part-kind". notes: what a reader should know.
    """

    parts: tuple[PartCounts, ...]
    problems: tuple[Problem, ...]
    left_out: tuple[tuple[str, str], ...]
    lists: dict[str, Path]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether training and prediction can go ahead."""
        return not any(problem.is_error for problem in self.problems)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        problems = [
            {**asdict(problem), "items": list(problem.items[:20]), "count": len(problem.items)}
            for problem in self.problems
        ]
        return {
            "ok": self.ok,
            "parts": [asdict(part) for part in self.parts],
            "problems": problems,
            "left_out": [{"id": id_, "reason": reason} for id_, reason in self.left_out],
            "lists": {name: str(path) for name, path in self.lists.items()},
            "notes": list(self.notes),
        }


def check_data(
    competition: "Competition",
    *,
    decode: bool,
    workers: int,
    report_dir: Path,
    k: int = 2,
    quarantine: Path | None = None,
    hash_cache: Path | None = None,
    progress: Progress = SILENT,
) -> CheckReport:
    """Look at every row and file of a competition.

        report_dir/
        ├── report.json          counts, problems, notes
        └── PART-KIND.txt        all names of one kind of problem, one a line

    Args:
        competition: as `trainers.data.layouts.scan_competition` gave it.
        decode: decode every image; else all of a small set, and 1,000 of each part of a large one.
        workers: threads.
        report_dir: where the lists go; those of an earlier check are replaced.
        k: folds that the rows must suffice for.
        quarantine: where unreadable and contradictory training files are listed for skip_broken.
        hash_cache: of perceptual hashes; near-duplicates across train and test are looked for where all is decoded.
        progress: told of each step.
    """
    rows = Rows()
    rows.add("train", competition.train)
    if competition.validation is not None:
        rows.add("validation", competition.validation)
    rows.add("test", competition.test)
    sizes = file_sizes(rows.path, workers, progress)
    same = identical_files(rows.path, sizes, workers, progress)
    chosen = _to_decode(rows, sizes, decode) if competition.media == "images" else []
    looks = dict(
        zip(chosen, in_threads(look_at, [rows.path[row] for row in chosen], workers, progress, "decode"), strict=True)
    )
    looks |= {row: Look(error="is empty (0 bytes)") for row, size in enumerate(sizes) if size == 0}
    problems = [*competition.problems, *unlabelled(competition)]
    bad = {row: str(look.error) for row, look in looks.items() if look.error is not None}
    contradicted = contradictory(rows, same)
    problems += too_few(rows, k)
    problems += unreadable_problems(rows, bad, competition.skip_broken)
    problems += identical_problems(rows, same, contradicted, competition.skip_broken)
    problems += size_shortcut(rows, looks)
    if competition.media == "images" and len(chosen) == sum(size > 0 for size in sizes):
        hashes, known = hash_files(
            rows.path, root=competition.root, cache=hash_cache, workers=workers, progress=progress
        )
        problems += near_copies(rows, same, hashes, known)
    if quarantine is not None:
        _update_quarantine(quarantine, competition.root, rows, looks, bad, contradicted)
    left_out = [(row.id, row.reason) for row in competition.broken]
    if competition.skip_broken:
        broken = {**{row: CONTRADICTED for row in contradicted}, **bad}
        left_out += [(rows.id[row], reason) for row, reason in sorted(broken.items()) if rows.part[row] == "train"]
    report = CheckReport(
        tuple(_count(rows, part, sizes, looks) for part in dict.fromkeys(rows.part)),
        tuple(sorted(problems, key=lambda problem: not problem.is_error)),
        tuple(left_out),
        _write_lists(report_dir, problems, left_out),
        (*competition.notes, *_decode_notes(competition, sizes, chosen)),
    )
    write_json(report_dir / "report.json", report.as_json())
    return report


def _to_decode(rows: Rows, sizes: Sequence[int], decode: bool) -> list[int]:
    """Which files to decode: all, or an even sample of each large part."""
    chosen: list[int] = []
    for part in dict.fromkeys(rows.part):
        there = [row for row, (of, size) in enumerate(zip(rows.part, sizes, strict=True)) if of == part and size > 0]
        if not decode and len(there) > 2 * _SAMPLE:
            there = [there[at] for at in np.linspace(0, len(there) - 1, _SAMPLE).astype(int)]
        chosen += there
    return chosen


def _update_quarantine(
    path: Path,
    root: Path,
    rows: Rows,
    looks: dict[int, Look],
    bad: dict[int, str],
    contradictory: set[int],
) -> None:
    """Replace the list, keeping what an earlier, fuller check found about files that were not decoded now."""
    examined = {rows.path[row] for row in looks}
    kept = {
        file: reason
        for file, reason in read_quarantine(path, root).items()
        if file not in examined and reason != CONTRADICTED
    }
    found = {rows.path[row]: reason for row, reason in bad.items() if rows.part[row] != "test"}
    write_quarantine(path, root, {**kept, **{rows.path[row]: CONTRADICTED for row in contradictory}, **found})


def _count(rows: Rows, part: str, sizes: Sequence[int], looks: dict[int, Look]) -> PartCounts:
    of = [row for row, name in enumerate(rows.part) if name == part]
    shapes = Counter(f"{look.width} x {look.height}" for row in of if (look := looks.get(row)) and not look.error)
    targets = Counter(rows.target[row] for row in of)
    return PartCounts(
        part,
        len(of),
        None if part == "test" else targets[0],
        None if part == "test" else targets[1],
        round(sum(max(0, sizes[row]) for row in of) / 1e6, 3),
        sum(row in looks for row in of),
        sum(row in looks and looks[row].error is not None for row in of),
        len(shapes),
        dict(shapes.most_common(_MOST_SIZES)),
    )


def _decode_notes(competition: "Competition", sizes: Sequence[int], chosen: list[int]) -> list[str]:
    if competition.media == "clips":
        return ["Clips are looked for and compared, not decoded: their frames and sound cannot be read yet."]
    with_bytes = sum(size > 0 for size in sizes)
    if len(chosen) < with_bytes:
        return [f"{len(chosen)} of {with_bytes} images were decoded; dfens check --decode decodes all."]
    return []


def _write_lists(report_dir: Path, problems: Sequence[Problem], left_out: Sequence[tuple[str, str]]) -> dict[str, Path]:
    """Write all names of each problem; return the files."""
    for old in report_dir.glob("*.txt"):
        old.unlink()
    lists = {f"{problem.part}-{problem.kind}": list(problem.items) for problem in problems if problem.items}
    if left_out:
        lists["left-out"] = [f"{id_}\t{reason}" for id_, reason in left_out]
    paths = {}
    for name, lines in lists.items():
        paths[name] = report_dir / f"{name}.txt"
        write_text(paths[name], "\n".join(lines) + "\n")
    return paths
