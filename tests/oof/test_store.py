"""The store joins by id, refuses predictions of other folds, and loses nothing."""

import errno
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oof import files
from oof.errors import ConfigError, DfensError, FoldError, PredictionError, StoreError
from oof.folds import make_folds
from oof.store import PredictionStore

N, K, N_TEST = 40, 4, 10


@pytest.fixture
def store(tmp_path: Path) -> PredictionStore:
    store = PredictionStore(tmp_path / "oof")
    ids = np.array([f"{i:05d}" for i in range(N)], dtype=object)
    store.save_folds(make_folds(ids, np.arange(N) % 2, k=K, seed=0))
    store.save_test_ids(np.array([f"1e{i}" for i in range(N_TEST)], dtype=object))
    return store


def fill(store: PredictionStore, name: str, folds: range = range(K), value: float = 0.0) -> None:
    for fold in folds:
        ids = store.folds.ids[store.folds.rows(fold)][::-1]
        store.save_oof(name, ids, np.array([int(id_) / N + value for id_ in ids]), fold=fold)
        store.save_test(name, store.test_ids[::-1], np.arange(N_TEST)[::-1] + 100.0 * fold, fold=fold)
    store.save_model(name, "timm", {"epochs": 1})


def test_predictions_are_returned_by_id(store: PredictionStore) -> None:
    fill(store, "m")
    model = PredictionStore(store.root).load("m")
    np.testing.assert_array_equal(model.oof, np.array([int(id_) / N for id_ in store.folds.ids], np.float32))
    assert model.test_by_fold is not None
    assert model.test_by_fold.shape == (K, N_TEST)
    np.testing.assert_array_equal(model.test, np.arange(N_TEST) + 150.0)
    assert model.oof.dtype == np.float32
    assert (model.kind, model.details) == ("timm", {"epochs": 1})


@pytest.mark.parametrize("name", ["oof.fold1.parquet", "test.fold1.parquet"])
def test_a_file_of_another_model_is_named(store: PredictionStore, name: str) -> None:
    for model in ("m", "other"):
        fill(store, model)
    shutil.copy(store.model_dir("other") / name, store.model_dir("m") / name)
    with pytest.raises(StoreError, match=f"m/{name} contains predictions of the model 'other', not of 'm'"):
        store.load("m")
    store.model_dir("other").rename(store.models_dir / "renamed")
    assert store.load("renamed").oof.shape == (N,)


