"""Reads from Kaggle survive a fault that passes; one that stays is reported with its cause, and leaves no half file."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oof.errors import DataError, DfensError
from submissions.kaggle.client import KaggleClient, KaggleError
from submissions.kaggle.download import DownloadTarget, download_all, download_some
from tests.support.kaggle_server import KEY, KaggleServer
from tests.support.submissions import Desk

LONGER = "answer longer than its length"
# fault: kinds of the reason, and a pattern in the message
FAULTS: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "cut before the answer": ({"drop": True}, ("network",), "Check the network"),
    "cut within the answer": ({"share": 0.5}, ("network",), "Check the network"),
    "answer shorter than its length": ({"length_off": 7}, ("network",), "Check the network"),
    LONGER: ({"length_off": -7}, ("malformed",), "not from Kaggle"),
    "500": ({"status": 500, "shape": "empty"}, ("server",), "failed (500)"),
    "503": ({"status": 503, "shape": "html", "headers": {"Retry-After": "0"}}, ("server",), "failed (503)"),
    "429": ({"status": 429, "shape": "empty"}, ("busy",), "too many requests"),
    "half of a JSON text": ({"raw": b'{"submissions": [{'}, ("malformed",), "not from Kaggle"),
    "a login page": ({"raw": b"<html>log in</html>"}, ("malformed",), "not from Kaggle"),
}


def check_faults(server: KaggleServer, method: str, read: Callable[[], object], *without: str) -> None:
    """Check each fault of a method: once (the call succeeds), then always (it is reported)."""
    expected = read()
    for name, (fault, kinds, words) in FAULTS.items():
        if name in without:
            continue
        server.fail(method, **fault)
        assert read() == expected, name
        server.fail(method, **fault, times=99)
        with pytest.raises(KaggleError) as caught:
            read()
        server.faults.clear()
        message = str(caught.value)
        assert caught.value.reason.kind in kinds, (name, message)
        assert words in message, (name, message)
        assert KEY not in message
        assert "signature" not in message
        assert ".part" not in message
    assert read() == expected


def test_faults_of_calls_that_return_values(kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.add("old.csv", "made elsewhere", "0.75")
    with Desk(kaggle, tmp_path, retries=1, retry_first_s=0.01).client() as client:
        check_faults(kaggle, "ListSubmissions", client.submissions)
        check_faults(kaggle, "GetSubmission", lambda: client.submission(1000))
        check_faults(kaggle, "GetSubmissionLimits", lambda: client.limits().allowed_now)
        check_faults(kaggle, "ListDataFiles", client.files)
    assert len(kaggle.submissions) == 1


def test_faults_of_the_leaderboard_leave_the_earlier_one(kaggle: KaggleServer, tmp_path: Path) -> None:
    path = tmp_path / "boards" / "leaderboard.zip"
    with Desk(kaggle, tmp_path, retries=1, retry_first_s=0.01).client() as client:

        def read() -> bytes:
            before = path.read_bytes() if path.exists() else b""
            try:
                client.leaderboard(path)
            except KaggleError:
                assert path.read_bytes() == before
                raise
            assert list(path.parent.iterdir()) == [path]
            return path.read_bytes()[:60]  # the rest contains the time

        check_faults(kaggle, "DownloadLeaderboard", read)
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(DfensError, match=r"/file/board\.zip cannot be written .*is a file where a folder"):
            client.leaderboard(tmp_path / "file" / "board.zip")


def test_a_leaderboard_that_never_comes_is_a_timeout(kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.fail("DownloadLeaderboard", hang_s=60, times=9)
    with Desk(kaggle, tmp_path, retries=0, call_limit_s=0.5).client() as client, pytest.raises(KaggleError) as caught:
        client.leaderboard(tmp_path / "leaderboard.zip")
    assert "Downloading the leaderboard of multi-ffdi failed. Kaggle did not respond in time" in str(caught.value)
    assert not (tmp_path / "leaderboard.zip").exists()


def remove(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()


@contextlib.contextmanager
def one_process(client: KaggleClient) -> Iterator[None]:
    """Keep the client's process, which every download ends and starts again: that would take most of the time."""
    client.whoami()  # starts it, without the lock of a download
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.process, "kill", lambda: None)
        yield


def download(client: KaggleClient, to: DownloadTarget, whole: bool) -> None:
    if whole:
        download_all(client, to)
    else:
        download_some(client, ["a.bin"], to)


# the first request is answered by an address, without a body
WITH_BODY = ("cut within the answer", "answer shorter than its length", LONGER)


@pytest.mark.parametrize("whole", [True, False])
def test_faults_of_downloads_leave_no_half_file(whole: bool, kaggle: KaggleServer, tmp_path: Path) -> None:
    kaggle.files = {"train.csv": b"id,target\n" + b"1,0\n" * 500, "a.bin": np.random.default_rng(0).bytes(50_000)}
    data, state = tmp_path / "data", tmp_path / "state"
    with Desk(kaggle, tmp_path, retries=1, retry_first_s=0.01).client() as client, one_process(client):

        def read() -> dict[str, bytes]:
            remove(data)
            remove(state)
            try:
                download(client, DownloadTarget(data, state), whole)
            finally:
                found = {path.name: path.read_bytes() for path in data.rglob("*") if path.is_file()}
                assert found.items() <= kaggle.files.items()  # complete, or not there
            return found

        check_faults(kaggle, "DownloadDataFiles" if whole else "DownloadDataFile", read, *WITH_BODY)
        check_faults(kaggle, "GET", read, LONGER)
        assert set(read()) == ({"train.csv", "a.bin"} if whole else {"a.bin"})


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_that_is_longer_than_announced_is_discarded(whole: bool, kaggle: KaggleServer, tmp_path: Path) -> None:
    """Nothing but the content shows it: the bytes that were announced have arrived."""
    kaggle.files = {"a.bin": np.random.default_rng(0).bytes(50_000)}
    target = DownloadTarget(tmp_path / "data", tmp_path / "state")
    words = "something other than a ZIP file" if whole else r"a\.bin has 49993 bytes, but 50000"
    with Desk(kaggle, tmp_path, retries=1).client() as client, one_process(client):
        kaggle.fail("GET", length_off=-7)
        with pytest.raises(DataError, match=rf"{words}.*[Rr]un the same command again"):
            download(client, target, whole)
        assert not list((tmp_path / "data").rglob("*"))
        download(client, target, whole)
    assert (tmp_path / "data" / "a.bin").read_bytes() == kaggle.files["a.bin"]
