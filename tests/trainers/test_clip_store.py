"""Records of clips on a disk that becomes full, and with damaged tables."""

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oof.errors import DataError, StoreError
from oof.files import read_parquet, write_parquet
from trainers.media.clip_store import ClipStore
from trainers.media.stored_files import remove_store

LIMIT = 1 << 20  # a limit on the size of files simulates the full disk: the system writes up to it, then fails


def test_a_full_disk_keeps_the_clips_read_so_far_and_nothing_else(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a.mp4", "b.mp4")]
    records = {path: bytes([row]) * (LIMIT * 3 // 4) for row, path in enumerate(paths)}
    for path in paths:
        Path(path).write_text(path)
    store = ClipStore(tmp_path / "work", {"frames": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        with pytest.raises(DataError, match=rf"The disk of {store.folder} is full.*run dfens extract again"):
            store.make(paths, records.__getitem__)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert store.summary(paths).stored == 1
    assert sorted(path.stat().st_size for path in store.folder.glob("*.bin")) == [LIMIT * 3 // 4]
    assert not list(store.folder.glob("*.part")) + list(store.folder.glob(".*.part"))
    assert store.make(paths, records.__getitem__).stored == 2


def stored_file(folder: Path) -> tuple[ClipStore, str, Path]:
    """Return a store with the record of one file, the path of the file, and that of the table."""
    path = folder / "a.mp4"
    path.write_text("a")
    store = ClipStore(folder / "work", {"frames": 1})
    store.make([str(path)], lambda name: b"record")
    (table,) = store.folder.glob("*.parquet")
    return store, str(path), table


@pytest.mark.parametrize(
    "changed",
    [{"offset": None}, {"n_bytes": "x"}, {"mtime_ns": np.nan}, {"size": [[1]]}, "truncated", "without a column"],
)
def test_a_damaged_table_is_named_with_the_command_that_makes_it_again(tmp_path: Path, changed: Any) -> None:
    store, path, table = stored_file(tmp_path)
    rows, header = read_parquet(table)
    if changed == "truncated":
        table.write_bytes(table.read_bytes()[:-9])
    else:
        rows = rows.drop(columns="reason") if changed == "without a column" else rows.assign(**changed)
        write_parquet(table, rows, header)
    with pytest.raises(
        StoreError, match=rf"{table} was truncated or overwritten. Move it away, then run dfens extract"
    ):
        store.view([path])
    table.rename(tmp_path / table.name)
    assert store.make([path], lambda name: b"record").stored == 1


def test_a_table_without_rows_is_valid(tmp_path: Path) -> None:
    store, path, table = stored_file(tmp_path)
    rows, header = read_parquet(table)
    write_parquet(table, rows[:0], header)
    assert store.summary([path]).missing == 1


def test_records_that_are_removed_while_they_are_used_are_named(tmp_path: Path) -> None:
    """By dfens extract --remove beside a training that has not read the shard yet, such as that of the test clips."""
    store, path, _ = stored_file(tmp_path)
    view = store.view([path])
    remove_store(store.folder)
    with pytest.raises(StoreError, match=rf"features of {path} were removed while they were in use.*extracts them aga"):
        view.record(0)
