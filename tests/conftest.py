"""What all tests share: none can reach Kaggle; a stand-in server and a real PostgreSQL for those that ask."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.kaggle_server import KaggleServer
from tests.support.postgres_server import PostgresMissing, PostgresServer

# Sums of several threads differ in the last bit from those of one, and tests compare bits; set before torch is loaded.
os.environ["OMP_NUM_THREADS"] = "1"
# A shell gives what it runs in the background a deaf ear to Ctrl-C, which the programs under test would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the tests marked `gpu` on a machine without a CUDA device."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def no_terminal_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as without a terminal; pytest-xdist hands the width of its own to the workers."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def no_kaggle(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The official client meets this machine alone, and no credentials of the one who runs the tests."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_KERNEL_RUN_TYPE", "VERBOSE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")


@pytest.fixture
def kaggle() -> Iterator[KaggleServer]:
    """A stand-in for Kaggle."""
    server = KaggleServer()
    yield server
    server.close()


@pytest.fixture
def online(kaggle: KaggleServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> KaggleServer:
    """The same, with this process's environment pointing to it, a home of its own, and credentials."""
    home = tmp_path / "home"
    home.mkdir()
    for name, value in kaggle.environment(home).items():
        if name != "PATH":
            monkeypatch.setenv(name, value)
    return kaggle


@pytest.fixture(scope="session")
def new_postgres_url() -> Iterator[Callable[[], str]]:
    """Makes the URL of an empty PostgreSQL database; skips where there is no PostgreSQL."""
    try:
        server = PostgresServer()
    except PostgresMissing as err:
        pytest.skip(str(err))
    numbers = itertools.count()
    yield lambda: server.new_database(f"ledger{next(numbers)}")
    server.close()
