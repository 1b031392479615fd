"""Fold models on different scales are detected and aligned; others are left unchanged."""

import numpy as np
import pytest

from ensemble.align import drift
from ensemble.fit import fit_blend
from ensemble.prepare import BlendData, binary_table
from oof.metrics import roc_auc
from tests.support.ensemble import make_drifting, make_oof


def test_drift_is_about_one_without_any() -> None:
    oof, y = make_oof(4_000, 4)
    folds = (np.arange(4_000) % 4).astype(np.int32)
    names = tuple("abcd")
    assert 0.4 < drift(binary_table(BlendData(oof, y, folds, None, names, 0, own_folds=True))) < 1.7
    drifting, y, folds_of, _ = make_drifting(4_000, spread=1.0)
    data = BlendData(drifting, y, folds_of.astype(np.int32), None, names, 0, own_folds=True)
    assert drift(binary_table(data)) > 5


def test_fold_models_on_different_scales_are_aligned() -> None:
    oof, y, folds, shift = make_drifting(4_000, spread=1.0)
    aligned = fit_blend(oof, y, folds=folds)
    assert aligned.method.endswith("fold models mapped to one scale")
    unknown = fit_blend(oof, y)  # generated folds do not say which model predicted a row
    assert "one scale" not in unknown.method
    assert aligned.nested_score > unknown.nested_score + 0.001

    new, new_y = make_oof(4_000, 4, noise=1.0, seed=0)
    logits = np.log(new / (1 - new))
    by_fold = np.stack([1 / (1 + np.exp(-(logits + shift[fold]))) for fold in range(4)])
    assert roc_auc(new_y, aligned.predict(by_fold)) == pytest.approx(aligned.nested_score, abs=0.01)
    one = [roc_auc(new_y, aligned.predictor.predict(by_fold[fold], fold)) for fold in range(4)]
    assert max(one) - min(one) < 0.004  # all fold models are equally good
    stored = aligned.predictor.to_json()["distributions"]
    assert sorted({item["fold"] for item in stored}) == [-1, 0, 1, 2, 3]


def test_models_that_do_not_drift_are_not_changed() -> None:
    oof, y = make_oof(3_000, 4)
    folds = np.arange(3_000) % 4
    assert "one scale" not in fit_blend(oof, y, folds=folds).method
