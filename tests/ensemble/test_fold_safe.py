"""Pseudo-labels for a fold do not depend on its labels or on models that were trained on its rows."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ensemble.fit import fit_blend
from ensemble.fold_safe import predict_without_fold
from ensemble.settings import BlendSettings
from oof.errors import BlendError
from oof.metrics import roc_auc

K, ROWS, TEST, MODELS = 3, 330, 60, 2
Array = NDArray[np.float64]


def make_data(*, drift: float = 0.0) -> tuple[Array, NDArray[np.int8], NDArray[np.int16], Array, NDArray[np.int8]]:
    """OOF, labels, folds, test predictions by fold, and labels of the test rows."""
    rng = np.random.default_rng(5)
    y, truth = (np.arange(count) % 2 for count in (ROWS, TEST))
    fold = rng.permutation(np.arange(ROWS) % K).astype(np.int16)
    shift = drift * rng.normal(size=(K, MODELS))

    def predict(target: NDArray[np.int_], of_fold: NDArray[np.int16] | int) -> Array:
        signal = 2.0 * target[:, None] - 1 + rng.normal(0, 1.5, (len(target), MODELS))
        return np.asarray(1 / (1 + np.exp(-signal - shift[of_fold])))

    oof = predict(y, fold)
    test = np.stack([predict(truth, index) for index in range(K)])
    return oof, y.astype(np.int8), fold, test, truth.astype(np.int8)


@pytest.mark.parametrize("drift", [0.0, 3.0])
def test_no_label_of_a_fold_and_no_other_fold_model_reaches_its_pseudo_labels(drift: float) -> None:
    oof, y, fold, test, truth = make_data(drift=drift)
    found = predict_without_fold(oof, y, fold, test, BlendSettings())
    assert found.shape == (K, TEST)
    assert (found >= 0).all()
    assert (found <= 1).all()
    rng = np.random.default_rng(0)
    for index in (0, K - 1):
        rows = np.flatnonzero(fold == index)
        other_labels, other_tests = y.copy(), rng.uniform(size=test.shape)
        other_labels[rows] = 1 - y[rows]
        other_tests[index] = test[index]
        again = predict_without_fold(oof, other_labels, fold, other_tests, BlendSettings())
        np.testing.assert_array_equal(again[index], found[index])
        assert not np.array_equal(np.delete(again, index, 0), np.delete(found, index, 0))
    assert all(roc_auc(truth, labels) > 0.8 for labels in found)


def test_features_of_the_rows_of_a_fold_do_not_reach_its_pseudo_labels() -> None:
    oof, y, fold, test, truth = make_data()
    rng = np.random.default_rng(1)
    features = [(target + rng.normal(0, 0.4, len(target))).astype(np.float32)[:, None] for target in (y, truth)]
    settings = BlendSettings(methods=("boosted",))
    found = predict_without_fold(oof, y, fold, test, settings, features=(features[0], features[1]))
    without = max(roc_auc(truth, scores.mean(axis=1)) for scores in test)
    assert all(roc_auc(truth, labels) > without + 0.02 for labels in found)
    others = np.where((fold == 0)[:, None], rng.normal(size=(ROWS, 1)).astype(np.float32), features[0])
    again = predict_without_fold(oof, y, fold, test, settings, features=(others, features[1]))
    np.testing.assert_array_equal(again[0], found[0])
    assert not np.array_equal(again[1], found[1])


def test_labels_are_calibrated() -> None:
    oof, y, fold, _, _ = make_data()
    skewed = oof**4  # in the right order, but far too low
    test = np.broadcast_to(skewed[:TEST], (K, TEST, MODELS))
    found = predict_without_fold(skewed, y, fold, test, BlendSettings(transform="prob"))
    assert abs(found.mean() - y[:TEST].mean()) < 0.08


@pytest.mark.parametrize("folds", [2, 3])
def test_weights_can_be_fitted_on_one_or_two_other_folds(folds: int) -> None:
    oof, y, fold, test, _ = make_data()
    found = predict_without_fold(oof, y, (fold % folds).astype(np.int16), test[:folds], BlendSettings(optimize="none"))
    assert np.isfinite(found).all()


def test_labels_come_from_the_methods_of_the_blend() -> None:
    oof, y, fold, test, _ = make_data()
    settings = BlendSettings(methods=("ridge",))
    others = fold != 0
    alone = fit_blend(oof[others], y[others], folds=fold[others], calibrate="platt", methods=settings.methods)
    plain = predict_without_fold(oof, y, fold, test, BlendSettings())
    found = predict_without_fold(oof, y, fold, test, settings)
    np.testing.assert_allclose(found[0], alone.predict(test[0]), rtol=1e-6)
    assert not np.array_equal(found, plain)


def test_a_mean_over_fold_models_is_refused() -> None:
    oof, y, fold, test, _ = make_data()
    for mean in (test.mean(axis=0), test.mean(axis=0, keepdims=True)):
        with pytest.raises(BlendError, match="The models behind a mean have seen the rows of every fold"):
            predict_without_fold(oof, y, fold, mean, BlendSettings())
