"""The predictor of a blend: written to JSON and read back, its predictions are identical."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from ensemble.blend_store import BlendStore
from ensemble.calibration import calibrate, fit_calibrator
from ensemble.fit import fit_blend
from ensemble.predictor import predictor_from_json
from ensemble.result import BlendResult
from ensemble.summary import BlendSummary
from oof.errors import BlendError, StoreError
from oof.metrics import metric_by_name, roc_auc
from tests.support.ensemble import make_drifting, make_oof


def _results() -> dict[str, tuple[BlendResult, NDArray[np.floating]]]:
    oof, y = make_oof(500, 4)
    gaps = oof.copy()
    gaps[::7, 1] = np.nan
    moved, moved_y, folds, _ = make_drifting(2_000, spread=1.5)
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 300)
    chances = rng.dirichlet(np.ones(3), (300, 4))
    values = rng.normal(10, 3, 300)
    return {
        "binary": (fit_blend(oof, y), oof),
        "gaps": (fit_blend(gaps, y), gaps),
        "average": (fit_blend(oof, y, optimize="none", transform="geometric"), oof),
        "few members": (fit_blend(oof, y, max_members=2, calibrate="isotonic"), oof),
        "fold models": (fit_blend(moved, moved_y, folds=folds), np.stack([moved] * 4)),
        "classes": (fit_blend(chances, classes, optimize="log_loss"), chances),
        "values": (fit_blend(values[:, None] + rng.normal(size=(300, 4)), values, optimize="rmse"), chances[:, :, 0]),
    }


def test_a_predictor_read_back_predicts_the_same_bits(tmp_path: Path) -> None:
    store = BlendStore(tmp_path)
    for name, (result, rows) in _results().items():
        expected = result.predict(rows)
        written = json.loads(json.dumps(result.predictor.to_json(), allow_nan=False))
        blend_name = name.replace(" ", "-")
        if result.oof.ndim == 1:
            ids = np.array([f"r{row}" for row in range(len(result.oof))], object)
            store.save(blend_name, result, ids)
        for predictor in (
            predictor_from_json(written),
            *([store.load_predictor(blend_name)] if result.oof.ndim == 1 else []),
        ):
            if rows.ndim == result.oof.ndim + 2:
                parts = [predictor.predict(part, fold) for fold, part in enumerate(rows)]
                np.testing.assert_array_equal(sum(parts) / len(parts), expected, err_msg=name)
            else:
                np.testing.assert_array_equal(predictor.predict(rows), expected, err_msg=name)


def test_a_summary_read_back_is_the_same() -> None:
    oof, y = make_oof(400, 3)
    summary = fit_blend(oof, y, calibrate="platt").summary
    assert BlendSummary.from_json(json.loads(json.dumps(summary.to_json()))) == summary


def test_an_unknown_kind_of_predictor_is_named() -> None:
    with pytest.raises(StoreError, match="unknown kind 'magic'"):
        predictor_from_json({"kind": "magic"})


def test_means_over_fold_models_on_different_scales_match_the_nested_score() -> None:
    """The scale of a mean over fold models differs from that of each fold model."""
    oof, y, folds, shift = make_drifting(4_000, spread=1.5)
    result = fit_blend(oof, y, folds=folds)
    assert "one scale" in result.method
    new, new_y = make_oof(8_000, 4, noise=1.0)
    logits = np.log(new / (1 - new))
    by_fold = np.stack([1 / (1 + np.exp(-(logits + shift[fold]))) for fold in range(4)])
    mean = by_fold.mean(axis=0)
    apart = roc_auc(new_y, result.predict(by_fold))
    for test in (mean, mean[None]):
        assert roc_auc(new_y, result.predict(test)) == pytest.approx(apart, abs=0.004)
    mixed = by_fold.copy()
    mixed[:, :, :2] = mean[:, :2]  # the first two members are means
    averaged = np.array([True, True, False, False])
    assert roc_auc(new_y, result.predict(mixed, averaged=averaged)) == pytest.approx(apart, abs=0.004)
    assert roc_auc(new_y, result.predict(mixed, averaged=averaged)) > roc_auc(new_y, result.predict(mixed))
    with pytest.raises(BlendError, match="4 fold models to a common scale.*got test predictions of 3"):
        result.predict(by_fold[:3])


@pytest.mark.parametrize("method", ["platt", "beta", "isotonic"])
def test_calibration_lowers_the_nested_log_loss_of_overconfident_predictions(method: str) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.2, 4_000)
    y = (rng.random(4_000) < 1 / (1 + np.exp(-logits))).astype(np.int8)
    sharp = 1 / (1 + np.exp(-(3 * logits + 1)))
    fold = (np.arange(4_000) % 5).astype(np.int32)
    curve, nested, report = calibrate(method, sharp, y, fold)
    log_loss = metric_by_name("log_loss")
    assert report.log_loss == (log_loss(y, sharp), log_loss(y, nested))
    best = log_loss(y, 1 / (1 + np.exp(-logits)))
    assert report.log_loss[1] == pytest.approx(best, abs=0.01)
    assert report.log_loss[0] > best + 0.1
    assert report.calibration_error[1] < 0.03 < report.calibration_error[0]
    assert sum(item.rows for item in report.after) == 4_000
    grid = curve(np.linspace(0, 1, 1_001))
    assert (np.diff(grid) >= 0).all()
    assert 0 < grid.min() <= grid.max() < 1
    assert roc_auc(y, curve(sharp)) == pytest.approx(roc_auc(y, sharp), abs=0.006)


def test_the_labels_of_a_fold_do_not_reach_its_calibrated_predictions() -> None:
    rng = np.random.default_rng(1)
    scores, y = rng.random(300), (np.arange(300) % 2).astype(np.int8)
    fold = (np.arange(300) % 3).astype(np.int32)
    turned = np.where(fold == 1, 1 - y, y)
    for method in ("platt", "beta", "isotonic"):
        before, after = calibrate(method, scores, y, fold)[1], calibrate(method, scores, turned, fold)[1]
        np.testing.assert_array_equal(before[fold == 1], after[fold == 1])


@pytest.mark.parametrize("method", ["platt", "beta", "isotonic"])
def test_calibration_leaves_the_nested_auc_of_uneven_folds(method: str) -> None:
    """Curves fitted without a fold of many positives are lower: unlevelled, the AUC fell from 0.85 to 0.78."""
    rng = np.random.default_rng(0)
    fold = rng.integers(0, 5, 1_500).astype(np.int32)
    y = (rng.random(1_500) < np.array([0.02, 0.2, 0.5, 0.8, 0.98])[fold]).astype(np.int8)
    scores = 1 / (1 + np.exp(-(rng.normal(size=1_500) + 1.5 * y - 0.75)))
    _, levelled, report = calibrate(method, scores, y, fold, level=True)
    assert roc_auc(y, levelled) == pytest.approx(roc_auc(y, scores), abs=0.005)
    _, plain, same = calibrate(method, scores, y, fold)
    assert roc_auc(y, plain) < roc_auc(y, scores) - 0.05
    assert same == report
    oof = np.stack([scores, 1 / (1 + np.exp(-(rng.normal(size=1_500) + y)))], axis=1)
    blend, calibrated = (fit_blend(oof, y, folds=fold, calibrate=name) for name in ("none", method))
    assert calibrated.nested_score == pytest.approx(blend.nested_score, abs=0.005)


def test_platt_scaling_agrees_with_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(2)
    p = rng.random(20_000)
    y = (rng.random(20_000) < p**2).astype(np.int8)
    logit = np.log(p / (1 - p))[:, None]
    expected = LogisticRegression(C=1e9, tol=1e-8).fit(logit, y)
    found = fit_calibrator("platt", p, y).coefficients
    assert found == pytest.approx((expected.coef_[0, 0], expected.intercept_[0]), rel=1e-3)


def test_calibrated_blends_keep_their_order_and_refuse_scores() -> None:
    oof, y = make_oof(1_000, 3)
    plain, calibrated = fit_blend(oof, y), fit_blend(oof, y, calibrate="platt")
    assert calibrated.calibration is not None
    assert plain.calibration is None
    np.testing.assert_array_equal(np.argsort(plain.oof), np.argsort(calibrated.oof))
    np.testing.assert_allclose(calibrated.predict(oof), calibrated.oof, atol=1e-6)
    with pytest.raises(BlendError, match=r"calibrate = 'platt' needs predictions in \[0, 1\]"):
        fit_blend(20 * oof, y, optimize="none", calibrate="platt")
    with pytest.raises(BlendError, match="calibrate = 'temperature' is unknown"):
        fit_blend(oof, y, calibrate="temperature")


def test_distributions_are_stored_as_a_table(tmp_path: Path) -> None:
    oof, y = make_oof(300, 2)
    BlendStore(tmp_path).save("b", fit_blend(oof, y, names=["x", "y"]), np.array([str(i) for i in range(300)], object))
    table = pd.read_parquet(tmp_path / "b" / "distributions.parquet")
    assert list(table.columns) == ["fold", "model", "knot", "cdf"]
    assert set(table["model"]) == {"x", "y"}
