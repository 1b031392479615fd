"""Check a competition's labels and media before training, and report problems with their remedies."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oof.files import write_json, write_text
from oof.ids import labels_fingerprint
from oof.progress import SILENT, Progress
from trainers.data.check_clips import ClipCheck, ClipCounts, clip_problems, count_clips, inspect_clip
from trainers.data.check_findings import (
    CONTRADICTED,
    CheckedRows,
    animated,
    contradictory,
    identical_problems,
    near_duplicates,
    too_few,
    unlabelled,
    unreadable_problems,
)
from trainers.data.competition import Problem
from trainers.data.groups import column_groups_of, unused_originals
from trainers.data.leaks import LEAKS_NAME, MOST, SAMPLES, LeakAudit, audit_leaks
from trainers.data.originals import NO_VALUE_REMEDY, ColumnGroups, no_value_found
from trainers.data.quarantine import read_quarantine, write_quarantine
from trainers.features.perceptual_hash import hash_files
from trainers.media.image_info import ImageInfo, file_sizes, identical_files, in_threads, inspect_image

if TYPE_CHECKING:
    from trainers.data.competition import Competition

_SAMPLES = {"images": 1000, "clips": 100}  # number of files to decode in each part unless all are requested
_MOST_SIZES = 5
_LEAST_AUDITED = 3  # minimum number of files of each class
_NOT_AUDITED = (
    "The files were not audited for leaks: an audit reads labels, and there are no folds with the present [folds] "
    "sealed, so it is not known whose labels must not be read. Run dfens folds, then dfens check again."
)


@dataclass(frozen=True)
class CheckOptions:
    """The thoroughness of a check.

    decode: decode every file; otherwise all files of small parts, and a sample of large ones. leaks: audit all
    training files for leaks (at most 40,000 images or 10,000 clips); otherwise a sample of 2,000 images or 200 clips.
    threads: number of threads. k: number of folds for which there must be enough rows. sealed: ids of training rows
    whose labels the audit must not read; None if they are not known, in which case it reads none.
    """

    decode: bool = False
    leaks: bool = False
    threads: int = 1
    k: int = 2
    sealed: frozenset[str] | None = frozenset()


@dataclass(frozen=True)
class PartCounts:
    """Counts of rows and classes in a part, and statistics of its files.

    decoded: number of files decoded, of which `unreadable` failed. sizes: the most frequent "width x height" with
    counts.
    clips: statistics of the decoded clips, if it is a part of clips.
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
    clips: ClipCounts | None = None


@dataclass(frozen=True)
class CheckReport:
    """The result of a check.

    parts: counts. problems: errors first. left_out: training rows that skip_broken leaves out, with reasons.
    lists: full list of names of each problem, by "part-kind". notes: further information. leaks: properties
    of the files that separate the classes by themselves; None if a class has too few files.
    """

    parts: tuple[PartCounts, ...]
    problems: tuple[Problem, ...]
    left_out: tuple[tuple[str, str], ...]
    lists: dict[str, Path]
    notes: tuple[str, ...]
    leaks: LeakAudit | None = None

    @property
    def ok(self) -> bool:
        """Return whether training and prediction are possible."""
        return not any(problem.is_error for problem in self.problems)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
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
            "leaks": None if self.leaks is None else self.leaks.as_json(),
        }


