"""Plots of the ledger."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from submissions.correlation import correlate
from submissions.finals.select import Candidate, LeaderboardSplit, select_pair
from submissions.finals.simulate import LabelledRows
from submissions.plots import plot_correlation, plot_history, plot_selection


def ink(path: Path) -> float:
    """Return the share of pixels that are not white."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return float((np.asarray(image.convert("L")) < 250).mean())


def test_the_cv_lb_plot_shows_points_line_and_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cv = [*rng.uniform(0.9, 0.95, 8).tolist(), 0.99, None]
    public = [*(0.98 * np.array(cv[:8])).tolist(), 0.8, 0.5]
    names = [f"$s{number}" for number in range(10)]  # a dollar must not begin a formula
    found = correlate(cv, public)
    assert len(found.outliers) == 1
    full = ink(plot_correlation(tmp_path / "a" / "found.png", names, cv, public, found))
    empty = ink(plot_correlation(tmp_path / "empty.png", [], [], [], correlate([], [])))
    assert 0 < empty < full


@pytest.mark.parametrize("count", [1, 40])
def test_a_history_has_a_point_for_each_score(tmp_path: Path, count: int) -> None:
    scores: list[float | None] = [0.9 + 0.001 * number for number in range(count)]
    with_public = ink(plot_history(tmp_path / "both.png", scores, [x and x - 0.05 for x in scores]))
    assert with_public > 0


def test_a_selection_shows_its_pairs(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    y = (rng.random(300) < 0.5).astype(np.int8)
    candidates = [Candidate(name, y + rng.normal(size=300), 0.75) for name in "abc"]
    selection = select_pair(candidates, LabelledRows(y), LeaderboardSplit(300, 0.3), draws=50, rng=rng)
    assert ink(plot_selection(tmp_path / "selection.png", selection)) > 0.01
