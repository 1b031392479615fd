"""The cache of resized images: exact, looked up by content, intact after a kill, and used only where it matches."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from oof.errors import DataError, DfensError, StoreError
from oof.files import read_json, write_parquet
from tests.support.competitions import face, make_set, write_image
from tests.support.training import TINY, stored_bytes, tiny_competition, train_models
from trainers.kinds.base import ModelSettings
from trainers.kinds.linear.settings import LinearSettings
from trainers.media import image_cache as cache_module
from trainers.media.image import load_image
from trainers.media.image_cache import ImageCache
from trainers.media.image_store import ImageStore
from trainers.media.settings import Decode
from trainers.media.stored_files import remove_store
from trainers.runtime.memory import free_memory


def images(folder: Path, count: int = 10) -> list[str]:
    make_set(folder, "a", count, size=40)
    return sorted(map(str, folder.glob("*.jpg")))


def cache_of(tmp_path: Path, size: int = 24, decode: Decode = "area") -> ImageCache:
    return ImageCache(tmp_path / "cache", size, decode, tmp_path)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_SHARD_BYTES", 3 * 24 * 24 * 3)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("decode", ["area", "scaled", "pil"])
def test_cached_pixels_are_the_decoded_ones(tmp_path: Path, decode: Decode) -> None:
    paths = images(tmp_path / "data")
    cache = cache_of(tmp_path, decode=decode)
    assert cache.plan(paths).missing == 10
    assert cache.make(paths, threads=3) == []
    view = cache.view(paths)
    assert view is not None
    assert view.found == 10
    for row, path in enumerate(paths):
        found = view.one(row)
        assert found is not None
        np.testing.assert_array_equal(found, load_image(path, 24, decode))
        assert not found.flags.writeable
    assert len(list(cache.folder.glob("*.npy"))) == 4
    plan = cache.plan(paths)
    assert (plan.missing, plan.bytes_needed) == (0, 0)
    assert plan.bytes_made == 10 * 24 * 24 * 3 + 4 * 128


def test_size_decoder_and_version_each_have_a_separate_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = images(tmp_path / "data", 2)
    cache_of(tmp_path).make(paths)
    assert cache_of(tmp_path, size=32).view(paths) is None
    assert cache_of(tmp_path, decode="pil").view(paths) is None
    monkeypatch.setattr("cv2.__version__", "99")
    assert cache_of(tmp_path).view(paths) is None


def test_only_a_changed_file_is_decoded_and_added(tmp_path: Path) -> None:
    paths = images(tmp_path / "data")
    cache = cache_of(tmp_path)
    cache.make(paths)
    write_image(Path(paths[3]), face(77, size=40))
    view = cache.view(paths)
    assert view is not None
    assert view.found == 9
    assert view.one(3) is None
    store = ImageStore(paths, 24, "area", 1, cache=view)
    assert store.source == "cache (9 of 10 images), area at 24 px, 10 of 10 kept in memory"
    np.testing.assert_array_equal(store[3], load_image(paths[3], 24))
    assert cache.plan(paths).missing == 1
    cache.make(paths)
    renewed = cache.view(paths)
    assert renewed is not None
    np.testing.assert_array_equal(renewed.one(3), load_image(paths[3], 24))


def test_moved_touched_and_duplicate_files_are_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = images(tmp_path / "data", 4)
    cache_of(tmp_path).make(paths)
    os.utime(paths[0])
    moved = [*paths[:3], str(Path(paths[3]).rename(tmp_path / "data" / "moved.jpg"))]
    twin = shutil.copy(paths[1], tmp_path / "twin.jpg")
    monkeypatch.setattr(cache_module, "decode_at", None)  # would fail if it were called
    cache_of(tmp_path).make([*moved, str(twin)])
    view = cache_of(tmp_path).view([*moved, str(twin)])
    assert view is not None
    assert view.found == 5
    assert len(list(cache_of(tmp_path).folder.glob("*.npy"))) == 1


def test_the_folder_can_be_moved_with_its_data(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    cache_of(tmp_path / "old").make(images(tmp_path / "old" / "data", 3))
    (tmp_path / "old").rename(tmp_path / "new")
    paths = sorted(map(str, (tmp_path / "new" / "data").glob("*.jpg")))
    assert cache_of(tmp_path / "new").plan(paths).missing == 0


@pytest.mark.usefixtures("small_shards")
def test_a_truncated_shard_is_ignored(tmp_path: Path) -> None:
    paths = images(tmp_path / "data")
    cache = cache_of(tmp_path)
    cache.make(paths)
    shard = max(cache.folder.glob("*.npy"), key=lambda path: path.stat().st_size)
    shard.write_bytes(shard.read_bytes()[:-1])
    assert cache.plan(paths).missing == 3
    cache.make(paths)
    assert cache.plan(paths).missing == 0


@pytest.mark.usefixtures("small_shards")
def test_images_of_a_cache_that_is_removed_while_it_is_read_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_COMPARED", 1)  # opens one of the shards
    paths = images(tmp_path / "data")
    cache = cache_of(tmp_path)
    cache.make(paths)
    store = ImageStore(paths, 24, "area", 1, cache=cache.view(paths), keep=False)
    remove_store(cache.folder)
    np.testing.assert_array_equal(store.take(np.arange(10)), [load_image(path, 24, "area") for path in paths])


def test_a_damaged_header_or_missing_file_of_a_shard_does_not_matter(tmp_path: Path) -> None:
    paths = images(tmp_path / "data", 3)
    cache = cache_of(tmp_path)
    cache.make(paths)
    expected = [load_image(path, cache.image_size, cache.decode) for path in paths]
    for damage in ("header", "pixels", "table"):
        (path,) = cache.folder.glob("*.parquet" if damage == "table" else "*.npy")
        if damage == "header":
            path.write_bytes(bytes(128) + path.read_bytes()[128:])
        else:
            path.unlink()
            path.symlink_to("nothing")
            assert cache.plan(paths).missing == 3
            cache.make(paths)
        view = cache.view(paths)
        assert view is not None
        np.testing.assert_array_equal([view.one(row) for row in range(3)], expected)


@pytest.mark.usefixtures("small_shards")
def test_changed_pixels_are_named(tmp_path: Path) -> None:
    """Such as by a broken disk; other images are still read."""
    paths = images(tmp_path / "data")
    cache = cache_of(tmp_path)
    cache.make(paths)
    view = cache.view(paths)
    assert view is not None
    damaged = int(np.flatnonzero(view._verified == 0)[0])  # not one of those that are compared before use
    shard = cache.folder / f"{cache._locate(paths, 1, cache._index())['shard'][damaged]}.npy"
    position = int(view._position[damaged])
    data = bytearray(shard.read_bytes())
    data[128 + position * 24 * 24 * 3 + 700] ^= 1
    shard.write_bytes(data)
    view = cache.view(paths)
    assert view is not None
    for row in range(10):
        if row == damaged:
            with pytest.raises(StoreError, match=rf"{shard} is damaged.*dfens cache --remove, then dfens cache"):
                view.one(row)
        else:
            np.testing.assert_array_equal(view.one(row), load_image(paths[row], 24))
    shard.with_suffix(".crc32").unlink()  # as in caches of earlier versions
    view = cache.view(paths)
    assert view is not None
    assert view.one(damaged) is not None


def test_unreadable_files_are_skipped_and_named(tmp_path: Path) -> None:
    paths = images(tmp_path / "data", 3)
    Path(paths[1]).write_bytes(b"no image")
    (message,) = cache_of(tmp_path).make(paths)
    assert "a001.jpg is not a valid image" in message
    view = cache_of(tmp_path).view(paths)
    assert view is not None
    assert view.found == 2


def test_insufficient_disk_space_is_reported_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = images(tmp_path / "data", 3)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=3 * 24 * 24 * 3))
    with pytest.raises(DataError, match=r"3 images of 24 px take 0\.0 GB, and 0\.0 GB are free .* Free space there"):
        cache_of(tmp_path).make(paths)
    assert not list(cache_of(tmp_path).folder.glob("*.npy"))


def test_complete_shards_are_kept_when_the_disk_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = images(tmp_path / "data")
    monkeypatch.setattr(cache_module, "_SHARD_BYTES", 3 * 24 * 24 * 3)
    write = write_parquet
    calls = iter(range(99))

    def full(*args: object) -> None:
        if next(calls) == 2:
            raise DfensError("The disk is full")
        write(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "write_parquet", full)
        with pytest.raises(DfensError, match="The disk is full"):
            cache_of(tmp_path).make(paths)
    assert cache_of(tmp_path).plan(paths).missing == 4
    cache_of(tmp_path).make(paths)
    assert cache_of(tmp_path).plan(paths).missing == 0
    assert len(list(cache_of(tmp_path).folder.glob("*.npy"))) == 4  # the shard without a table was removed


def test_pixels_of_another_decoder_are_refused(tmp_path: Path) -> None:
    paths = images(tmp_path / "data", 3)
    cache = cache_of(tmp_path)
    cache.make(paths)
    (shard,) = cache.folder.glob("*.npy")
    data = bytearray(shard.read_bytes())
    data[-5] ^= 1
    shard.write_bytes(data)
    shard.with_suffix(".crc32").unlink()  # that of the other decoder would fit its pixels
    with pytest.raises(DataError, match=r"different pixels for .*a002.jpg from those decoded .*dfens cache --remove"):
        cache.view(paths)


_MAKE = """
import sys
from pathlib import Path
from trainers.media import image_cache as cache
cache._SHARD_BYTES = 2 * 24 * 24 * 3
folder = Path(sys.argv[1])
cache.ImageCache(folder / "cache", 24, "area", folder).make(sorted(map(str, (folder / "data").glob("*.jpg"))))
"""


def test_building_resumes_after_a_kill_at_any_moment(tmp_path: Path) -> None:
    paths = images(tmp_path / "data", 300)
    seen = []
    for shards in (1, 20, 60):
        process = subprocess.Popen([sys.executable, "-c", _MAKE, str(tmp_path)], env={**os.environ, "PYTHONPATH": "."})
        deadline = time.monotonic() + 240
        while len(list((tmp_path / "cache").glob("*/*.parquet"))) < shards and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        plan = cache_of(tmp_path).plan(paths)
        assert 0 < plan.missing < 300
        seen.append(plan.missing)
    assert seen == sorted(seen, reverse=True)
    cache_of(tmp_path).make(paths)
    view = cache_of(tmp_path).view(paths)
    assert view is not None
    for row, path in enumerate(paths):
        np.testing.assert_array_equal(view.one(row), load_image(path, 24))
    assert not list(cache_of(tmp_path).folder.glob("*.part"))


def train(root: Path, cache_dir: Path | None = None) -> bytes:
    """Train one fold and return its predictions as bytes."""
    competition, store = tiny_competition(root)
    work = root / "work" / "trainers"
    train_models(competition, store, {"tiny": TINY}, (0,), work, root=root, cache_dir=cache_dir)
    return stored_bytes(store, "tiny")


def test_training_gives_the_same_bits_from_memory_cache_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = train(tmp_path / "memory")
    root = tmp_path / "cached"
    competition, _ = tiny_competition(root)
    paths = [*competition.train["path"], *competition.test["path"]]
    ImageCache(root / "cache", 32, "area", root).make(paths)
    assert train(root, root / "cache") == before
    history = read_json(root / "work" / "trainers" / "tiny" / "fold0" / "history.json")
    assert history["images_from"] == "cache (48 of 48 images), area at 32 px"

    monkeypatch.setattr(
        "trainers.media.image_store.free_memory", lambda: 48 * 32 * 32 * 3
    )  # images may use a third of it
    assert train(tmp_path / "streamed") == before
    assert ImageStore(paths, 32, "area", 1).kept == 14
    history = read_json(tmp_path / "streamed" / "work" / "trainers" / "tiny" / "fold0" / "history.json")
    assert history["images_from"] == "files, area at 32 px, 14 of 48 kept in memory"


def test_a_network_reads_the_cache_after_a_baseline_of_the_same_size(tmp_path: Path) -> None:
    competition, store = tiny_competition(tmp_path)
    work, cache = tmp_path / "work" / "trainers", tmp_path / "cache"
    ImageCache(cache, 32, "area", tmp_path).make([*competition.train["path"], *competition.test["path"]])
    models: dict[str, ModelSettings] = {
        "baseline": LinearSettings(image_size=32),
        "tiny": dataclasses.replace(TINY, epochs=1),
    }
    train_models(competition, store, models, (0,), work, root=tmp_path, cache_dir=cache)
    history = read_json(work / "tiny" / "fold0" / "history.json")
    assert history["images_from"] == "cache (48 of 48 images), area at 32 px"


def test_as_many_images_as_fit_are_kept_and_the_others_are_read_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = images(tmp_path, 4)
    monkeypatch.setattr("trainers.media.image_store.free_memory", lambda: 2 * 4 * 24 * 24 * 3)
    kept = {share: ImageStore(paths, 24, "area", 1, share=share).kept for share in (0.0, 0.3, 0.49, 0.5, 1.0)}
    assert kept == {0.0: 0, 0.3: 2, 0.49: 3, 0.5: 4, 1.0: 4}
    assert ImageStore(paths, 24, "area", 1, keep=False).kept == 0
    store = ImageStore(paths, 24, "area", 1)
    store.fill("two of four")
    first, last = store[0], store[3]
    for path in (paths[0], paths[3]):
        Path(path).write_bytes(Path(paths[1]).read_bytes())
    assert np.array_equal(first, store[0])
    assert not np.array_equal(last, store[3])  # read again


def test_the_memory_limit_of_a_container_is_respected(tmp_path: Path) -> None:
    machine = free_memory(tmp_path / "none")
    (tmp_path / "memory.max").write_text("900000\n")
    (tmp_path / "memory.current").write_text("500000\n")
    (tmp_path / "memory.stat").write_text("anon 200000\ninactive_file 300000\n")
    assert free_memory(tmp_path) == 700000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) > machine / 2
