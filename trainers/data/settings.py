"""Settings of a competition's files: the section [data] in dfens.toml."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from oof.errors import ConfigError
from trainers.data.file_index import Media


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Section [data].

    layout: "ffdi" (the image track of multi-ffdi), "ffdv" (its audio-video track), or "table" (any binary
        competition of images or clips).
    media: for "table": "images" or "clips"; by default detected from the endings of the file names.
    root: folder of the data; every path below is relative to it.
    phase: for ffdi and ffdv: 1, 2, or none for the latest test set present.
    validation: for ffdi and ffdv: "join" adds the labelled validation set to the training set, "apart" keeps it out.
    skip_broken: leave out and record training rows whose file is missing or unreadable, or whose label is
        contradicted by a duplicate; test rows are never left out.
    train, test: for "table": files of the training rows and of the rows to predict (CSV, Parquet or JSON); test = "" if
        there are none to predict.
    train_dir, test_dir: for "table": folders of their images or clips.
    id, target, path, group: for "table": column names; path contains file names (default: the id), rows with the
        same group share a fold.
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
