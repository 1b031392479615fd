"""Tests of oof.analysis.compare: paired gains on shared rows, corrected for their number, and the command's table."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.axes import Axes

from dfens.cli import cli
from oof.analysis.compare import compare_models, holm
from oof.errors import PredictionError
from oof.folds import make_folds
from oof.metrics import roc_auc
from oof.metrics.intervals import difference
from oof.store import PredictionStore
from trainers.analysis.plots import plot_gains


def make_store(root: Path, *, groups: bool = False, rows: int = 600) -> PredictionStore:
    """Models base, better (clearly), same (base with very little noise) and partial (only folds 0 and 1)."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, rows)
    ids = np.array([f"{row:04d}" for row in range(rows)], object)
    of = np.array([f"g{row // 4}" for row in range(rows)], object) if groups else None
    folds = make_folds(ids, y, k=3, seed=0, groups=of)
    store = PredictionStore(root / "work" / "oof")
    store.save_folds(folds)
    store.save_test_ids(np.array(["t0"], object))
    base = y + rng.normal(0, 1.2, rows)
    columns = {
        "base": base,
        "better": base + 0.7 * y,
        "same": base + rng.normal(0, 0.02, rows),
        "partial": base + 0.1 * y,
    }
    for name, values in columns.items():
        store.save_model(name, "linear", {})
        for fold in range(2 if name == "partial" else 3):
            inside = folds.rows(fold)
            store.save_oof(name, ids[inside], values[inside], fold=fold)
            store.save_test(name, store.test_ids, np.zeros(1), fold=fold)
    return store


def test_gains_are_differences_on_the_same_rows(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    found = compare_models(store, ["base", "better", "same"])
    y = store.folds.target
    base, better = store.load("base").oof, store.load("better").oof
    assert found.scores[0].score == pytest.approx(roc_auc(y, base))
    assert found.gains[0].gain == pytest.approx(roc_auc(y, better) - roc_auc(y, base))
    assert found.gains[0].verdict == "better"
    assert (found.gains[0].folds_better, found.gains[0].folds) == (3, 3)
    assert found.gains[0].low > 0
    assert found.gains[1].verdict == "no significant difference"
    assert found.gains[1].high - found.gains[1].low < found.scores[0].high - found.scores[0].low
    turned = compare_models(store, ["better", "base"])
    assert turned.gains[0].verdict == "worse"
    assert turned.gains[0].gain == pytest.approx(-found.gains[0].gain)


def test_a_partial_model_is_compared_only_on_its_rows(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    found = compare_models(store, ["base", "partial"])
    rows = store.folds.fold < 2
    assert found.rows == rows.sum()
    assert found.rows_left_out == (~rows).sum()
    assert found.scores[0].score == pytest.approx(roc_auc(store.folds.target[rows], store.load("base").oof[rows]))
    assert np.isnan(found.scores[0].by_fold[2])
    assert found.gains[0].folds == 2
    assert "200 of 600 rows are not predicted by all models" in found.notes[1]


def test_intervals_treat_groups_as_units(tmp_path: Path) -> None:
    store = make_store(tmp_path, groups=True)
    gain = compare_models(store, ["base", "better"]).gains[0]
    y, base, better = store.folds.target, store.load("base").oof, store.load("better").oof
    grouped = difference("auc", y, better, base, store.folds.groups)
    ungrouped = difference("auc", y, better, base)
    assert (gain.low, gain.high) == (grouped.low, grouped.high)
    assert (gain.low, gain.high) != (ungrouped.low, ungrouped.high)


def test_a_loss_gains_by_falling(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    good = np.where(store.folds.target == 1, 0.8, 0.2)
    for name, values in (("sure", good), ("unsure", np.full(600, 0.5))):
        store.save(name, store.folds.ids, values)
    found = compare_models(store, ["unsure", "sure"], metric="log_loss")
    assert found.gains[0].gain > 0
    assert found.gains[0].verdict == "better"
    assert found.gains[0].by_fold == pytest.approx((np.log(0.8) - np.log(0.5),) * 3)


def test_the_plot_shows_gains_of_single_folds_on_the_side_of_the_gain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a loss, a lower score is a gain, in the dots of the folds as well."""
    store = make_store(tmp_path)
    for name, values in (("sure", np.where(store.folds.target == 1, 0.8, 0.2)), ("unsure", np.full(600, 0.5))):
        store.save(name, store.folds.ids, values)
    drawn = []
    plot = Axes.plot

    def recorded(axes: Axes, *args: Any, **options: Any) -> Any:
        drawn.append(args)
        return plot(axes, *args, **options)

    monkeypatch.setattr(Axes, "plot", recorded)
    found = compare_models(store, ["unsure", "sure"], metric="log_loss")
    plot_gains(tmp_path / "gains.png", found)
    (dots,) = [args[0] for args in drawn if args[2:] == (".",)]
    assert len(dots) == 3
    assert min(dots) > 0


def test_holm_agrees_with_its_definition() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.random(6) ** 3
        adjusted = holm(p.tolist())
        for level in (0.01, 0.05, 0.2):
            rejected = []
            for rank, at in enumerate(np.argsort(p)):  # step down until a hypothesis is not rejected
                if p[at] > level / (6 - rank):
                    break
                rejected.append(at)
            assert set(rejected) == {at for at in range(6) if adjusted[at] <= level}
        assert all(adjusted[a] <= adjusted[b] for a, b in pairwise(np.argsort(p)))


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with pytest.raises(PredictionError, match="needs at least two different models; given: base"):
        compare_models(store, ["base"])
    with pytest.raises(PredictionError, match="different models; given: base, base"):
        compare_models(store, ["base", "base"])
    store.save_model("late", "linear", {})
    store.save_oof("late", store.folds.ids[store.folds.rows(2)], np.zeros(200), fold=2)
    with pytest.raises(PredictionError, match=r"Only 0 rows are predicted by all of these models .*late 200"):
        compare_models(store, ["partial", "late"])


def test_the_command_prints_tables_and_writes_a_plot(tmp_path: Path) -> None:
    make_store(tmp_path)
    (tmp_path / "dfens.toml").write_text('[data]\nlayout = "table"\n')
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "compare", "base", "better", "same"])
    assert result.exit_code == 0, result.output
    assert "no significant difference" in result.stdout
    picture = tmp_path / "work" / "reports" / "compare" / "base-vs-better-vs-same" / "gains.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "compare", "base", "better", "--json"])
    found = json.loads(result.stdout)
    assert found["gains"][0]["verdict"] == "better"
    assert found["metric"] == "auc"
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "compare", "base", "better", "--robustness"])
    assert result.exit_code == 1
    assert "dfens.toml has no [models.base]" in result.stderr