def check_data(
    competition: "Competition",
    options: CheckOptions,
    *,
    report_dir: Path,
    quarantine: Path | None = None,
    hash_cache: Path | None = None,
    progress: Progress = SILENT,
) -> CheckReport:
    """Inspect every row and file of a competition, and report what is wrong.

        report_dir/
        ├── report.json          counts, problems, notes
        ├── leaks.json           the leak audit; absent if a class has too few files
        └── PART-KIND.txt        all names with one kind of problem, one per line

    Args:
        competition: as `trainers.data.layouts.scan_competition` returns it.
        options: thoroughness of the check.
        report_dir: folder of the lists; those of an earlier check are replaced.
        quarantine: file that lists unreadable and contradictory training files for skip_broken.
        hash_cache: cache of perceptual hashes; near-duplicates across sets are searched if all files are decoded.
        progress: receives the progress of each step.
    """
    rows, threads = CheckedRows.of_competition(competition), options.threads
    sizes = file_sizes(rows.path, threads, progress)
    same = identical_files(rows.path, sizes, threads, progress)
    chosen = _to_decode(rows, sizes, options.decode)
    inspected = _inspect(rows, sizes, chosen, threads, progress)
    bad = {row: str(info.error) for row, info in inspected.items() if info.error is not None}
    contradicted = contradictory(rows, same)
    problems = [*competition.problems, *unlabelled(competition), *too_few(rows, options.k)]
    problems += unreadable_problems(rows, bad, competition.skip_broken)
    problems += identical_problems(rows, same, contradicted, competition.skip_broken)
    problems += _media_problems(rows, inspected)
    if competition.media == "images" and len(chosen) == sum(size > 0 for size in sizes):
        hashes, known = hash_files(
            rows.path, root=competition.root, cache=hash_cache, threads=threads, progress=progress
        )
        problems += near_duplicates(rows, same, hashes, known)
    groups = column_groups_of(competition) if "group" in competition.train else None
    problems += _no_groups(groups)
    leaks = _audit(competition, groups, options, progress)
    problems += [] if leaks is None else leaks.problems()
    if quarantine is not None:
        _update_quarantine(quarantine, competition.root, rows, set(inspected), bad, contradicted)
    left_out = [(row.id, row.reason) for row in competition.broken]
    if competition.skip_broken:
        broken = {**{row: CONTRADICTED for row in contradicted}, **bad}
        left_out += [(rows.id[row], reason) for row, reason in sorted(broken.items()) if rows.part[row] == "train"]
    report = CheckReport(
        tuple(_count(rows, part, sizes, inspected) for part in dict.fromkeys(rows.part)),
        tuple(sorted(problems, key=lambda problem: not problem.is_error)),
        tuple(left_out),
        _write_lists(report_dir, problems, left_out),
        (
            *competition.notes,
            *_file_notes(competition, groups, sizes, chosen),
            *([_NOT_AUDITED] * (options.sealed is None)),
        ),
        leaks,
    )
    write_json(report_dir / "report.json", report.as_json())
    if leaks is None:
        (report_dir / LEAKS_NAME).unlink(missing_ok=True)  # from an earlier check
    else:
        write_json(report_dir / LEAKS_NAME, leaks.as_json())
    return report


def _no_groups(groups: ColumnGroups | None) -> list[Problem]:
    """Report a column of groups without any value."""
    if groups is None or groups.missing < len(groups.names):
        return []
    return [Problem("groups", "train", f"[data] group: {no_value_found(groups)}", NO_VALUE_REMEDY)]


def _audit(
    competition: "Competition", groups: ColumnGroups | None, options: CheckOptions, progress: Progress
) -> LeakAudit | None:
    """Audit the training files, or a sample of them; return None if a class has too few."""
    if options.sealed is None:
        return None
    train = competition.set_apart(sorted(options.sealed)).train
    y = train["target"].to_numpy()
    if min((y == label).sum() for label in (0, 1)) < _LEAST_AUDITED:
        return None
    paths = train["path"].tolist()
    is_audited = ~competition.train["id"].isin(options.sealed).to_numpy()
    names = None if groups is None else groups.names[is_audited]
    most = (MOST if options.leaks else SAMPLES)[competition.media]
    audit = audit_leaks(
        paths, y, competition.media, groups=names, most=most, threads=options.threads, progress=progress
    )
    return replace(audit, labels=labels_fingerprint(train["id"], y))


Inspected = dict[int, ImageInfo] | dict[int, ClipCheck]


def _to_decode(rows: CheckedRows, sizes: Sequence[int], decode: bool) -> list[int]:
    """Return the files to decode: all, or an even sample of each large part."""
    sample = _SAMPLES[rows.media]
    chosen: list[int] = []
    for part in dict.fromkeys(rows.part):
        there = [row for row in rows.of(part) if sizes[row] > 0]
        if not decode and len(there) > 2 * sample:
            there = [there[at] for at in np.linspace(0, len(there) - 1, sample).astype(int)]
        chosen += there
    return chosen


