"""Records of clips on a disk that becomes full."""

import resource
from pathlib import Path

import pytest

from oof.errors import DataError
from trainers.media.clip_store import ClipStore

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
