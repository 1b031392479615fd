"""The store of blends: newest by recorded time, whole beside writers, earlier versions read."""

import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from ensemble.blend_store import BlendStore
from ensemble.fit import fit_blend
from ensemble.result import BlendResult
from oof.errors import StoreError
from tests.support.ensemble import make_world

IDS = np.array([f"r{row}" for row in range(40)], object)
SAMPLES = Path(__file__).parents[1] / "data"


def _result(seed: int = 0) -> BlendResult:
    oof, y = make_world(40, 2, seed=seed)
    return fit_blend(oof, y, optimize="none")


def test_the_newest_blend_is_the_one_that_was_made_last_also_in_a_copy(tmp_path: Path) -> None:
    store = BlendStore(tmp_path / "a")
    for name in ("first", "third", "second"):
        store.save(name, _result(), IDS)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    os.utime(tmp_path / "b" / "first" / "blend.json")  # written last in the copy
    copy = BlendStore(tmp_path / "b")
    assert copy.newest() == "second"
    assert [item["blend"] for item in copy.overview()] == ["first", "third", "second"]


def test_readers_beside_a_writer_get_one_blend_whole(tmp_path: Path) -> None:
    store = BlendStore(tmp_path)
    results = [_result(seed) for seed in range(2)]
    store.save("b", results[0], IDS)
    stop = threading.Event()
    seen: list[str] = []

    def read() -> None:
        reader = BlendStore(tmp_path)
        while not stop.is_set():
            blend = reader.load("b")
            which = [result for result in results if np.array_equal(blend.oof, result.oof)]
            seen.append("whole" if which and blend.score == which[0].score else "mixed")
            assert reader.list() == ["b"]

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(12):
            BlendStore(tmp_path).save("b", results[turn % 2], IDS)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(seen) == {"whole"}


def test_a_blend_of_format_version_1_is_read_without_its_predictor(tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "blend_v1", tmp_path / "old")
    store = BlendStore(tmp_path)
    blend = store.load("old")
    assert blend.oof.shape == blend.nested_oof.shape == (30,)
    assert blend.summary.nested_score == blend.nested_score
    assert {method.name for method in blend.summary.methods} >= {"best single", "mean of probabilities"}
    with pytest.raises(StoreError, match="'old' has no stored predictor. Run dfens blend --name old again"):
        store.load_predictor("old")


def test_a_blend_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    store = BlendStore(tmp_path)
    store.save("b", _result(), IDS)
    path = tmp_path / "b" / "blend.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 9}))
    with pytest.raises(StoreError, match="format version 9; this dfens reads 2"):
        store.load("b")
