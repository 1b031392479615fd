"""The locks of processes that work in a folder."""

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path

from oof.errors import DfensError, TrainingError


@contextlib.contextmanager
def nobody_works_in(folder: Path, instead: str) -> Iterator[None]:
    """Hold the locks of all trainings of a model, which are free if no process is using it.

    Args:
        folder: of the model. instead: what to do other than to stop the training, as the end of a sentence.

    Raises:
        TrainingError: if a process trains the model, or predicts with it.
    """

    def in_use(place: Path) -> TrainingError:
        return TrainingError(f"Another process is training '{folder.name}' ({place}). Stop it first, or {instead}.")

    with all_locks(folder, in_use):
        yield


@contextlib.contextmanager
def all_locks(folder: Path, in_use: Callable[[Path], DfensError]) -> Iterator[None]:
    """Hold all locks in a folder and below it, without waiting.

    Raises:
        DfensError: what `in_use` returns for the folder of a lock that another process holds.
    """
    with contextlib.ExitStack() as stack:
        for path in folder.rglob(".*lock"):
            file = stack.enter_context(path.open("a"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                raise in_use(path.parent) from err
        yield
