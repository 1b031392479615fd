"""Up to three runs at once, in any order of their steps and with any fault: never two submissions of the same bytes."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from oof.errors import DfensError
from submissions.reconcile import NotRecordedError
from submissions.upload import Submitted
from tests.support.interleaving import Run
from tests.support.kaggle_model import Plan
from tests.support.submissions import make_table
from tests.support.virtual_project import Desk, Project

MOST = 3
VALUES = (0.5, 0.25, 0.75, 0.125)  # of a table: only what was not sent before puts a run to the test
PAUSES = (7, 7, 1, 2, 7, 5, 8)  # of a run: its allowance is known after 1, Kaggle is queried after 7
WHICH = st.integers(0, MOST - 1)
PLANS = st.builds(
    Plan,
    uploads=st.sampled_from([0, 0, 0, 1, 3]),
    answer=st.sampled_from(["lost", "lost", "number", "lost", "empty", "refused", "busy"]),
    carried_out_s=st.sampled_from([118.0, 100.0, 50.0, 1.0, None]),
    list_fails=st.sampled_from([0, 0, 0, 1, 2]),
)


@dataclass
class Process:
    """A run of dfens and its task; value None for one that synchronises."""

    desk: Desk
    run: Run
    value: float | None


class Submissions(RuleBasedStateMachine):
    """Processes that submit and synchronise.

    Their results are compared with Kaggle: a reported ref must belong to the submitted bytes, and after "Nothing was
    submitted" no submission may appear later.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.project = Project(Path(self.folder.name))
        self.alive: list[Process] = []
        self.sent_nothing: list[Desk] = []

    # ---- processes ----------------------------------------------------------

    def _begin(self, plan: Plan, value: float | None) -> Process:
        desk = Desk(self.project, plan)
        action: Callable[[], object] = desk.sync if value is None else lambda: desk.submit(value)
        process = Process(desk, Run(self.project.time, action), value)
        self.alive.append(process)
        return process

    @precondition(lambda self: len(self.alive) < MOST)
    @rule(value=st.sampled_from(VALUES), plan=PLANS, pauses=st.sampled_from(PAUSES))
    def begin_to_submit(self, value: float, plan: Plan, pauses: int) -> None:
        self._proceed(self._begin(plan, value), pauses)

    @precondition(lambda self: len(self.alive) < MOST)
    @rule()
    def begin_to_synchronise(self) -> None:
        self._begin(Plan(), None)

    @precondition(lambda self: self.alive)
    @rule(which=WHICH, pauses=st.integers(1, 5))
    def proceed(self, which: int, pauses: int) -> None:
        self._proceed(self._process(which), pauses)

    @precondition(lambda self: self.alive)
    @rule(which=WHICH)
    def proceed_to_the_end(self, which: int) -> None:
        self._proceed(self._process(which), 1000)

    def _process(self, which: int) -> Process:
        return self.alive[which % len(self.alive)]

    def _proceed(self, process: Process, pauses: int) -> None:
        for _ in range(pauses):
            if not process.run.over:
                process.run.step()
        if process.run.over:
            self.alive.remove(process)
            self._check_result(process)

    def _check_result(self, process: Process) -> None:
        result, error = process.run.result, process.run.error
        remotes = {item.ref: data for item, data in zip(*self._on_kaggle(), strict=True)}
        if isinstance(result, Submitted):
            assert process.value is not None
            assert remotes[result.entry.ref or 0] == make_table(value=process.value).data
        elif isinstance(error, NotRecordedError):
            assert error.ref in remotes
        elif isinstance(error, DfensError):
            if "othing was submitted" in str(error):
                self.sent_nothing.append(process.desk)
        elif error is not None:
            raise error

    def _on_kaggle(self) -> tuple[list[Any], list[bytes]]:
        return self.project.kaggle.submissions, self.project.kaggle.data

    # ---- faults -------------------------------------------------------------

    @precondition(lambda self: self.alive)
    @rule(which=WHICH)
    def kill(self, which: int) -> None:
        self._kill(self._process(which))

    def _kill(self, process: Process) -> None:
        process.desk.client.killed()
        process.run.kill()
        self.alive.remove(process)

    @precondition(lambda self: len(self.alive) < MOST)
    @rule(value=st.sampled_from(VALUES), plan=PLANS, pauses=st.sampled_from(PAUSES))
    def kill_and_run_again(self, value: float, plan: Plan, pauses: int) -> None:
        process = self._begin(plan, value)
        self._proceed(process, pauses)
        if not process.run.over:
            self._kill(process)
        self._proceed(self._begin(Plan(), value), 1000)

    @rule()
    def remove_lock_file(self) -> None:
        (self.project.folder / "ledger.sqlite.lock").unlink(missing_ok=True)

    @precondition(lambda self: len(self.alive) < MOST - 1)
    @rule(value=st.sampled_from(VALUES), plan=PLANS, pauses=st.sampled_from([2, 1, 7, 2, 7]))
    def lose_lock_to_another(self, value: float, plan: Plan, pauses: int) -> None:
        self._proceed(self._begin(plan, value), pauses)
        (self.project.folder / "ledger.sqlite.lock").unlink(missing_ok=True)
        self._proceed(self._begin(Plan(), value), 1000)

    @precondition(lambda self: self.alive)
    @rule(which=WHICH, writes=st.integers(0, 6))
    def fill_disk(self, which: int, writes: int) -> None:
        self._process(which).desk.fill_disk_after(writes)

    @rule(hours=st.sampled_from([-1000, -1, 1, 1000]))
    def turn_clock(self, hours: int) -> None:
        for entry in self.project.ledger.list():
            moved = entry.updated + timedelta(hours=hours)
            self.project.ledger.update(entry.key, updated=moved, created=moved)

    @precondition(lambda self: not self.alive)
    @rule(value=st.sampled_from(VALUES), plan=PLANS, pauses=st.integers(3, 6))
    def run_beside_a_machine_that_does_not_see_the_lock(self, value: float, plan: Plan, pauses: int) -> None:
        """Complete another run while one uploads, so that only the state of the entry can stop the first."""
        process = self._begin(plan, value)
        self._proceed(process, pauses)
        in_doubt = self.project.ledger.in_doubt("model")
        if process.run.over or not in_doubt or any(entry.status == "creating" for entry in in_doubt):
            return
        another = self._begin(Plan(), value)
        another.desk.share_lock()
        self._proceed(another, 1000)
        self._proceed(process, 1000)

    @rule(seconds=st.sampled_from([1.0, 20.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.project.time.advance_to(self.project.time.now + seconds)

    # ---- the end ------------------------------------------------------------

    @rule(backwards=st.booleans())
    def let_all_end(self, backwards: bool) -> None:
        while self.alive:
            for process in list(self.alive)[:: -1 if backwards else 1]:
                self._proceed(process, 1)
        self.project.sync()
        self.project.time.sleep(300.0)  # pending requests arrive
        self.project.sync()
        self.project.check_reconciled()
        self.never_two_of_the_same_bytes()
        for desk in self.sent_nothing:
            assert desk.client.made == []

    @invariant()
    def never_two_of_the_same_bytes(self) -> None:
        assert len(set(self.project.kaggle.data)) == len(self.project.kaggle.data)

    def teardown(self) -> None:
        try:
            self.let_all_end(False)
        finally:
            for process in self.alive:
                process.run.kill()
            self.project.close()
            self.folder.cleanup()


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=12,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )


def test_no_order_of_steps_and_faults_makes_two_submissions() -> None:
    run_state_machine_as_test(Submissions, settings=_settings(25))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_order_of_many_makes_two_submissions() -> None:
    run_state_machine_as_test(Submissions, settings=_settings(400))
