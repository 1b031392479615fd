"""The store of blends: the newest by recorded time, concurrent readers and writers, earlier format versions."""

import json
import os
import re
import shutil
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ensemble.blend_store import BlendStore
from ensemble.fit import fit_blend
from ensemble.result import BlendResult
from oof.errors import ConfigError, StoreError
from tests.support.edits import edit_json
from tests.support.ensemble import make_oof
from tests.support.side_by_side import run_together

IDS = np.array([f"r{row}" for row in range(40)], object)
ROUNDS = 12
SAMPLES = Path(__file__).parents[1] / "data"


def _result(seed: int = 0) -> BlendResult:
    oof, y = make_oof(40, 2, seed=seed)
    return fit_blend(oof, y, optimize="none")


def test_the_newest_blend_is_the_one_made_last_even_in_a_copy(tmp_path: Path) -> None:
    store = BlendStore(tmp_path / "a")
    for name in ("first", "third", "second"):
        store.save(name, _result(), IDS)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    os.utime(tmp_path / "b" / "first" / "blend.json")  # written last in the copy
    copy = BlendStore(tmp_path / "b")
    assert copy.newest() == "second"
    assert [item["blend"] for item in copy.overview()] == ["first", "third", "second"]


def test_concurrent_readers_get_a_complete_blend(tmp_path: Path) -> None:
    store = BlendStore(tmp_path)
    results = [_result(seed) for seed in range(2)]
    tests = [np.full(3, float(seed)) for seed in range(2)]
    test_ids = np.array(["x", "y", "z"], object)
    oof, _ = make_oof(40, 2, seed=0)
    blended = [result.predictor.predict(oof) for result in results]
    store.save("b", results[0], IDS, test_ids=test_ids, test=tests[0])
    done = threading.Event()
    seen: Counter[str] = Counter()

    def read() -> None:
        reader = BlendStore(tmp_path)
        while not done.is_set():
            blend = reader.load("b")
            assert blend.test is not None
            which = int(blend.test[0])
            whole = np.array_equal(blend.oof, results[which].oof) and blend.score == results[which].score
            seen["whole" if whole else "mixed"] += 1
            predicted = reader.load_predictor("b").predict(oof)
            assert any(np.array_equal(predicted, one) for one in blended)
            assert reader.newest() == "b"
            assert [item["blend"] for item in reader.overview()] == reader.list() == ["b"]

    def write(first: int) -> None:
        for turn in range(first, first + ROUNDS):
            BlendStore(tmp_path).save("b", results[turn % 2], IDS, test_ids=test_ids, test=tests[turn % 2])

    def write_all() -> None:
        try:
            errors.extend(run_together(lambda: write(0), lambda: write(1)))
        finally:
            done.set()

    errors: list[str] = []
    errors.extend(run_together(write_all, read, read))
    assert errors == []
    assert seen["whole"] > 0
    assert seen["mixed"] == 0
    assert len(list(store.archive_dir.iterdir())) == 2 * ROUNDS  # nothing was lost
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "archive", "b"]


@pytest.mark.parametrize("text", ["[]", "null", "3", '"x"', "{}", '{"version": 2}', '{"version": []}', "{", "\xff"])
def test_an_edited_blend_json_is_named(tmp_path: Path, text: str) -> None:
    store = BlendStore(tmp_path)
    store.save("b", _result(), IDS)
    (tmp_path / "b" / "blend.json").write_bytes(text.encode("latin-1"))
    for read in (store.newest, store.overview, lambda: store.load("b"), lambda: store.models_of("b")):
        with pytest.raises(StoreError, match=r"b/blend.json"):
            read()


@pytest.mark.parametrize("key", ["members", "score", "metric", "made_at", "nested_interval", "methods"])
@pytest.mark.parametrize("value", [None, 3, {"a": 1}, "absent"])
def test_an_edited_value_of_a_blend_is_named(tmp_path: Path, key: str, value: object) -> None:
    store = BlendStore(tmp_path)
    store.save("b", _result(), IDS)
    path = tmp_path / "b" / "blend.json"
    facts = json.loads(path.read_text()) | {key: "x" if value == 3 and key == "score" else value}
    if value == "absent":
        del facts[key]
    path.write_text(json.dumps(facts))
    with pytest.raises(StoreError, match=r"b/blend.json is damaged .* run dfens blend --name b with its options"):
        store.load("b")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("members", 0, "weight"), "0.5"),
        (("members", 0, "score"), None),
        (("comparisons", 0, "gain"), float("nan")),
        (("comparisons", 0, "interval"), [0.1]),
        (("references", "best single", "score"), []),
        (("warnings",), "none"),
        (("verdict",), None),
        (("fingerprints",), []),
        (("contains",), "m0"),
        (("settings",), 3),
        (("features",), {"columns": [{"feature": "size"}], "fingerprints": {}, "files": None}),
    ],
)
def test_an_edited_value_within_a_blend_is_named(tmp_path: Path, keys: tuple[str | int, ...], value: object) -> None:
    store = BlendStore(tmp_path)
    store.save("b", _result(), IDS)
    edit_json(tmp_path / "b" / "blend.json", keys, value)
    with pytest.raises(StoreError, match=r"b/blend.json is damaged .* run dfens blend --name b with its options"):
        store.overview()


