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
    assert f"{result.score:.5f} on the rows that they were fitted on" in page
    assert "&lt;b&gt;a&lt;/b&gt;" in page
    assert "<b>a</b>" not in page
    for weight in result.weights:
        assert f"{weight:.1%}" in page