@pytest.mark.parametrize("change", ["folds", "rows to predict"])
def test_predictions_are_not_stored_for_rows_that_another_process_replaced(store: PredictionStore, change: str) -> None:
    fill(store, "m", range(1))
    other = PredictionStore(store.root)
    if change == "folds":
        other.save_folds(make_folds(store.folds.ids, store.folds.target, k=K, seed=1), force=True)
    else:
        other.save_test_ids(store.test_ids[1:])
    with pytest.raises(StoreError, match=f"The {change} were replaced by another process .* are not stored"):
        fill(store, "m", range(1, K))
    for summary in PredictionStore(store.root).list():  # can still be read
        assert summary.test_folds == ()
    again = PredictionStore(store.root)
    again.save_oof("m", again.folds.ids[again.folds.rows(0)], np.zeros(N // K), fold=0)


def test_complete_and_partial_models_are_distinguished(store: PredictionStore) -> None:
    fill(store, "whole")
    fill(store, "part", range(3))
    whole, part = sorted(store.list(), key=lambda summary: summary.name, reverse=True)
    assert whole.complete
    assert not part.complete
    assert part.oof_folds == (0, 1, 2)
    assert np.isnan(store.load("part").oof).sum() == N // K


def test_a_partly_trained_model_is_not_an_import(store: PredictionStore) -> None:
    store.save_model("partly-trained", "timm", {})
    summary = store.summary("partly-trained")
    assert (summary.oof_rows, summary.imported, summary.complete) == (0, False, False)


def test_an_import_may_cover_some_rows(store: PredictionStore) -> None:
    oof = np.linspace(0, 1, N)
    oof[5:] = np.nan
    store.save("far", store.folds.ids, oof, np.arange(N_TEST))
    summary = store.summary("far")
    assert (summary.oof_rows, summary.imported, summary.complete) == (5, True, False)
    np.testing.assert_array_equal(np.isnan(store.load("far").oof), np.isnan(oof))


def test_nan_is_reported_with_its_row(store: PredictionStore) -> None:
    ids = store.folds.ids[store.folds.rows(0)]
    values = np.zeros(len(ids))
    values[3] = np.nan
    with pytest.raises(PredictionError, match=f"1 of 10 predictions are NaN or infinite, the first for id '{ids[3]}'"):
        store.save_oof("m", ids, values, fold=0)
    assert "m" not in store


def test_infinity_after_rounding_to_float32_is_refused(store: PredictionStore) -> None:
    with pytest.raises(PredictionError, match="NaN or infinite"):
        store.save_test("m", store.test_ids, np.full(N_TEST, 1e300), fold=None)


def test_ids_of_another_fold_are_refused(store: PredictionStore) -> None:
    ids = store.folds.ids[store.folds.rows(1)]
    with pytest.raises(PredictionError, match="OOF 'm' fold 0 covers 0 of 10 ids"):
        store.save_oof("m", ids, np.zeros(len(ids)), fold=0)


def test_missing_test_ids_are_named(store: PredictionStore) -> None:
    with pytest.raises(PredictionError, match="covers 9 of 10 ids; missing 1e9"):
        store.save_test("m", store.test_ids[:9], np.zeros(9), fold=0)


def test_other_folds_are_refused_once_models_exist(store: PredictionStore) -> None:
    fill(store, "m")
    before = store.folds
    other = make_folds(before.ids, before.target, k=K, seed=1)
    with pytest.raises(FoldError, match="1 models were made with other folds: m.*dfens folds --force"):
        store.save_folds(other)
    assert store.folds.fingerprint == before.fingerprint
    store.save_folds(make_folds(before.ids, before.target, k=K, seed=0))  # the same folds: nothing happens
    assert "m" in store


def test_force_archives_what_depended_on_the_old_folds(store: PredictionStore) -> None:
    fill(store, "m")
    store.save("import", store.folds.ids, np.zeros(N), np.zeros(N_TEST))
    archived = store.save_folds(make_folds(store.folds.ids, store.folds.target, k=K, seed=1), force=True)
    assert archived is not None
    assert (archived / "models" / "m" / "oof.fold0.parquet").exists()
    assert (archived / "folds.parquet").exists()
    assert [summary.name for summary in store.list()] == ["import"]  # depends on the ids, not on the folds


def test_a_full_disk_leaves_folds_and_models_where_they_are(
    store: PredictionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, "m")
    before = store.folds.fingerprint

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with pytest.raises(DfensError, match="The disk is full"):
        store.save_folds(make_folds(store.folds.ids, store.folds.target, k=2, seed=0), force=True)
    with pytest.raises(DfensError, match="The disk is full"):
        store.save_test_ids(store.test_ids[:1])
    found = PredictionStore(store.root)
    assert (found.folds.fingerprint, found.load("m").test_folds) == (before, tuple(range(K)))
    assert not store.archive_dir.exists()


def test_predictions_of_other_folds_are_never_read(store: PredictionStore) -> None:
    fill(store, "m")
    path = store.root / "models" / "m"
    store.save_folds(make_folds(store.folds.ids, store.folds.target, k=K, seed=1), force=True)
    path.parent.mkdir(exist_ok=True)
    next((store.root / "archive").rglob("models/m")).rename(path)
    with pytest.raises(StoreError, match="belongs to other folds"):
        PredictionStore(store.root).load("m")


def test_broken_folds_are_rebuilt_and_keep_their_models(store: PredictionStore) -> None:
    fill(store, "m")
    ids, target = store.folds.ids, store.folds.target
    store.folds_path.write_bytes(store.folds_path.read_bytes()[:300])
    store = PredictionStore(store.root)
    with pytest.raises(StoreError, match=r"folds.parquet cannot be read as Parquet \(.*move it away"):
        _ = store.folds
    with pytest.raises(FoldError, match="1 models were made with other folds: m"):
        store.save_folds(make_folds(ids, target, k=K, seed=1))
    assert store.save_folds(make_folds(ids, target, k=K, seed=0)) is None
    assert store.summary("m").complete
    assert len(list(store.root.glob("archive/*-folds/folds.parquet"))) == 1
    store.folds_path.unlink()
    with pytest.raises(FoldError, match="1 models were made with other folds: m"):
        store.save_folds(make_folds(ids, target, k=K, seed=1))


def test_predictions_of_an_earlier_test_set_move_to_the_archive(store: PredictionStore) -> None:
    fill(store, "m")
    assert store.save_test_ids(store.test_ids[::-1]) is None  # the same ids in another order
    assert store.summary("m").complete
    archived = store.save_test_ids(np.array([f"2e{i}" for i in range(N_TEST)], dtype=object))
    assert archived is not None
    assert len(list(archived.glob("models/m/test.fold*.parquet"))) == K
    summary = store.summary("m")
    assert (summary.oof_folds, summary.test_folds, summary.complete) == ((0, 1, 2, 3), (), False)


def test_stale_test_predictions_are_never_read(store: PredictionStore) -> None:
    fill(store, "m")
    archived = store.save_test_ids(np.array([f"1e{i + 1}" for i in range(N_TEST)], dtype=object))
    assert archived is not None
    for path in archived.glob("models/m/*.parquet"):
        path.rename(store.model_dir("m") / path.name)
    with pytest.raises(StoreError, match="belongs to other test ids"):
        store.load("m")


def test_a_truncated_file_is_an_error_and_not_part_of_a_model(store: PredictionStore) -> None:
    fill(store, "m")
    path = store.root / "models" / "m" / "oof.fold2.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StoreError, match=r"oof\.fold2\.parquet cannot be read as Parquet"):
        store.load("m")


@pytest.mark.parametrize("change", [{"details": None}, {"details": []}, {"kind": 3}])
def test_an_edited_model_json_is_named(store: PredictionStore, change: dict[str, object]) -> None:
    fill(store, "m")
    path = store.model_dir("m") / "model.json"
    files.write_json(path, files.read_json(path) | change)
    for read in (store.load, store.summary):
        with pytest.raises(StoreError, match=r"m/model.json was edited by hand"):
            read("m")


@pytest.mark.parametrize("change", [{"how": None}, {"how": 3}, {"folds": []}, "how", "folds", "target"])
def test_folds_with_an_edited_header_are_named(store: PredictionStore, change: dict[str, object] | str) -> None:
    table, header = files.read_parquet(store.folds_path)
    if change == "target":
        table["target"] = "x"
    elif isinstance(change, str):
        del header[change]
    else:
        header |= change
    files.write_parquet(store.folds_path, table, header)
    with pytest.raises(StoreError, match=r"folds.parquet was changed after .* Run dfens folds --force"):
        PredictionStore(store.root).folds  # noqa: B018


def test_folds_edited_by_hand_are_detected(store: PredictionStore) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(store.folds_path)
    metadata = table.schema.metadata
    frame = table.to_pandas()
    frame.loc[0, "fold"] = (frame.loc[0, "fold"] + 1) % K
    import pyarrow as pa

    pq.write_table(
        pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(metadata), store.folds_path
    )
    with pytest.raises(StoreError, match="was changed after it was written"):
        _ = PredictionStore(store.root).folds


def test_a_newer_format_is_refused(store: PredictionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oof.part_files.FORMAT_VERSION", 2)
    with pytest.raises(StoreError, match="has format version 1; this dfens reads 2"):
        _ = PredictionStore(store.root).folds


def test_an_unknown_model_names_the_known_ones(store: PredictionStore) -> None:
    with pytest.raises(StoreError, match="no model 'n' in the store, which is empty. Run dfens train"):
        store.load("n")
    fill(store, "m")
    with pytest.raises(StoreError, match="no model 'n' in the store; its models are m"):
        store.load("n")


def test_the_fingerprint_depends_on_the_values(store: PredictionStore) -> None:
    fill(store, "m")
    fill(store, "same")
    fill(store, "other", value=0.01)
    assert store.fingerprint("m") == store.fingerprint("same") != store.fingerprint("other")


def test_pandas_reads_the_files(store: PredictionStore) -> None:
    fill(store, "m")
    frame = pd.read_parquet(store.root / "models" / "m" / "oof.fold0.parquet")
    assert list(frame.columns) == ["id", "prediction"]
    assert str(frame["prediction"].dtype) == "float32"


def test_models_whose_names_differ_only_in_case_are_refused(store: PredictionStore) -> None:
    fill(store, "net")
    with pytest.raises(ConfigError, match="'Net' and 'net' differ only in case, and would share a folder on macOS"):
        store.save_model("Net", "timm", {})
    (store.models_dir / "net").rename(store.models_dir / "Net")
    fill(store, "Net")
    assert store.names() == ["Net"]
