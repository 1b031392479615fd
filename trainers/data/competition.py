"""The rows and files of a competition, and problems found in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.data.file_index import Media

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Problem:
    """A problem with the data.

    kind: identifier. part: "train", "validation" or "test". found: what was found and expected, with
    the first few names. remedy: what to do. items: all names. is_error: whether training or prediction would go wrong.
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

    train: id (text), target (int8), path (text), group (text, if given), and `column:NAME` (text) for each
        column of a training table. group_column: name of the column of the groups, if given.
    test: id, path, in the order of the sample submission.
    sealed: id and path of training rows that are kept apart without their labels, or None.
    validation: like train, if it is separate. sample_submission: path, or None.
    broken: rows left out of train. problems: problems found (after `read_competition`, only warnings).
    unlabelled: files in the folders without a row. notes: further information.
    """

    train: "pd.DataFrame"
    test: "pd.DataFrame"
    sealed: "pd.DataFrame | None" = None
    validation: "pd.DataFrame | None" = None
    sample_submission: Path | None = None
    broken: list[BrokenRow] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unlabelled: Mapping[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    media: Media = "images"
    root: Path = Path()
    skip_broken: bool = False
    group_column: str | None = None

    @property
    def paths(self) -> list[str]:
        """The files of the training rows, the rows to predict and the sealed rows."""
        parts = [self.train, self.test, *([] if self.sealed is None else [self.sealed])]
        return [path for part in parts for path in part["path"]]

    def set_apart(self, ids: Sequence[str]) -> "Competition":
        """Return the competition with some training rows sealed: without labels, groups and columns of the table."""
        if not len(ids):
            return self
        inside = self.train["id"].isin(ids).to_numpy()
        sealed = self.train.loc[inside, ["id", "path"]].reset_index(drop=True)
        return replace(self, train=self.train[~inside].reset_index(drop=True), sealed=sealed)
