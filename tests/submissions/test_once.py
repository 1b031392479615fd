"""At most once, tried to the end: a kill between any two lines, and thousands of runs against a model."""

import contextlib
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from oof.errors import DfensError, StoreError
from submissions.database import sqlite
from submissions.database.sqlite import FileLock
from submissions.ledger import Ledger
from submissions.reconcile import NotRecordedError
from submissions.sync import sync
from submissions.upload import AlreadySentError, Submitted, Submitter, new_entry
from tests.support.kaggle_model import ModelClient, ModelKaggle, Plan, VirtualTime
from tests.support.submissions import make_table

TRACED = ("submissions/upload.py", "submissions/reconcile.py", "submissions/ledger.py", "submissions/states.py",
          "submissions/allowance.py", "database/sqlite.py", "kaggle_model.py")  # fmt: skip


class Killed(BaseException):
    """The process ends here."""


def _without_sync(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=60, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    return connection


class Project:
    """A folder, a ledger in it, Kaggle, and virtual time in every module that waits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.time = VirtualTime()
        self.kaggle = ModelKaggle(self.time)
        self.ledger = Ledger(folder / "ledger.sqlite")
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(sqlite, "_connect_to_write", _without_sync)  # a killed process loses nothing by it
        self._patch.setattr("oof.files.os.fsync", lambda descriptor: None)
        for module in ("upload", "reconcile", "ledger"):
            self._patch.setattr(f"submissions.{module}.time", self.time)

        self._locks: list[FileLock] = []
        plain = self.ledger._database.lock

        def lock(competition: str) -> FileLock:
            self._locks.append(cast(FileLock, plain(competition)))
            return self._locks[-1]

        self._patch.setattr(self.ledger._database, "lock", lock)

    def end_process(self) -> None:
        """Free the locks that the process held when it was killed, as the system does."""
        for lock in self._locks:
            with contextlib.suppress(OSError):
                if os.fstat(lock._descriptor).st_ino == lock._path.stat().st_ino:
                    os.close(lock._descriptor)
        self._locks.clear()

    def close(self) -> None:
        self._patch.undo()

    def submit(self, value: float = 0.5, **options: Any) -> Submitted:
        client = cast(Any, ModelClient(self.kaggle))
        submitter = Submitter(ledger=self.ledger, client=client, **options)
        entry = new_entry("model", blend="b7", message="b7")
        folder = self.folder / "sent"
        return submitter.submit_table(make_table(value=value), entry, root=self.folder, folder=folder)

    def sync(self) -> None:
        sync(self.ledger, cast(Any, ModelClient(self.kaggle)))

    def settled(self) -> None:
        """Everything has an end, and the ledger's end is Kaggle's."""
        assert self.ledger.in_doubt("model") == []
        on_kaggle = {item.ref: item.file_name for item in self.kaggle.submissions}
        recorded = {e.ref: e.file_name for e in self.ledger.list("model") if e.on_server}
        assert recorded == on_kaggle


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
def test_what_is_carried_out_within_the_settling_time_is_found(
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


def test_a_message_that_names_an_attempt_is_not_taken_for_it(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.kaggle.plan = Plan(answer="refused")
    with pytest.raises(DfensError, match="closed"):
        project.submit()
    (failed,) = project.ledger.list()
    project.kaggle.make("web.csv", f"second try of {failed.file_name} [dfens {failed.key[:12]}]", b"x")
    project.sync()
    assert project.ledger.get(failed.key).status == "failed"
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
            project.settled()
        finally:
            project.close()
    assert states >= {"uploading", "creating", "pending"}


class Submissions(RuleBasedStateMachine):
    """Submits, with any fault; never two submissions of the same bytes, never an unknown end."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.project = Project(Path(self.folder.name))

    @initialize()
    def begin(self) -> None:
        self.project.kaggle.plan = Plan()

    @rule(
        value=st.sampled_from([0.5, 0.25]),
        plan=st.builds(
            Plan,
            uploads=st.integers(0, 3),
            answer=st.sampled_from(["number", "refused", "busy", "lost", "empty"]),
            carried_out_s=st.sampled_from([None, 0.0, 30.0, 59.0, 115.0]),
            list_fails=st.integers(0, 2),
        ),
        line=st.integers(0, 1500),
        fault=st.sampled_from(["none", "none", "kill", "full disk", "lock removed", "clock"]),
    )
    def submit(self, value: float, plan: Plan, line: int, fault: str) -> None:
        project, sent = self.project, len(self.project.kaggle.submissions)
        if fault == "kill" or plan.answer == "empty":  # counted from the end of the client, settle_s is 60
            plan.carried_out_s = plan.carried_out_s and min(plan.carried_out_s, 59.0)
        project.kaggle.plan = plan
        try:
            with self._fault(fault, line):
                done = project.submit(value)
        except NotRecordedError as err:
            refs = [item.ref for item in project.kaggle.submissions]
            if err.ref not in refs:
                raise AssertionError("a number that Kaggle does not have") from err
        except DfensError as err:
            if "othing was submitted" in str(err):
                assert len(project.kaggle.submissions) == sent
        except Killed:
            project.end_process()
        else:
            assert done.entry.ref in {item.ref for item in project.kaggle.submissions}
            return
        project.kaggle.plan = Plan()
        with contextlib.suppress(DfensError):  # what people do: the same command again
            project.submit(value)

    @contextlib.contextmanager
    def _fault(self, fault: str, line: int) -> Iterator[None]:
        patch = pytest.MonkeyPatch()
        try:
            if fault == "kill":
                with killed_at(line):
                    yield
                return
            if fault == "full disk":
                self._fail_writes_after(patch, line % 8)
            if fault == "lock removed":
                self._remove_lock_at(patch, line % 4)
            if fault == "clock":  # the entries look hours old, or come from the future
                for entry in self.project.ledger.list():
                    moved = entry.updated + timedelta(hours=line - 750)
                    self.project.ledger.update(entry.key, updated=moved, created=moved)
            yield
        finally:
            patch.undo()

    def _fail_writes_after(self, patch: pytest.MonkeyPatch, writes: int) -> None:
        database = self.project.ledger._database
        plain, left = database.writing, [writes]

        @contextlib.contextmanager
        def writing() -> Iterator[Any]:
            if left[0] <= 0:
                raise StoreError("Its disk is full.")
            left[0] -= 1
            with plain() as connection:
                yield connection

        patch.setattr(database, "writing", writing)

    def _remove_lock_at(self, patch: pytest.MonkeyPatch, call: int) -> None:
        plain, calls = self.project.ledger.move, [0]

        def move(*args: Any, **more: Any) -> Any:
            if calls[0] == call:
                (self.project.folder / "ledger.sqlite.lock").unlink(missing_ok=True)
            calls[0] += 1
            return plain(*args, **more)

        patch.setattr(self.project.ledger, "move", move)

    @rule(seconds=st.sampled_from([1.0, 20.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.project.time.sleep(seconds)

    @rule()
    def synchronise(self) -> None:
        self.project.kaggle.plan = Plan()
        self.project.sync()
        self.project.time.sleep(120.0)  # what is still on its way arrives
        self.project.sync()
        self.project.settled()
        self.never_two_of_the_same_bytes()

    @invariant()
    def never_two_of_the_same_bytes(self) -> None:
        assert len(set(self.project.kaggle.data)) == len(self.project.kaggle.data)

    def teardown(self) -> None:
        self.synchronise()
        self.project.close()
        self.folder.cleanup()


TestSubmissions = Submissions.TestCase
TestSubmissions.settings = settings(
    max_examples=25, stateful_step_count=5, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
