"""Downloads resume where they stopped, and are verified."""

import base64
import contextlib
import errno
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from oof.errors import DataError, DfensError
from oof.progress import SILENT
from submissions.kaggle import client_child, download
from submissions.kaggle.client import KaggleError
from submissions.kaggle.download import Downloaded, DownloadTarget, download_all, download_some
from submissions.kaggle.errors import Reason
from submissions.kaggle.unpack import Destination, unpack
from tests.support.archives import make_zip
from tests.support.interleaving import Killed
from tests.support.kaggle_server import SLUG, KaggleServer
from tests.support.submissions import Desk

FILES = {
    "train.csv": b"id,target\n" + b"1,0\n" * 5000,
    "train/00012.jpg": np.random.default_rng(0).bytes(300_000),
    "test/a b.jpg": np.random.default_rng(1).bytes(200_000),
    "empty.txt": b"",
}


@pytest.fixture
def desk(kaggle: KaggleServer, tmp_path: Path) -> Desk:
    kaggle.files = dict(FILES)
    return Desk(kaggle, tmp_path)


def target(desk: Desk) -> DownloadTarget:
    return DownloadTarget(desk.folder / "data", desk.folder / "state", (desk.folder / "work",))


def fetch(desk: Desk, **options: Any) -> Downloaded:
    with desk.client() as client:
        return download_all(client, target(desk), **options)


def assert_all_there(desk: Desk) -> None:
    found = {
        str(path.relative_to(desk.folder / "data")): path.read_bytes()
        for path in (desk.folder / "data").rglob("*")
        if path.is_file()
    }
    assert found == desk.server.files


def test_all_files_arrive_and_a_second_run_does_nothing(desk: Desk) -> None:
    done = fetch(desk)
    assert (done.files, done.bytes) == (4, sum(map(len, FILES.values())))
    assert done.fetched == len(desk.server.zipped())
    assert_all_there(desk)
    assert sorted(path.name for path in (desk.folder / "state").iterdir()) == ["lock", f"{SLUG}.json"]
    calls = len(desk.server.calls)
    assert fetch(desk) == Downloaded(4, done.bytes, 0)
    assert len(desk.server.calls) == calls


