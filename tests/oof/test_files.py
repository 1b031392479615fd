"""Files are written completely or not at all."""

import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oof import files
from oof.errors import DfensError, StoreError, write_remedy
from oof.progress import SILENT, Task


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), files.atomic_path(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert files.read_json(path) == {"old": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_reported_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(DfensError, match="The disk is full.*run the same command again"), files.atomic_path(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "write", [lambda path: files.write_json(path, {}), lambda path: files.file_lock(path).__enter__()]
)
def test_a_folder_that_cannot_be_written_is_named(write: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file stands where the workspace should be")
    with pytest.raises(
        DfensError, match=r"work/oof/a cannot be written \(Not a directory\).*work is a file where a folder"
    ):
        write(tmp_path / "work" / "oof" / "a")
    (tmp_path / "work").unlink()
    (tmp_path / "work").symlink_to("disk/work")  # of a disk that is not mounted
    with pytest.raises(DfensError, match=r"\. \S*/work is a link to a folder that does not exist: mount its disk"):
        write(tmp_path / "work" / "oof" / "a")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_missing_permissions_are_reported_for_the_right_file(number: int, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(DfensError, match="a.json cannot be written"), files.atomic_path(path) as part:
        raise OSError(number, os.strerror(number), str(part))
    with pytest.raises(OSError, match="elsewhere"), files.atomic_path(path):
        raise OSError(number, os.strerror(number), "/data/elsewhere")
    assert list(tmp_path.iterdir()) == []


def test_parquet_keeps_text_and_header(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    files.write_parquet(path, pd.DataFrame({"id": ["00012", "1e5"]}), {"version": 1})
    table, header = files.read_parquet(path)
    assert list(table["id"]) == ["00012", "1e5"]
    assert header == {"version": 1}
    assert list(pd.read_parquet(path)["id"]) == ["00012", "1e5"]


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    files.write_parquet(path, pd.DataFrame({"id": ["a"] * 100}), {"version": 1})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(StoreError, match="cannot be read as Parquet"):
        files.read_parquet(path)


def test_a_changed_bit_is_reported_or_changes_no_value(tmp_path: Path) -> None:
    path, values = tmp_path / "a.parquet", np.linspace(0, 1, 20, dtype=np.float32)
    files.write_parquet(path, pd.DataFrame({"id": [f"ä{row}" for row in range(20)], "prediction": values}), {"v": 1})
    whole, data, reported = files.read_parquet(path)[0], path.read_bytes(), 0
    for place in range(0, len(data), 2):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        try:
            found = files.read_parquet(path, "id", "prediction")[0]
        except StoreError:
            reported += 1
        else:
            assert found["prediction"].tolist() == whole["prediction"].tolist(), place
            assert [name if isinstance(name, str) else name.decode() for name in found["id"]] == list(whole["id"])
    assert reported > len(data) / 5


def test_a_parquet_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"id": ["a"]}).to_parquet(path)
    with pytest.raises(StoreError, match="was not written by dfens"):
        files.read_parquet(path)


def test_broken_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": ')
    with pytest.raises(StoreError, match="not readable JSON"):
        files.read_json(path)


def _write_forever(path: Path) -> None:
    while True:
        for letter in "ab":
            files.write_text(path, letter * 2_000_000)


def test_a_killed_writer_never_leaves_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "a" * 2_000_000)
    for delay_s in (0.01, 0.02, 0.05, 0.08):
        writer = multiprocessing.get_context("fork").Process(target=_write_forever, args=(path,))
        writer.start()
        time.sleep(delay_s)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        text = path.read_text()
        assert len(text) == 2_000_000
        assert len(set(text)) == 1


def test_archive_moves_and_never_overwrites(tmp_path: Path) -> None:
    kept = []
    for text in "ab":
        path = tmp_path / "model"
        path.write_text(text)
        kept.append(files.archive(path, tmp_path / "archive"))
    assert [path.read_text() for path in kept] == ["a", "b"]
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("last_step", ["copy", "remove"])
def test_an_archive_on_another_disk_that_was_killed_has_no_half_and_no_litter(
    last_step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, archive_dir = tmp_path / "models" / "m", tmp_path / "archive"
    model.mkdir(parents=True)
    for number in range(20):
        (model / f"fold{number}").write_bytes(b"0" * 100)
    rename = Path.rename

    def to_same_disk(path: Path, target: Path) -> Path:
        if archive_dir in target.parents and archive_dir not in path.parents:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(path, target)

    def copy_some(path: Path, copy: Path, **options: object) -> None:
        copy.mkdir()
        shutil.copy2(path / "fold0", copy)
        os.kill(os.getpid(), signal.SIGKILL)

    def remove_some(folder: Path, **options: object) -> None:
        for path in list(folder.rglob("fold*"))[:10]:
            path.unlink()
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Path, "rename", to_same_disk)
    with monkeypatch.context() as patch:
        if last_step == "copy":
            patch.setattr(shutil, "copytree", copy_some)
        else:
            patch.setattr(shutil, "rmtree", remove_some)
        killed = multiprocessing.get_context("fork").Process(target=files.archive, args=(model, archive_dir))
        killed.start()
        killed.join()
    assert killed.exitcode == -signal.SIGKILL
    if last_step == "copy":
        assert len(list(model.iterdir())) == 20
    else:
        assert not model.exists()
        model = model.with_name("another")
        files.write_text(model, "")
    files.archive(model, archive_dir)
    archived = sorted(archive_dir.iterdir())
    assert [path for path in (*archived, *model.parent.iterdir()) if path.name.startswith(".")] == []
    assert len(list(archived[0].iterdir())) == 20


def test_a_missing_permission_is_that_of_the_folder_that_exists(tmp_path: Path) -> None:
    refused = PermissionError(errno.EACCES, "Permission denied")
    remedy = write_remedy(tmp_path / "work" / "oof" / "folds.parquet", refused)
    assert f"the permissions of {tmp_path}, or work in another folder" in remedy


@pytest.mark.parametrize("write", [files.atomic_path, files.temporary_folder])
def test_leftovers_of_a_killed_writer_are_removed_by_the_next_one(
    write: Callable[[Path], AbstractContextManager[Path]], tmp_path: Path
) -> None:
    target, ready = tmp_path / "model", multiprocessing.get_context("fork").Event()

    def write_and_hang() -> None:
        with write(target):
            ready.set()
            signal.pause()

    writer = multiprocessing.get_context("fork").Process(target=write_and_hang)
    writer.start()
    assert ready.wait(60)
    foreign = tmp_path / ".model.of-another-program.part"
    foreign.touch()
    (alive,) = set(tmp_path.iterdir()) - {foreign}
    with write(target):
        assert alive.exists()  # a temporary file in use is left alone
    writer.kill()
    writer.join()
    assert alive.exists()
    with write(target) as part:
        assert set(tmp_path.iterdir()) - {target} == {part, foreign}


def test_a_lock_that_is_archived_while_waiting_is_acquired_in_the_new_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two processes would hold the lock of one path: one that of the old file, one that of the new."""
    lock, flock = tmp_path / "model" / ".lock", fcntl.flock
    orders: list[int] = []

    def flock_after_archiving(file: int, order: int) -> None:
        orders.append(order)
        if len(orders) == 1:
            files.archive(lock.parent, tmp_path / "archive")
        flock(file, order)

    monkeypatch.setattr(fcntl, "flock", flock_after_archiving)
    with files.file_lock(lock):
        assert files.locked_since(lock) is not None


class _Notes:
    """Record notes; a task is silent."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def task(self, title: str, total: float | None = None, unit: str = "") -> Task:
        return SILENT.task(title, total, unit)


def test_a_process_that_waits_for_a_lock_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, notes = tmp_path / "fold0" / ".lock", _Notes()

    def wait() -> None:
        with files.file_lock(lock, notes):
            pass

    with files.file_lock(lock, notes):
        waiting = threading.Thread(target=wait)
        waiting.start()
    waiting.join()
    assert notes.lines == []
    monkeypatch.setattr(files, "_MOMENT_S", 0.1)
    with files.file_lock(lock, notes):
        waiting = threading.Thread(target=wait)
        waiting.start()
        while not notes.lines:
            time.sleep(0.01)
        time.sleep(0.3)
    waiting.join()
    assert notes.lines == [f"Another dfens process is working in {tmp_path / 'fold0'}; waiting for it."]
