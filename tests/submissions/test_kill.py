"""`kill -9` at random moments of `dfens submit`, then the same command again: exactly one submission."""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from submissions.ledger import Ledger
from tests.support.kaggle_server import KaggleServer
from tests.support.submit_runs import finish, make_folder, start, submit

pytestmark = pytest.mark.slow  # kills and restarts dfens submit

KILLS = 20


@pytest.mark.slow
def test_a_run_killed_at_twenty_moments_submits_once(kaggle: KaggleServer, tmp_path: Path) -> None:
    rng = random.Random(0)
    kaggle.allowed_per_day = 10_000
    kaggle.create_delay_s = 0.3  # so that kills often hit this critical moment
    first = make_folder(tmp_path / "warm")
    started = time.monotonic()
    assert submit(kaggle, first)[0] == 0
    whole = time.monotonic() - started
    states: Counter[str] = Counter()
    for number in range(KILLS):
        folder = make_folder(tmp_path / f"kill{number}")
        before = len(kaggle.submissions)
        process = start(kaggle, folder, "submit", "--file", "table.csv")
        if number % 2:  # half of the kills in the second half of the run, in which data are sent
            time.sleep(whole * rng.uniform(0.05, 0.6))
        else:
            calls = kaggle.count("GetSubmissionLimits")
            while kaggle.count("GetSubmissionLimits") == calls and process.poll() is None:
                time.sleep(0.005)
            time.sleep(rng.uniform(0.0, 0.6))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        ledger = folder / "work" / "submissions" / "ledger.sqlite"
        states[Ledger(ledger).list()[0].status if ledger.exists() and Ledger(ledger).list() else "no entry"] += 1
        code, said = submit(kaggle, folder)
        assert len(kaggle.submissions) - before == 1, said
        assert code == 0 or "The same bytes were submitted" in said, said
        reconciled = Ledger(ledger).list()
        assert [entry.status for entry in reconciled if entry.status != "failed"] == ["pending"]
        assert reconciled[-1].ref == kaggle.submissions[-1].ref
    print(f"state of the ledger at the kill: {dict(states)}")
    assert states["creating"] >= 2, states
    assert len(kaggle.submissions) == KILLS + 1


def test_a_submission_is_found_after_a_kill_during_the_upload(kaggle: KaggleServer, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "one")
    kaggle.create_delay_s = 1.0
    process = start(kaggle, folder, "submit", "--file", "table.csv")
    while not kaggle.count("CreateSubmission"):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(kaggle.submissions) == 0  # the next run starts before Kaggle has created it
    code, said = submit(kaggle, folder)
    assert code == 0, said
    assert "An interrupted run had already submitted it. It is 1000" in said
    assert len(kaggle.submissions) == 1
    assert kaggle.count("PUT") == 1


def test_an_interrupted_submission_is_reconciled_by_the_next_run(kaggle: KaggleServer, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "one")
    kaggle.create_delay_s = 1.0
    process = start(kaggle, folder, "submit", "--file", "table.csv")
    while not kaggle.count("CreateSubmission"):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    code, said = finish(process)
    assert code == 130
    assert "Traceback" not in said
    assert submit(kaggle, folder)[0] == 0
    assert len(kaggle.submissions) == 1
