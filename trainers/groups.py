"""Groups of training rows that must share a fold: given by a column, or found among the images."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from oof.errors import FoldError, examples
from oof.progress import SILENT, Progress

if TYPE_CHECKING:
    from trainers.layouts import Competition


def derive_groups(
    competition: "Competition", how: str, *, work_dir: Path, progress: Progress = SILENT, seed: int = 0
) -> NDArray[np.object_] | None:
    """The group of each training row, as text.

    Random folds overstate when near-copies, or pictures of one origin, stand on both sides of a
    split; whole groups in a fold tell how a model does on what it has not seen.

    Args:
        competition: the rows.
        how: "none" (the data's own groups where [data] group names them, else no groups) or
            "column:NAME" (a column of the training table).
        work_dir: folder of this room in the workspace (work/trainers).
        progress: told while images are read.
        seed: of what is drawn.

    Returns:
        Shape (n_rows,), aligned with `competition.train`; None where rows stand alone.

    Raises:
        FoldError: an unknown way or column, naming those there are.
    """
    train = competition.train
    if how == "none":
        return _filled(train["group"].to_numpy(object), train["id"].to_numpy(object)) if "group" in train else None
    if how.startswith("column:"):
        if how not in train:
            known = [name.removeprefix("column:") for name in train.columns if name.startswith("column:")]
            raise FoldError(
                f"[folds] group = '{how}': the training table has no column '{how.removeprefix('column:')}'; found "
                f"{examples(known, most=20)}."
            )
        return _filled(train[how].to_numpy(object), train["id"].to_numpy(object))
    raise FoldError(f"[folds] group = '{how}' is unknown. Use none, duplicates, clusters, or column:NAME.")


def _filled(groups: NDArray[np.object_], ids: NDArray[np.object_]) -> NDArray[np.object_]:
    """Groups with rows of none (an empty text) each in a group of its own."""
    empty = groups == ""
    return np.where(empty, np.array([f"row {id_}" for id_ in ids], object), groups) if empty.any() else groups
