"""A blend in a notebook: both scores with their labels, every member, and names as text."""

import numpy as np

from ensemble.fit import fit_blend


def test_a_notebook_shows_both_scores_and_all_members() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    oof = y[:, None] + rng.normal(size=(200, 2))
    result = fit_blend(oof, y, folds=np.arange(200) % 5, names=["<b>a</b>", "b"])
    page = result._repr_html_()
    assert f"{result.nested_score:.5f}</b>" in page
    assert f"{result.score:.5f} on the rows that the weights were fitted on" in page
    assert "&lt;b&gt;a&lt;/b&gt;" in page
    assert "<b>a</b>" not in page
    for weight in result.weights:
        assert f"{100 * weight:.1f} %".replace("-", "−") in page


def test_a_notebook_shows_gains_calibration_and_the_spread_of_weights() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(600) % 2
    oof = 1 / (1 + np.exp(-(2 * y[:, None] - 1 + rng.normal(size=(600, 3)))))
    result = fit_blend(oof, y, folds=np.arange(600) % 5, calibrate="platt")
    page = result._repr_html_()
    assert result.calibration is not None
    for value in result.calibration.log_loss:
        assert f"{value:.4f}" in page
    for comparison in result.comparisons:
        assert f"{comparison.gain:+.5f}".replace("-", "−") in page
    assert result.fold_weights is not None
    low, high = result.fold_weights[:, 0].min(), result.fold_weights[:, 0].max()
    assert f"{100 * low:.1f} % to {100 * high:.1f} %".replace("-", "−") in page


def test_a_blend_of_one_member_is_compared_with_nothing() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    page = fit_blend(y[:, None] + rng.normal(size=(200, 1)), y, folds=np.arange(200) % 5)._repr_html_()
    assert "100.0 %" in page
    assert "compared with" not in page
    assert "significant" not in page