@pytest.mark.parametrize("name", ["oof.parquet", "test.parquet", "distributions.parquet", "predictor.json"])
@pytest.mark.parametrize("damage", ["removed", "another file", "of another blend", "cut"])
def test_a_missing_or_replaced_file_of_a_blend_is_named(tmp_path: Path, name: str, damage: str) -> None:
    store = BlendStore(tmp_path)
    store.save("b", _result(), IDS, test_ids=IDS, test=np.zeros(len(IDS)))
    path = tmp_path / "b" / name
    others = {"oof.parquet": "distributions.parquet", "predictor.json": "blend.json"}
    if damage == "removed":
        path.unlink()
    elif damage == "of another blend":
        store.save("other", _result(), IDS, test_ids=IDS, test=np.zeros(len(IDS)))
        shutil.copy(tmp_path / "other" / name, path)
    elif damage == "another file":
        shutil.copy(path.with_name(others.get(name, "oof.parquet")), path)
    else:
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(StoreError, match=re.escape(name)):
        store.load("b")
        store.load_predictor("b")


def test_the_blend_json_of_another_blend_is_named_before_its_scores_are_shown(tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 1)):
        BlendStore(tmp_path / folder).save("blend", _result(seed), IDS)
    shutil.copy(tmp_path / "b" / "blend" / "blend.json", tmp_path / "a" / "blend")
    with pytest.raises(StoreError, match=r"blend/\S+ is not the file that was stored with blend.json"):
        BlendStore(tmp_path / "a").overview()


def test_an_edited_predictor_is_named(tmp_path: Path) -> None:
    store = BlendStore(tmp_path)
    store.save("b", _result(), IDS)
    edit_json(tmp_path / "b" / "predictor.json", ("predictor", "chosen"), 3)
    with pytest.raises(StoreError, match=r"b/predictor.json is not the file that was stored .* --name b with its opt"):
        store.load_predictor("b")
    assert len(store.load("b").oof) == len(IDS)  # which does not need it


def test_a_blend_that_has_not_recorded_its_files_is_read(tmp_path: Path) -> None:
    store = BlendStore(tmp_path)
    store.save("b", _result(), IDS)
    path = tmp_path / "b" / "blend.json"
    facts = json.loads(path.read_text())
    assert facts.pop("sha256").keys() == {"oof.parquet", "distributions.parquet", "predictor.json"}
    path.write_text(json.dumps(facts))
    assert [item["blend"] for item in store.overview()] == ["b"]
    store.load_predictor("b")


@pytest.mark.parametrize("name", ["oof.parquet", "test.parquet", "distributions.parquet", "predictor.json"])
def test_files_of_an_earlier_blend_of_the_same_name_are_refused(tmp_path: Path, name: str) -> None:
    store, test_ids = BlendStore(tmp_path), np.array(["x"], object)
    archived = [store.save("b", _result(seed), IDS, test_ids=test_ids, test=np.full(1, seed / 2)) for seed in range(2)][
        1
    ]
    assert archived is not None
    shutil.copy(archived / name, tmp_path / "b" / name)
    with pytest.raises(StoreError, match=f"{name} is not the file that was stored with blend.json"):
        store.load_predictor("b") if name in ("distributions.parquet", "predictor.json") else store.load("b")


def test_a_blend_of_format_version_1_is_read_without_its_predictor(tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "blend_v1", tmp_path / "old")
    store = BlendStore(tmp_path)
    blend = store.load("old")
    assert blend.oof.shape == blend.nested_oof.shape == (30,)
    assert blend.summary.nested_score == blend.nested_score
    assert {method.name for method in blend.summary.methods} >= {"best single", "mean of probabilities"}
    with pytest.raises(StoreError, match="'old' has no stored predictor. Run dfens blend --name old with its options"):
        store.load_predictor("old")


def test_a_blend_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    store = BlendStore(tmp_path)
    store.save("b", _result(), IDS)
    path = tmp_path / "b" / "blend.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 9}))
    with pytest.raises(StoreError, match="format version 9; this dfens reads 2"):
        store.load("b")


@pytest.mark.parametrize(("name", "other"), [("Best", "best"), ("Archive", "archive")])
def test_a_blend_whose_name_differs_from_another_folder_only_in_case_is_refused(
    tmp_path: Path, name: str, other: str
) -> None:
    store = BlendStore(tmp_path)
    store.save("best", _result(), IDS)
    with pytest.raises(ConfigError, match=f"'{name}' and '{other}' differ only in case"):
        store.save(name, _result(), IDS)
    assert store.list() == ["best"]
