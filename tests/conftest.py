"""Shared fixtures: no test can reach Kaggle; a mock server and a real PostgreSQL are available on request."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.kaggle_server import KaggleServer
from tests.support.postgres_server import PostgresMissing, PostgresServer

# Every run draws the same examples, so that a failure can be repeated and is caused by a change.
# HYPOTHESIS_PROFILE=explore draws others. A busy machine draws and runs examples slowly, which is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("patient"), derandomize=True, database=None)
settings.register_profile("explore", settings.get_profile("patient"), derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
# Sums of several threads differ in the last bit from those of one, and tests compare bits; set before torch is loaded.
os.environ["OMP_NUM_THREADS"] = "1"
# A shell starts background jobs with Ctrl-C ignored, which the programs under test would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


_SLOW_TIMEOUT_S = 3600  # a slow test starts many processes, each of which may take a minute on a busy machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests marked `slow` more time, unless they set their own limit."""
    for item in items:
        if item.get_closest_marker("slow") is not None and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_SLOW_TIMEOUT_S))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the tests marked `gpu` on a machine without a CUDA device."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def no_terminal_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give tables their width without a terminal; pytest-xdist passes the width of its terminal to the workers."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def no_kaggle(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let the official client reach only this machine, without the credentials of the user."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_KERNEL_RUN_TYPE", "VERBOSE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")


@pytest.fixture
def kaggle() -> Iterator[KaggleServer]:
    """A mock server of Kaggle."""
    server = KaggleServer()
    yield server
    server.close()


@pytest.fixture
def online(kaggle: KaggleServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> KaggleServer:
    """The mock server, with this process's environment pointing to it, a separate home folder, and credentials."""
    home = tmp_path / "home"
    home.mkdir()
    for name, value in kaggle.environment(home).items():
        if name != "PATH":
            monkeypatch.setenv(name, value)
    return kaggle


@pytest.fixture(scope="session")
def new_postgres_url() -> Iterator[Callable[[], str]]:
    """Return a function that creates an empty PostgreSQL database and returns its URL; skip without PostgreSQL."""
    try:
        server = PostgresServer()
    except PostgresMissing as err:
        pytest.skip(str(err))
    numbers = itertools.count()
    yield lambda: server.new_database(f"ledger{next(numbers)}")
    server.close()
