"""Read the rows and files of a competition in one of the known layouts."""

from pathlib import Path

from oof.errors import DataError
from trainers.data.competition import Competition
from trainers.data.layout_files import locate
from trainers.data.rows import RowReader
from trainers.data.settings import DataSettings


def read_competition(settings: DataSettings, quarantine: Path | None = None) -> Competition:
    """Read labels and find every file, or raise an error that lists the problems.

    Files are found with one scan per folder, so half a million rows take seconds;
    `trainers.data.check.check_data` checks whether they can be decoded.

    Args:
        settings: section [data].
        quarantine: the list of unreadable files written by `check_data`, used if `skip_broken` is set.

    Raises:
        DataError: naming the first few rows of each kind of problem and the remedy.
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
        DataError: if a file or folder of the layout is missing or cannot be read.
    """

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
        group_column=reader.group_column,
    )