def _inspect(rows: CheckedRows, sizes: Sequence[int], chosen: list[int], threads: int, progress: Progress) -> Inspected:
    """Decode files and return what was found; empty files are not decoded."""
    paths = [rows.path[row] for row in chosen]
    empty = [row for row, size in enumerate(sizes) if size == 0]
    reason = "is empty (0 bytes)"
    if rows.media == "clips":
        clips = in_threads(inspect_clip, paths, threads, progress, "decode clips")
        return dict(zip(chosen, clips, strict=True)) | {row: ClipCheck(error=reason) for row in empty}
    images = in_threads(inspect_image, paths, threads, progress, "decode images")
    return dict(zip(chosen, images, strict=True)) | {row: ImageInfo(error=reason) for row in empty}


def _media_problems(rows: CheckedRows, inspected: Inspected) -> list[Problem]:
    """Return warnings about files that can be read."""
    images = {row: info for row, info in inspected.items() if isinstance(info, ImageInfo)}
    problems = animated(rows, images)
    for part in dict.fromkeys(rows.part):
        clips = {row: info for row in rows.of(part) if isinstance(info := inspected.get(row), ClipCheck)}
        problems += clip_problems(part, [rows.id[row] for row in clips], list(clips.values()))
    return problems


def _update_quarantine(
    path: Path, root: Path, rows: CheckedRows, inspected: set[int], bad: dict[int, str], contradictory: set[int]
) -> None:
    """Replace the list, keeping what an earlier check found about files that were not decoded now."""
    examined = {rows.path[row] for row in inspected}
    kept = {
        file: reason
        for file, reason in read_quarantine(path, root).items()
        if file not in examined and reason != CONTRADICTED
    }
    found = {rows.path[row]: reason for row, reason in bad.items() if rows.part[row] != "test"}
    write_quarantine(path, root, {**kept, **{rows.path[row]: CONTRADICTED for row in contradictory}, **found})


def _count(rows: CheckedRows, part: str, sizes: Sequence[int], inspected: Inspected) -> PartCounts:
    of = rows.of(part)
    found = [info for row in of if (info := inspected.get(row)) is not None]
    shapes = Counter(shape for info in found if (shape := _shape(info)) is not None)
    targets = Counter(rows.target[row] for row in of)
    return PartCounts(
        part,
        len(of),
        None if part == "test" else targets[0],
        None if part == "test" else targets[1],
        round(sum(max(0, sizes[row]) for row in of) / 1e6, 3),
        len(found),
        sum(info.error is not None for info in found),
        len(shapes),
        dict(shapes.most_common(_MOST_SIZES)),
        count_clips([info for info in found if isinstance(info, ClipCheck)]),
    )


def _shape(info: ImageInfo | ClipCheck) -> str | None:
    """Return width x height of a readable file."""
    if info.error is not None:
        return None
    if isinstance(info, ImageInfo):
        return f"{info.width} x {info.height}"
    picture = None if info.info is None else info.info.picture
    return None if picture is None else f"{picture.width} x {picture.height}"


def _file_notes(
    competition: "Competition", groups: ColumnGroups | None, sizes: Sequence[int], chosen: list[int]
) -> list[str]:
    with_bytes = sum(size > 0 for size in sizes)
    notes = []
    if len(chosen) < with_bytes:
        notes.append(
            f"{len(chosen)} of {with_bytes} {competition.media} were decoded; dfens check --decode decodes all of them."
        )
    said = (None if groups is None else groups.note, unused_originals(competition))
    return [*notes, *(f"{text}." for text in said if text)]


def _write_lists(report_dir: Path, problems: Sequence[Problem], left_out: Sequence[tuple[str, str]]) -> dict[str, Path]:
    """Write all names of each problem; return the files."""
    for old in report_dir.glob("*.txt"):
        old.unlink(missing_ok=True)  # by another check at the same time
    lists: dict[str, list[str]] = {}
    for problem in problems:
        if problem.items:
            lists.setdefault(f"{problem.part}-{problem.kind}", []).extend(problem.items)
    if left_out:
        lists["left-out"] = [f"{id_}\t{reason}" for id_, reason in left_out]
    paths = {}
    for name, lines in lists.items():
        paths[name] = report_dir / f"{name}.txt"
        write_text(paths[name], "\n".join(lines) + "\n")
    return paths
