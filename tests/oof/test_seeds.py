"""Several trainings as one model: seeds are averaged as logits, and a refit is mapped to the scale of each fold."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit

from oof.averaging import mean_of_logits, on_scale_of
from oof.errors import PredictionError, StoreError
from oof.folds import make_folds
from oof.part_files import PartKey
from oof.sealed import SealedRows
from oof.store import PredictionStore

N, K, N_TEST = 40, 4, 30


@pytest.fixture
def store(tmp_path: Path) -> PredictionStore:
    store = PredictionStore(tmp_path / "oof")
    ids = np.array([f"{i:05d}" for i in range(N)], dtype=object)
    store.save_folds(make_folds(ids, np.arange(N) % 2, k=K, seed=0))
    store.save_test_ids(np.array([f"t{i}" for i in range(N_TEST)], dtype=object))
    return store


def test_model_json_is_not_missed_silently_if_it_says_what_is_averaged(store: PredictionStore) -> None:
    fill(store, 0)
    store.save_model("m", "timm", {})
    (store.model_dir("m") / "model.json").unlink()
    assert store.load("m").seeds == store.summary("m").seeds == 1
    fill(store, 1)
    for read in (store.load, store.summary, store.load_sealed):
        with pytest.raises(StoreError, match=r"m/model.json is missing.* run dfens train --model m"):
            read("m")
    assert store.has("m", "oof", 0, seed=1)  # so dfens train skips it, and writes model.json again


def drawn(*key: int, rows: int) -> NDArray[np.float32]:
    return np.random.default_rng(key).uniform(0.01, 0.99, rows).astype(np.float32)


def fill(store: PredictionStore, seed: int, folds: range = range(K)) -> None:
    for fold in folds:
        rows = store.folds.rows(fold)
        store.save_oof("m", store.folds.ids[rows], drawn(seed, fold, 0, rows=len(rows)), fold=fold, seed=seed)
        store.save_test("m", store.test_ids, drawn(seed, fold, 1, rows=N_TEST), fold=fold, seed=seed)


def save_refit(store: PredictionStore, seed: int = 0) -> NDArray[np.float32]:
    values = drawn(seed, 9, rows=N_TEST) ** 3  # on a different scale from the folds
    store.save_test("m", store.test_ids, values, fold=store.folds.refit, seed=seed)
    return values


def test_the_mean_of_logits_equals_its_definition() -> None:
    parts = np.stack([drawn(seed, rows=50) for seed in range(3)])
    np.testing.assert_allclose(mean_of_logits(parts), expit(logit(parts.astype(float)).mean(axis=0)), rtol=1e-6)
    np.testing.assert_array_equal(mean_of_logits(parts[:1]), parts[0])
    np.testing.assert_allclose(mean_of_logits(1 - parts), 1 - mean_of_logits(parts), atol=1e-6)
    weights = np.array([0.5, 0.25, 0.25])
    repeated = mean_of_logits(np.concatenate([parts[:1], parts]))
    np.testing.assert_allclose(mean_of_logits(parts, weights), repeated, rtol=1e-6)


def test_probabilities_of_0_and_1_have_finite_logits() -> None:
    sure = mean_of_logits(np.array([[0.0, 1.0], [0.5, 1.0]]))
    assert np.isfinite(sure).all()
    assert 0 < sure[0] < 0.001
    assert sure[1] > 0.999


def test_values_that_are_not_probabilities_are_refused() -> None:
    with pytest.raises(PredictionError, match="from -1 to 3 are not probabilities"):
        mean_of_logits(np.array([[0.5, 3.0], [0.5, -1.0]]))


def test_mapping_to_a_scale_keeps_the_order_and_adopts_the_distribution() -> None:
    values, reference = drawn(0, rows=99) ** 5, drawn(1, rows=99)
    found = on_scale_of(values, reference)
    np.testing.assert_array_equal(np.sort(found), np.sort(reference))
    np.testing.assert_array_equal(np.argsort(found), np.argsort(values))
    tied = on_scale_of(np.array([1.0, 0.0, 1.0]), np.array([0.2, 0.4, 0.6]))
    np.testing.assert_allclose(tied, [0.5, 0.2, 0.5])


def test_seeds_are_averaged_and_stored_separately(store: PredictionStore) -> None:
    for seed in range(3):
        fill(store, seed)
    store.save_model("m", "timm", {})
    first = store.load("m")
    np.testing.assert_array_equal(first.oof, store.load("m", seed=0).oof)
    store.save_model("m", "timm", {}, seeds=3)
    found = PredictionStore(store.root).load("m")
    apart = [store.load("m", seed=seed) for seed in range(3)]
    np.testing.assert_array_equal(found.oof, mean_of_logits(np.stack([model.oof for model in apart])))
    tests = [model.test_by_fold for model in apart]
    assert found.test_by_fold is not None
    for fold in range(K):
        expected = mean_of_logits(np.stack([test[fold] for test in tests if test is not None]))
        np.testing.assert_array_equal(found.test_by_fold[fold], expected)
    assert (found.seeds, store.summary("m").complete) == (3, True)
    store.save_model("m", "timm", {}, seeds=2)
    expected = mean_of_logits(np.stack([model.oof for model in apart[:2]]))
    np.testing.assert_array_equal(store.load("m").oof, expected)


def test_a_fold_is_missing_until_each_seed_has_predicted_it(store: PredictionStore) -> None:
    fill(store, 0)
    fill(store, 1, range(2))
    store.save_model("m", "timm", {}, seeds=2)
    summary = store.summary("m")
    assert (summary.oof_folds, summary.test_folds, summary.complete) == ((0, 1), (0, 1), False)
    missing = np.isin(store.folds.fold, (2, 3))
    np.testing.assert_array_equal(np.isnan(store.load("m").oof), missing)
    assert PartKey("fold1", 1) in store.trainings("m")
    assert PartKey("fold2", 1) not in store.trainings("m")


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_a_refit_is_averaged_on_the_scale_of_each_fold(store: PredictionStore, weight: float) -> None:
    fill(store, 0)
    store.save_model("m", "timm", {}, refit_weight=weight)
    assert store.summary("m").lacks_refit
    assert not store.summary("m").complete
    folds_alone = store.load("m")
    refit = save_refit(store)
    found = store.load("m")
    assert store.summary("m").complete
    np.testing.assert_array_equal(found.oof, folds_alone.oof)
    assert found.test_by_fold is not None
    assert found.unmixed_test_by_fold is not None
    assert folds_alone.test_by_fold is not None
    np.testing.assert_array_equal(found.unmixed_test_by_fold, folds_alone.test_by_fold)
    for mixed, fold in zip(found.test_by_fold, folds_alone.test_by_fold, strict=True):
        scaled = np.sort(fold)[refit.argsort().argsort()]
        expected = expit((1 - weight) * logit(fold.astype(float)) + weight * logit(scaled.astype(float)))
        np.testing.assert_allclose(mixed, expected, rtol=1e-5)
    assert (found.refit_weight, store.load("m", seed=0).refit_weight) == (weight, 0)


def test_a_refit_counts_only_once_all_seeds_have_one(store: PredictionStore) -> None:
    for seed in range(2):
        fill(store, seed)
    store.save_model("m", "timm", {}, seeds=2, refit_weight=0.5)
    save_refit(store, 1)
    found = store.load("m")
    np.testing.assert_array_equal(found.test_by_fold, found.unmixed_test_by_fold)
    assert not store.summary("m").complete
    save_refit(store, 0)
    assert store.summary("m").complete
    mixed = store.load("m").test_by_fold
    assert mixed is not None
    assert found.test_by_fold is not None
    assert not np.array_equal(mixed, found.test_by_fold)


def test_a_model_of_one_training_is_written_in_format_version_1(store: PredictionStore) -> None:
    fill(store, 0)
    store.save_model("m", "timm", {"a": 1})
    path = store.model_dir("m") / "model.json"
    assert json.loads(path.read_text()) == {"version": 1, "name": "m", "kind": "timm", "details": {"a": 1}}
    store.save_model("m", "timm", {"a": 1}, seeds=2)
    assert json.loads(path.read_text())["version"] == 2


def test_a_file_under_the_name_of_another_seed_is_refused(store: PredictionStore) -> None:
    fill(store, 0)
    fill(store, 1)
    folder = store.model_dir("m")
    (folder / "oof.fold0.seed1.parquet").replace(folder / "oof.fold0.parquet")
    store.save_model("m", "timm", {})
    with pytest.raises(StoreError, match="contains predictions of fold 0, seed 1, which does not match its name"):
        store.load("m")


def test_a_change_of_test_ids_also_archives_a_refit(store: PredictionStore) -> None:
    fill(store, 0)
    store.save_model("m", "timm", {}, refit_weight=0.5)
    save_refit(store)
    store.save_test_ids(store.test_ids[:5])
    assert not store.has("m", "test", store.folds.refit)
    assert store.summary("m").lacks_refit


def test_sealed_rows_are_predicted_like_test_rows(store: PredictionStore, tmp_path: Path) -> None:
    """Seeds and refit have the same weights, so that the score on sealed rows is that of the submitted model."""
    sealed = SealedRows(np.array(["s0", "s1", "s2", "s3"], object), np.array([0, 1, 0, 1], np.int8))
    other = PredictionStore(tmp_path / "sealed")
    other.save_folds(dataclasses.replace(store.folds, how={"sealed": 0.1}), sealed=sealed)
    other.save_test_ids(sealed.ids)  # the same number of rows, so that both parts can be compared
    for seed in range(2):
        fill_predicted(other, seed)
    other.save_model("m", "timm", {}, seeds=2, refit_weight=0.4)
    found = other.load("m")
    np.testing.assert_array_equal(other.load_sealed("m"), found.test_by_fold)
    assert found.test_by_fold is not None
    assert found.unmixed_test_by_fold is not None
    assert not np.array_equal(found.test_by_fold, found.unmixed_test_by_fold)


def fill_predicted(store: PredictionStore, seed: int) -> None:
    """Store equal predictions of test and sealed rows by each fold model and the refit, and OOF predictions."""
    for fold in range(K + 1):
        values = drawn(seed, fold, 1, rows=len(store.test_ids))
        store.save_predicted("m", np.concatenate([values, values]), fold=fold, seed=seed)
        if fold < K:
            rows = store.folds.rows(fold)
            store.save_oof("m", store.folds.ids[rows], drawn(seed, fold, 0, rows=len(rows)), fold=fold, seed=seed)
