"""`dfens train` in processes that are killed, interrupted or terminated, then run again."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.training import saved_position, stored_bytes, tiny_competition

pytestmark = pytest.mark.slow  # kills and restarts trainings

# Load the libraries once, then run each command read from stdin in a fork, which behaves like a new process.
FORKS = """
import json, os, sys
import torch, trainers.kinds.timm.fold, trainers.kinds.timm.predict, sklearn.model_selection, pandas, pyarrow.parquet
from dfens.cli import cli
for line in sys.stdin:
    child = os.fork()
    if not child:
        log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        torch.set_num_threads(1)
        code = 1
        try:
            cli(json.loads(line))
        except SystemExit as end:
            code = end.code or 0
        finally:
            os._exit(code)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Runner:
    """Run `dfens` commands, one at a time."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._forks = subprocess.Popen(
            [sys.executable, "-c", FORKS, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = 0

    def start(self, *arguments: str) -> None:
        assert self._forks.stdin is not None
        self._forks.stdin.write(json.dumps(arguments) + "\n")
        self._forks.stdin.flush()
        self.pid = int(self._line())

    def _line(self) -> str:
        assert self._forks.stdout is not None
        return self._forks.stdout.readline()

    def wait(self) -> int:
        return int(self._line())

    def close(self) -> None:
        assert self._forks.stdin is not None
        self._forks.stdin.close()
        self._forks.wait(timeout=60)
        assert self._forks.stdout is not None
        self._forks.stdout.close()


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    found = Runner(tmp_path_factory.mktemp("log") / "log")
    yield found
    found.close()


def test_a_run_killed_ten_times_gives_the_predictions_of_an_undisturbed_one(tmp_path: Path, runner: Runner) -> None:
    _, undisturbed = tiny_competition(tmp_path / "undisturbed")
    started = time.monotonic()
    runner.start("-C", str(tmp_path / "undisturbed"), "train", "--workers", "1", "--fold", "0-1")
    assert runner.wait() == 0, runner.log.read_text()
    seconds = time.monotonic() - started

    moments, kills, rounds = random.Random(0), 0, 0
    while kills < 10:  # a run that ends between two kills is checked, and another one is started
        rounds += 1
        folder = tmp_path / f"killed{rounds}"
        _, store = tiny_competition(folder)
        while True:
            runner.start("-C", str(folder), "train", "--workers", "1", "--fold", "0-1")
            if kills < 10:
                time.sleep(moments.uniform(0, 0.3) * seconds)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(runner.pid, signal.SIGKILL)
            code = runner.wait()
            if code == 0:
                break
            assert code == -signal.SIGKILL, runner.log.read_text()
            kills += 1
        assert stored_bytes(store, "tiny") == stored_bytes(undisturbed, "tiny")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_saves_and_reports_how_to_resume(
    tmp_path: Path, runner: Runner, number: int, code: int
) -> None:
    tiny_competition(tmp_path, train_rows=200)
    toml = tmp_path / "dfens.toml"
    toml.write_text(toml.read_text().replace("epochs = 3", "epochs = 3000").replace("batch_size = 8", "batch_size = 2"))
    state = tmp_path / "work" / "trainers" / "tiny" / "fold0" / "state.pt"
    for _ in range(5):  # a stop may coincide with the end of an epoch (50 steps), where a state is saved anyway
        before = saved_position(state)
        runner.start("-C", str(tmp_path), "train", "--fold", "0")
        limit = time.monotonic() + 1200
        while saved_position(state) <= before and time.monotonic() < limit:
            time.sleep(0.05)
        os.kill(runner.pid, number)
        assert runner.wait() == code, runner.log.read_text()
        assert "un the same command again to resume" in runner.log.read_text()
        if saved_position(state)[1] > 0:
            return
    pytest.fail("no stop saved a state within an epoch")
