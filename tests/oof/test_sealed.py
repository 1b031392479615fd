"""Sealed rows: chosen by class and group, kept out of the folds, and every look at them recorded."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oof.errors import FoldError, PredictionError, StoreError
from oof.files import read_parquet, write_parquet
from oof.folds import Folds, make_folds
from oof.sealed import Look, LookRecord, SealedRows, choose_sealed, count_looks
from oof.store import PredictionStore

LOOK = Look("2026-01-02T03:04:05Z", "blend", "f" * 32, "a" * 32, 12, "auc", 0.9, 0.8, 0.95, 0.91)


def rows(n: int = 100, positive_every: int = 4) -> tuple[np.ndarray, np.ndarray]:
    return np.array([f"{i:05d}" for i in range(n)], object), (np.arange(n) % positive_every == 0).astype(np.int8)


def sealed_store(root: Path, n: int = 60, share: float = 0.2, seed: int = 0) -> tuple[PredictionStore, SealedRows]:
    """A store with folds of some rows and the others sealed."""
    ids, y = rows(n)
    inside = choose_sealed(ids, y, share, seed=seed)
    sealed = SealedRows(ids[inside], y[inside])
    store = PredictionStore(root)
    store.save_folds(folds_of(ids[~inside], y[~inside], share), sealed=sealed)
    store.save_test_ids(np.array(["t0", "t1"], object))
    return store, sealed


def folds_of(ids: np.ndarray, y: np.ndarray, share: float) -> Folds:
    folds = make_folds(ids, y, k=3, seed=0)
    return replace(folds, how={**folds.how, "sealed": share})


# ---- the choice ---------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(40, 300), st.floats(0.05, 0.5), st.integers(0, 1000), st.integers(2, 6))
def test_each_class_is_sealed_in_proportion(n: int, share: float, seed: int, positive_every: int) -> None:
    ids, y = rows(n, positive_every)
    inside = choose_sealed(ids, y, share, seed=seed)
    for label in (0, 1):
        assert abs(inside[y == label].sum() - share * (y == label).sum()) <= 0.5 + 1e-9


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_groups_are_sealed_whole_and_near_the_share(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids, y = rows(400)
    groups = np.array([f"g{value}" for value in rng.integers(0, 80, 400)], object)
    inside = choose_sealed(ids, y, 0.2, seed=seed, groups=groups)
    assert not set(groups[inside]) & set(groups[~inside])
    assert abs(inside[y == 1].mean() - 0.2) < 0.03
    assert abs(inside[y == 0].mean() - 0.2) < 0.03


def test_the_order_of_rows_does_not_matter_and_the_seed_does() -> None:
    ids, y = rows()
    order = np.random.default_rng(0).permutation(len(ids))
    first = set(ids[choose_sealed(ids, y, 0.2, seed=3)])
    assert first == set(ids[order][choose_sealed(ids[order], y[order], 0.2, seed=3)])
    assert first != set(ids[choose_sealed(ids, y, 0.2, seed=4)])


def test_a_class_that_would_be_missing_is_named() -> None:
    ids, y = rows(40, 40)
    with pytest.raises(FoldError, match="would lack class 1"):
        choose_sealed(ids, y, 0.1, seed=0)


# ---- the store ----------------------------------------------------------------


def test_folds_contain_no_sealed_rows(tmp_path: Path) -> None:
    _, sealed = sealed_store(tmp_path)
    again = PredictionStore(tmp_path)
    assert not set(again.folds.ids) & set(sealed.ids)
    assert len(again.folds.ids) + len(sealed.ids) == 60
    assert list(again.sealed_ids) == list(sealed.ids)
    found = again.sealed_rows()
    assert found is not None
    assert found.fingerprint == sealed.fingerprint
    assert (found.target == sealed.target).all()


def test_a_store_without_sealed_rows_reports_it(tmp_path: Path) -> None:
    ids, y = rows()
    store = PredictionStore(tmp_path)
    store.save_folds(make_folds(ids, y, k=3, seed=0))
    assert store.sealed_rows() is None
    assert len(store.sealed_ids) == 0


def test_other_sealed_rows_are_refused_where_models_depend_on_them(tmp_path: Path) -> None:
    store, sealed = sealed_store(tmp_path)
    inside = store.folds.rows(0)
    store.save_oof("m", store.folds.ids[inside], np.zeros(len(inside)), fold=0)
    ids, y = rows(60)
    with pytest.raises(FoldError, match="1 models were made with other folds: m"):
        store.save_folds(folds_of(ids, y, 0.0))
    kept = PredictionStore(tmp_path)
    assert list(kept.sealed_ids) == list(sealed.ids)
    archived = kept.save_folds(make_folds(ids, y, k=3, seed=0), force=True)
    assert archived is not None
    assert (archived / "sealed.parquet").exists()
    assert kept.sealed_rows() is None
    assert kept.names() == []


def test_lost_sealed_rows_are_detected_and_rewritten(tmp_path: Path) -> None:
    store, sealed = sealed_store(tmp_path)
    store.sealed_path.unlink()
    with pytest.raises(StoreError, match="Run dfens folds, which writes it"):
        PredictionStore(tmp_path).sealed_rows()
    folds = store.folds
    assert PredictionStore(tmp_path).save_folds(folds, sealed=sealed) is None
    assert list(PredictionStore(tmp_path).sealed_ids) == list(sealed.ids)


def test_sealed_rows_whose_targets_are_not_numbers_are_refused(tmp_path: Path) -> None:
    store, _ = sealed_store(tmp_path)
    table, header = read_parquet(store.sealed_path)
    write_parquet(store.sealed_path, table.assign(target="x"), header)
    with pytest.raises(StoreError, match=r"sealed.parquet was changed after .* Run dfens folds"):
        PredictionStore(tmp_path).sealed_rows()


def test_sealed_rows_of_another_choice_are_refused(tmp_path: Path) -> None:
    store, _ = sealed_store(tmp_path / "a")
    other, _ = sealed_store(tmp_path / "b", seed=1)
    store.sealed_path.write_bytes(other.sealed_path.read_bytes())
    with pytest.raises(StoreError, match="does not contain the rows that the folds leave out"):
        PredictionStore(tmp_path / "a").sealed_rows()


def test_predictions_after_the_test_rows_belong_to_the_sealed_rows(tmp_path: Path) -> None:
    store, sealed = sealed_store(tmp_path)
    for fold in (1, 0):
        store.save_predicted("m", 100 * fold + np.arange(2 + len(sealed.ids)), fold=fold)
    found = store.load_sealed("m")
    assert found is not None
    np.testing.assert_array_equal(found[0], 2 + np.arange(len(sealed.ids)))
    np.testing.assert_array_equal(found[1], 102 + np.arange(len(sealed.ids)))
    test = store.load("m").test_by_fold
    assert test is not None
    np.testing.assert_array_equal(test, [[0, 1], [100, 101]])


def test_out_of_fold_predictions_of_sealed_rows_are_not_stored(tmp_path: Path) -> None:
    store, sealed = sealed_store(tmp_path)
    with pytest.raises(PredictionError, match="not training rows"):
        store.save_oof("m", sealed.ids, np.zeros(len(sealed.ids)), fold=None)


# ---- the record of looks --------------------------------------------------------


def test_looks_are_recorded_in_order(tmp_path: Path) -> None:
    record = LookRecord(tmp_path)
    assert record.read() == ()
    with record.turn():
        record.write([LOOK])
        record.write([*record.read(), replace(LOOK, blend="other")])
    assert [look.blend for look in LookRecord(tmp_path).read()] == ["blend", "other"]


def test_looks_of_many_threads_are_all_counted(tmp_path: Path) -> None:
    def look(number: int) -> None:
        record = LookRecord(tmp_path)
        with record.turn():
            record.write([*record.read(), replace(LOOK, rows=number)])

    threads = [threading.Thread(target=look, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(look.rows for look in LookRecord(tmp_path).read()) == list(range(12))


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}', '{"version": 1, "looks": [{"when": 1}]}'])
def test_a_record_that_was_edited_is_an_error_and_not_zero_looks(tmp_path: Path, text: str) -> None:
    (tmp_path / "looks.json").write_text(text)
    with pytest.raises(StoreError, match=r"record of looks.* [Rr]estore it"):
        LookRecord(tmp_path).read()


def test_the_count_includes_earlier_looks() -> None:
    earlier = replace(LOOK, sealed="b" * 32)
    assert count_looks([], LOOK.sealed) == "not looked at yet"
    assert count_looks([LOOK], LOOK.sealed) == "looked at once"
    assert count_looks([earlier, LOOK, LOOK], LOOK.sealed) == (
        "looked at 3 times, 1 of them before the folds were recreated"
    )
