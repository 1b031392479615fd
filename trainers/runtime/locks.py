"""The locks of running trainings."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from oof.errors import TrainingError


@contextlib.contextmanager
def nobody_works_in(folder: Path, instead: str) -> Iterator[None]:
    """Hold the locks of all trainings of a model, which are free if no process is using it.

    Args:
        folder: of the model. instead: what to do other than to stop the training, as the end of a sentence.

    Raises:
        TrainingError: if a process trains the model, or predicts with it.
    """
    with contextlib.ExitStack() as stack:
        for path in folder.rglob(".*lock"):
            file = stack.enter_context(path.open("a"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                raise TrainingError(
                    f"Another process is training '{folder.name}' ({path.parent}). Stop it first, or {instead}."
                ) from err
        yield
