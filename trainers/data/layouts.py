"""Read the rows and files of a competition from the folders that its organisers publish."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from oof.errors import ConfigError, DataError
from trainers.data.file_index import Media

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Section [data].

    layout: "ffdi" (the image track of multi-ffdi), "ffdv" (its audio-video track), or "table" (any binary
        competition of images or clips).
    media: of "table": "images" or "clips"; default what the file names end in.
    root: folder of the data; every path below is relative to it.
    phase: of ffdi and ffdv: 1, 2, or none for the latest whose test set is there.
    validation: of ffdi and ffdv: "join" the labelled validation set to the training set, or keep it "apart".
    skip_broken: leave training rows out whose file is missing or unreadable, or whose label is contradicted by
        a copy, and record them; test rows are never left out.
    train, test: of "table": files of the training rows and of the rows to predict (CSV, Parquet or JSON).
    train_dir, test_dir: of "table": folders of their images or clips.
    id, target, path, group: of "table": column names; path holds file names (default: the id), group what must
        share a fold.
    sample_submission: header, order and ids of the submission; default `test`, or the organisers' template.
    """

    layout: Literal["ffdi", "ffdv", "table"] = "table"
    media: Media | None = None
    root: Path = Path("data")
    phase: int | None = None
    validation: Literal["join", "apart"] = "join"
    skip_broken: bool = False
    train: str = "train.csv"
    train_dir: str = "train"
    test: str = "sample_submission.csv"
    test_dir: str = "test"
    id: str = "id"
    target: str = "target"
    path: str | None = None
    group: str | None = None
    sample_submission: str | None = None

    def __post_init__(self) -> None:
        if self.phase not in (None, 1, 2):
            raise ConfigError(f"[data] phase = {self.phase}: there are phases 1 and 2; leave it out for the latest.")


@dataclass(frozen=True)
class Problem:
    """Something about the data that is not as it should be.

    kind: a word for programs. part: "train", "validation" or "test". found: what was found and expected, with
    the first few names. remedy: what to do. items: all names. is_error: training or prediction would go wrong.
    """

    kind: str
    part: str
    found: str
    remedy: str
    items: tuple[str, ...] = ()
    is_error: bool = True


@dataclass(frozen=True)
class BrokenRow:
    """A training row that `skip_broken` left out."""

    id: str
    path: str
    reason: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Competition:
    """The rows of a competition.

    train: id (text), target (int8), path (text), group (text, where given), and `column:NAME` (text) for each
        column of a training table. test: id, path, in the order of the sample submission.
    validation: like train, where it is kept apart. sample_submission: None where there is none.
    broken: rows left out of train. problems: what is wrong (`read_competition` lets only warnings through).
    unlabelled: files in the folders that no row names. notes: what a reader should know.
    """

    train: "pd.DataFrame"
    test: "pd.DataFrame"
    validation: "pd.DataFrame | None" = None
    sample_submission: Path | None = None
    broken: list[BrokenRow] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unlabelled: Mapping[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    media: Media = "images"
    root: Path = Path()
    skip_broken: bool = False


def read_competition(settings: DataSettings, quarantine: Path | None = None) -> Competition:
    """Read labels and find every file, or say what is wrong with them.

    Files are looked for by one scan per folder, so half a million rows take seconds;
    whether they can be decoded is reported by `trainers.data.check.check_data`.

    Args:
        settings: section [data].
        quarantine: the list of unreadable files that `check_data` wrote, used where `skip_broken` is set.

    Raises:
        DataError: naming the first few rows of each kind of problem and the way out.
    """
    competition = scan_competition(settings, quarantine)
    errors = [problem for problem in competition.problems if problem.is_error]
    if errors:
        lines = [f"{problem.found} {problem.remedy}" for problem in errors]
        more = " Run dfens check for the whole list." if any(problem.items for problem in errors) else ""
        raise DataError("\n".join(lines) + more)
    return competition


def scan_competition(settings: DataSettings, quarantine: Path | None = None) -> Competition:
    """Like `read_competition`, with row-level problems collected in `problems` instead of raised.

    Raises:
        DataError: a file or folder of the layout that is missing or cannot be read at all.
    """
    from trainers.data.layout_files import locate
    from trainers.data.rows import RowReader

    sources = locate(settings)
    reader = RowReader(settings, quarantine)
    train = reader.read_labelled(sources.train)
    validation = None if sources.validation is None else reader.read_labelled(sources.validation)
    if validation is not None and settings.validation == "join":
        train, validation = reader.join(train, validation), None
    train = reader.check_training(train)
    if validation is not None:
        validation = reader.check_validation(train, validation)
    test, sample = reader.read_test(sources)
    return Competition(
        train=train,
        test=test,
        validation=validation,
        sample_submission=sample,
        broken=reader.broken,
        problems=reader.problems,
        unlabelled=reader.unlabelled(sources),
        notes=(*sources.notes, *reader.notes),
        media=reader.media or "images",
        root=settings.root,
        skip_broken=settings.skip_broken,
    )