@pytest.mark.parametrize("keep", [False, True])
def test_an_archive_that_a_killed_run_did_not_remove_is_removed_by_the_next(
    desk: Desk, keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def unlink_or_die(path: Path, **options: Any) -> None:
        if path.name == f"{SLUG}.zip":
            raise Killed
        unlink(path, **options)

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(Path, "unlink", unlink_or_die)
        fetch(desk, keep_archive=keep)
    assert (desk.folder / "state" / f"{SLUG}.zip").exists()
    assert fetch(desk).fetched == 0
    assert (desk.folder / "state" / f"{SLUG}.zip").exists() == keep
    assert_all_there(desk)


def test_a_missing_file_is_fetched_again_and_the_others_are_left(desk: Desk) -> None:
    fetch(desk, keep_archive=True)
    (desk.folder / "data" / "train.csv").unlink()
    kept = (desk.folder / "data" / "train" / "00012.jpg").stat().st_mtime_ns
    assert fetch(desk).fetched == 0  # the archive was kept
    assert_all_there(desk)
    assert (desk.folder / "data" / "train" / "00012.jpg").stat().st_mtime_ns == kept
    assert fetch(desk, force=True).fetched > 0


def test_a_project_that_was_moved_as_a_whole_downloads_nothing(desk: Desk) -> None:
    (desk.folder / "here").mkdir()
    first = Desk(desk.server, desk.folder / "here")
    fetch(first)
    calls = len(desk.server.calls)
    moved = Desk(desk.server, first.folder.rename(desk.folder / "there"))
    assert fetch(moved) == Downloaded(4, sum(map(len, FILES.values())), 0)
    assert len(desk.server.calls) == calls
    with desk.client() as client:
        other = DownloadTarget(desk.folder / "elsewhere", moved.folder / "state")
        assert download_all(client, other).fetched > 0


def test_a_kept_archive_is_unpacked_again_only_while_it_is_the_newest(desk: Desk) -> None:
    fetch(desk, keep_archive=True)
    archive = desk.folder / "state" / f"{SLUG}.zip"
    train = desk.folder / "data" / "train.csv"
    desk.server.files, desk.server.archive, desk.server.etag = FILES | {"train.csv": b"corrected"}, None, '"v2"'
    train.unlink()
    assert fetch(desk, keep_archive=True).fetched == len(desk.server.zipped())
    assert_all_there(desk)
    train.unlink()
    assert fetch(desk, keep_archive=True).fetched == 0
    archive.with_name(f"{SLUG}.zip.json").unlink()  # kept by an earlier version of dfens
    train.unlink()
    assert fetch(desk).fetched == len(desk.server.zipped())
    assert sorted(path.name for path in archive.parent.iterdir()) == ["lock", f"{SLUG}.json"]


def test_without_a_connection_a_kept_archive_is_used_with_its_date(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(desk, keep_archive=True)
    os.utime(desk.folder / "state" / f"{SLUG}.zip", (0, 0))
    (desk.folder / "data" / "train.csv").unlink()
    desk.server.fail("DownloadDataFiles", drop=True, times=9)
    notes: list[str] = []
    monkeypatch.setattr(SILENT, "note", notes.append)
    assert fetch(desk, keep_archive=True).fetched == 0
    assert_all_there(desk)
    assert "could not be reached" in notes[-1]
    assert "The archive of 1970-01-01 00:00 UTC is used" in notes[-1]


def test_a_file_edited_by_the_user_is_not_overwritten_silently(desk: Desk) -> None:
    train = desk.folder / "data" / "train.csv"
    train.parent.mkdir()
    train.write_bytes(b"my own")  # before the first download
    assert fetch(desk).changed == ("train.csv",)
    again = fetch(desk)
    assert (again.changed, again.fetched, train.read_bytes()) == (("train.csv",), 0, b"my own")
    (desk.folder / "data" / "empty.txt").unlink()  # so that the archive is unpacked again
    assert fetch(desk).changed == ("train.csv",)
    forced = fetch(desk, force=True)
    assert forced.replaced["train.csv"].read_bytes() == b"my own"
    assert_all_there(desk)
    train.write_bytes(b"corrected again")
    with desk.client() as client:
        assert download_some(client, ["train.csv"], target(desk)).changed == ("train.csv",)
        replaced = download_some(client, ["train.csv"], target(desk), force=True).replaced
    assert replaced["train.csv"].read_bytes() == b"corrected again"
    assert train.read_bytes() == FILES["train.csv"]


@pytest.mark.parametrize("damaged", [["train.csv"], {"train.csv": "x"}, {"train.csv": None}])
def test_a_damaged_record_is_treated_as_absent(damaged: object, desk: Desk) -> None:
    done = fetch(desk)
    record = desk.folder / "state" / f"{SLUG}.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"files": damaged}))
    assert fetch(desk) == done
    assert json.loads(record.read_text()) == content


def test_concurrent_downloads_give_one_complete_file(desk: Desk) -> None:
    desk.server.files["train.csv"] = np.random.default_rng(3).bytes(600_000)
    desk.server.chunk_delay_s = 0.02

    def one(force: bool) -> Downloaded:
        with desk.client() as client:
            return download_some(client, ["train.csv"], target(desk), force=force)

    with ThreadPoolExecutor() as pool:
        done = [item.result() for item in [pool.submit(one, False) for _ in range(3)]]
    assert sorted(item.fetched for item in done) == [0, 0, 600_000]
    assert (desk.folder / "data" / "train.csv").read_bytes() == desk.server.files["train.csv"]


def test_a_file_whose_hash_differs_from_that_of_the_server_is_fetched_again(desk: Desk) -> None:
    right = base64.b64encode(hashlib.md5(FILES["train.csv"]).digest()).decode()
    desk.server.file_headers = {"x-goog-hash": f"crc32c=AAAAAA==, md5={right}"}
    desk.server.fail("GET", flip=True)
    with desk.client() as client:
        download_some(client, ["train.csv"], target(desk))
    assert (desk.folder / "data" / "train.csv").read_bytes() == FILES["train.csv"]
    assert desk.server.count("GET") == 2


def test_the_hash_of_a_file_that_the_storage_decompresses_is_not_compared(desk: Desk) -> None:
    stored = base64.b64encode(hashlib.md5(gzip.compress(FILES["train.csv"])).digest()).decode()
    desk.server.file_headers = {
        "x-goog-hash": f"crc32c=AAAAAA==,md5={stored}",
        "x-goog-stored-content-encoding": "gzip",
    }
    with desk.client() as client:
        download_some(client, ["train.csv"], target(desk))
        assert desk.server.count("GET") == 1
        # as it is stored, and therefore compared
        desk.server.file_headers["x-goog-stored-content-encoding"] = "identity"
        with pytest.raises(KaggleError, match="has a different MD5 from the server's"):
            download_some(client, ["train.csv"], target(desk), force=True)
    assert (desk.folder / "data" / "train.csv").read_bytes() == FILES["train.csv"]


def test_progress_is_reported_while_a_complete_file_is_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_child, "_REPORT_EVERY_S", -1.0)  # after each piece, whatever the time
    data = np.random.default_rng(0).bytes((2 << 20) + 5)
    (tmp_path / "part").write_bytes(data)
    events: list[dict[str, Any]] = []
    calls = client_child._Calls.__new__(client_child._Calls)  # without the official client
    calls._line = SimpleNamespace(send=events.append)  # type: ignore[assignment]
    md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
    first = SimpleNamespace(headers={"Content-MD5": md5})
    assert calls._checked(tmp_path / "part", first, {"total": len(data)}) == {"bytes": len(data), "total": len(data)}
    assert events == [{"event": "progress", "bytes": 0}] * 3


@pytest.mark.parametrize("name", [".", "", "../x", "/x", "work/x"])
def test_a_listed_name_that_is_no_file_of_the_folder_is_refused(name: str, desk: Desk) -> None:
    desk.server.files = {name: b"x"}
    with desk.client() as client, pytest.raises(DataError, match="leads outside"):
        download_some(client, [name], DownloadTarget(desk.folder, desk.folder / "state", (desk.folder / "work",)))
    assert desk.server.count("GET") == 0


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_is_named_whatever_the_compression(method: int, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a" * 80 + "ä" * 80, np.random.default_rng(0).bytes(20_000))
    data = bytearray(path.read_bytes())
    data[2000:2100] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"Run dfens download --force"):
        unpack(path, Destination(tmp_path / "here"))


def test_an_interrupted_download_resumes_where_it_stopped(desk: Desk) -> None:
    desk.server.fail("GET", share=0.3)
    desk.server.fail("GET", share=0.5)
    desk.server.fail("GET", share=0.0)
    size = len(desk.server.zipped())
    assert fetch(desk).fetched == size
    assert_all_there(desk)
    # each attempt gets the address from Kaggle first, and the client follows it before requesting the range
    ranges = [body["range"] for method, body in desk.server.calls if method == "GET" and body["range"]]
    assert ranges
    assert all(0 < int(wanted.removeprefix("bytes=").removesuffix("-")) < size for wanted in ranges)


def test_a_killed_download_resumes_in_the_next_run(desk: Desk) -> None:
    desk.server.fail("GET", share=0.6)
    failing = Desk(desk.server, desk.folder, retries=0)
    with pytest.raises(KaggleError, match=r"\d+ bytes are kept; running the same command again resumes there"):
        for _ in range(9):
            desk.server.fail("GET", share=0.0)
        fetch(failing)
    desk.server.faults.clear()
    kept = (desk.folder / "state" / f"{SLUG}.zip.part").stat().st_size
    size = len(desk.server.zipped())
    assert 0 < kept < size
    assert fetch(desk).fetched == size - kept
    assert_all_there(desk)


def test_a_new_version_on_the_server_restarts_the_download(desk: Desk) -> None:
    desk.server.fail("GET", share=0.6)
    for _ in range(9):
        desk.server.fail("GET", share=0.0)
    with pytest.raises(KaggleError):
        fetch(Desk(desk.server, desk.folder, retries=0))
    desk.server.faults.clear()
    desk.server.files = {"new.csv": np.random.default_rng(2).bytes(400_000)}
    desk.server.archive, desk.server.etag = None, '"v2"'
    assert fetch(desk).fetched == len(desk.server.zipped())
    assert_all_there(desk)


def test_a_server_without_ranges_restarts_the_download(desk: Desk) -> None:
    desk.server.ranges = False
    desk.server.fail("GET", share=0.6)
    fetch(desk)
    assert_all_there(desk)


@pytest.mark.parametrize("start", [0, 5])
def test_another_range_than_requested_restarts_the_download(start: int, desk: Desk) -> None:
    data = desk.server.files["train.csv"] = np.random.default_rng(3).bytes(600_000)
    desk.server.range_start = start
    desk.server.fail("GET", share=0.6)
    with desk.client() as client:
        download_some(client, ["train.csv"], target(desk))
    assert (desk.folder / "data" / "train.csv").read_bytes() == data


def test_a_stalled_download_is_resumed(desk: Desk) -> None:
    desk.server.fail("GET", share=0.5, hang_s=60)
    fetch(Desk(desk.server, desk.folder, stall_limit_s=1.0))
    assert_all_there(desk)


def test_a_connection_that_stays_silent_is_tried_twice(desk: Desk) -> None:
    patient = Desk(desk.server, desk.folder, stall_limit_s=0.7, call_limit_s=0.7, retries=5)
    for method in ("GET", "DownloadDataFiles"):
        desk.server.fail(method, hang_s=60, times=99)
        desk.server.calls.clear()
        with pytest.raises(KaggleError, match=r"did not respond in time \(no response for 0\.7 s\)") as caught:
            fetch(patient)
        assert caught.value.reason.kind == "timeout"
        assert desk.server.count(method) <= 2
        desk.server.faults.clear()


def test_bytes_that_arrive_before_each_silence_are_progress(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    meters: list[tuple[int, int]] = []

    class Client:
        """A client that is killed each time before it reports the bytes that it has written."""

        settings, have = desk.settings, 0

        def download(self, name: str, part: Path, on_event: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
            on_event({"event": "begin", "total": 5, "have": self.have})
            self.have += 1
            part.write_bytes(b"x" * self.have)
            if self.have < 5:
                raise KaggleError("silent", Reason("timeout", retry=True))
            on_event({"event": "progress", "bytes": 1})
            return {"bytes": 5}

    monkeypatch.setattr("submissions.kaggle.download.time.sleep", lambda pause: meters.append(pause))
    assert download._fetch(Client(), "x", desk.folder / "x", SILENT) == 5  # type: ignore[arg-type]
    assert len(meters) == 4


def test_unaccepted_rules_are_reported(desk: Desk) -> None:
    words = "You must accept this competition's rules before you'll be able to download files."
    desk.server.fail("DownloadDataFiles", status=403, message=words, shape="flat")
    with pytest.raises(
        KaggleError, match=f"Accept the rules in a browser at https://www.kaggle.com/competitions/{SLUG}"
    ):
        fetch(desk)


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("shape", ["empty", "html"])
def test_a_refusal_of_the_storage_is_not_taken_for_an_unknown_competition(status: int, shape: str, desk: Desk) -> None:
    desk.server.fail("GET", status=status, shape=shape, message="NoSuchKey")
    with pytest.raises(KaggleError, match="The host that stores files for Kaggle refused the request") as caught:
        fetch(desk)
    assert ("Kaggle's storage says “NoSuchKey”" in str(caught.value)) == (shape == "html")


def test_single_files_are_verified_against_the_list(desk: Desk) -> None:
    with desk.client() as client:
        data = desk.folder / "data"
        done = download_some(client, ["train.csv", "train/00012.jpg"], target(desk))
        assert done.files == 2
        assert (data / "train/00012.jpg").read_bytes() == FILES["train/00012.jpg"]
        assert download_some(client, ["train.csv"], target(desk)).fetched == 0
        with pytest.raises(DataError, match=r"has no file tarin.csv; it has empty.txt, test/a b.jpg"):
            download_some(client, ["tarin.csv"], target(desk))


@pytest.mark.parametrize("names", [(), ("train.csv",)])
def test_a_link_that_leads_nowhere_is_not_replaced_silently(names: tuple[str, ...], desk: Desk) -> None:
    train, nowhere = desk.folder / "data" / "train.csv", Path("/not-mounted/train.csv")

    def get(force: bool) -> Downloaded:
        with desk.client() as client:
            if names:
                return download_some(client, names, target(desk), force=force)
            return download_all(client, target(desk), force=force)

    train.parent.mkdir()
    train.symlink_to(nowhere)
    assert get(force=False).changed == ("train.csv",)
    assert train.readlink() == nowhere
    again = get(force=False)
    assert (again.fetched, again.changed) == (0, ("train.csv",))
    first = get(force=True).replaced["train.csv"]
    assert train.read_bytes() == FILES["train.csv"]
    train.unlink()
    train.symlink_to(nowhere)
    second = get(force=True).replaced["train.csv"]
    assert (first.readlink(), second.readlink(), first != second) == (nowhere, nowhere, True)


def test_a_file_that_kaggle_zips_is_unpacked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.csv", FILES["train.csv"])
    listed = {name: len(data) for name, data in FILES.items()}
    monkeypatch.setattr("submissions.kaggle.client.KaggleClient.files", lambda self: listed)
    desk.server.files["train.csv"] = buffer.getvalue()
    with desk.client() as client:
        download_some(client, ["train.csv"], target(desk))
    assert (desk.folder / "data" / "train.csv").read_bytes() == FILES["train.csv"]


def test_a_zipped_file_of_another_size_than_listed_is_not_unpacked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = make_zip(desk.folder / "bomb.zip", {"train.csv": bytes(5 << 20)}).read_bytes()
    desk.server.files["train.csv"] = bomb
    monkeypatch.setattr("submissions.kaggle.client.KaggleClient.files", lambda self: {"train.csv": 14})
    monkeypatch.setattr("submissions.kaggle.download.unpack", lambda *args: pytest.fail("unpacked"))
    with desk.client() as client, pytest.raises(DataError, match="train.csv has 5242880 bytes, but 14 in Kaggle's"):
        download_some(client, ["train.csv"], target(desk))
    assert not list((desk.folder / "state" / "files").iterdir())


def test_a_zipped_file_with_a_damaged_directory_is_discarded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    zipped = make_zip(desk.folder / "x.zip", {"train.csv": FILES["train.csv"]}).read_bytes()
    desk.server.files["train.csv"] = zipped.replace(b"PK\x01\x02", b"PK\x01\x09")
    monkeypatch.setattr("submissions.kaggle.client.KaggleClient.files", lambda self: {"train.csv": 14})
    with desk.client() as client, pytest.raises(DataError, match="but 14 in Kaggle's list"):
        download_some(client, ["train.csv"], target(desk))


def test_a_move_to_another_disk_that_becomes_full_leaves_no_partial_file(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = desk.folder / "data"

    def other_disk(source: object, path: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source), None, str(path))

    def full(source: Any, file: Any, length: int = 0) -> None:
        file.write(source.read(1000))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def copy(source: Any, file: Any, length: int = 0) -> None:
        assert not (data / "train.csv").exists()  # a kill would leave it truncated
        file.write(source.read())

    with desk.client() as client, monkeypatch.context() as patch:
        patch.setattr("os.rename", other_disk)
        patch.setattr(shutil, "copyfileobj", full)
        patch.setattr(shutil, "_USE_CP_SENDFILE", False)
        with pytest.raises(DfensError, match=r"cannot be written \(No space left on device\)"):
            download_some(client, ["train.csv"], target(desk))
        assert not list(data.iterdir())
        patch.setattr(shutil, "copyfileobj", copy)
        download_some(client, ["train.csv"], target(desk))
    assert (data / "train.csv").read_bytes() == FILES["train.csv"]


def test_a_too_small_disk_is_reported_before_the_download(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("submissions.kaggle.download.shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(DfensError, match="GiB more, but the disk of .* has only 0.00 GiB free"):
        fetch(desk)


@pytest.mark.slow
def test_memory_is_bounded(desk: Desk) -> None:
    size = 300 << 20
    desk.server.files = {"big.bin": bytes(size)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("big.bin", bytes(size))
    desk.server.archive = buffer.getvalue()
    code = (
        "import os, resource\n"
        "from pathlib import Path\n"
        "from submissions.kaggle.client import KaggleClient\n"
        "from submissions.kaggle.download import DownloadTarget, download_all\n"
        "from submissions.settings import SubmissionSettings\n"
        f"with KaggleClient({SLUG!r}, SubmissionSettings(), os.environ) as client:\n"
        "    download_all(client, DownloadTarget(Path('data'), Path('state')))\n"
        "own = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(max(int(own.split()[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))\n"
    )
    environment = desk.environment | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=desk.folder, env=environment, capture_output=True, text=True, check=True
    )
    assert (desk.folder / "data" / "big.bin").stat().st_size == size
    assert int(done.stdout) < 200 << 10  # kB; loading the client takes most of it
