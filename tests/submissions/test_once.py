"""At most once: a kill between any two lines, late requests, a ledger that was moved away."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from oof.errors import DfensError
from submissions.upload import AlreadySentError
from tests.support.interleaving import Killed, Run
from tests.support.kaggle_model import CALL_LIMIT_S, LATEST_S, Plan
from tests.support.virtual_project import Desk, Project

TRACED = ("submissions/upload.py", "submissions/reconcile.py", "submissions/ledger.py", "submissions/states.py",
          "submissions/allowance.py", "database/sqlite.py", "kaggle_model.py")  # fmt: skip


def test_a_ledger_that_was_moved_away_does_not_lead_to_a_second_submission(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.submit()
    (tmp_path / "ledger.sqlite").rename(tmp_path / "old.sqlite")
    with pytest.raises(AlreadySentError, match="as 1000"):
        project.submit()
    (tmp_path / "ledger.sqlite").rename(tmp_path / "older.sqlite")
    project.sync()
    with pytest.raises(AlreadySentError, match="as 1000"):
        project.submit()
    project.close()


@pytest.mark.parametrize(
    ("answer", "carried_out_s"), [("lost", 30.0), ("lost", 61.0), ("lost", 115.0), ("empty", 1.0), ("empty", 59.0)]
)
def test_a_submission_created_within_the_waiting_time_is_found(
    answer: str, carried_out_s: float, tmp_path: Path
) -> None:
    project = Project(tmp_path)
    project.kaggle.plan = Plan(answer=answer, carried_out_s=carried_out_s)
    assert project.submit().entry.ref == 1000
    with pytest.raises(AlreadySentError):
        project.submit()
    project.time.sleep(300.0)
    assert len(project.kaggle.submissions) == 1
    project.close()


def test_a_message_that_mentions_an_attempt_is_not_mistaken_for_it(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.kaggle.plan = Plan(answer="refused")
    with pytest.raises(DfensError, match="closed"):
        project.submit()
    (failed,) = project.ledger.list()
    project.kaggle.make("web.csv", f"second try of {failed.file_name} [dfens {failed.key[:12]}]", b"x")
    project.sync()
    assert project.ledger.get(failed.key).status == "failed"
    project.close()


@pytest.mark.parametrize("made_s", [CALL_LIMIT_S + 1.0, CALL_LIMIT_S + LATEST_S])
def test_a_call_whose_process_lost_its_lock_is_waited_for_as_long_as_it_may_take(made_s: float, tmp_path: Path) -> None:
    project = Project(tmp_path)
    first = Desk(project, Plan(answer="lost", carried_out_s=made_s))
    stopped = Run(project.time, first.submit)
    while [entry.status for entry in project.ledger.list()] != ["creating"]:
        stopped.step()
    (tmp_path / "ledger.sqlite.lock").unlink()
    submitted = project.submit()
    assert (submitted.entry.ref, submitted.found) == (1000, "An interrupted run had already submitted it.")
    stopped.finish()
    assert stopped.result.entry.ref == 1000
    assert len(project.kaggle.submissions) == 1
    project.check_reconciled()
    project.close()


@contextlib.contextmanager
def killed_at(line: int) -> Iterator[list[int]]:
    """Raise Killed before the n-th line that is run in the traced modules, and before all that follow."""
    seen = [0]

    def trace(frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.endswith(TRACED):
            return None
        if event == "line":
            seen[0] += 1
            if seen[0] > line:
                raise Killed
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(before)


@pytest.mark.parametrize(
    ("answer", "step"),
    [("number", 7), ("lost", 12)],
)
def test_a_kill_before_any_line_leaves_one_submission_after_the_next_run(
    answer: str, step: int, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    project = Project(tmp_path / "whole")
    project.kaggle.plan = Plan(answer=answer, carried_out_s=5.0)
    with killed_at(10**9) as seen:
        project.submit()
    project.close()
    assert len(project.kaggle.submissions) == 1
    states = set()
    for line in range(0, seen[0], step):
        folder = tmp_path / str(line)
        folder.mkdir()
        project = Project(folder)
        try:
            project.kaggle.plan = Plan(answer=answer, carried_out_s=5.0)
            with killed_at(line), contextlib.suppress(Killed):
                project.submit()
            project.end_process()
            states |= {entry.status for entry in project.ledger.list()}
            project.kaggle.plan = Plan()
            with contextlib.suppress(AlreadySentError):
                project.submit()
            assert len(project.kaggle.submissions) == 1, line
            project.check_reconciled()
        finally:
            project.close()
    assert states >= {"uploading", "creating", "pending"}
