"""`dfens report` on a workspace with stores: the page, the JSON, and what is said where something is missing."""

import json
from pathlib import Path

import numpy as np
import pytest

from dfens.demo.competition import make_competition
from ensemble.blend_store import BlendStore
from ensemble.fit import fit_blend
from oof.folds import Folds
from oof.store import PredictionStore
from tests.support.commands import run


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo competition with two stored models and their blend."""
    folder = tmp_path_factory.mktemp("report")
    make_competition(folder, train_rows=60, test_rows=30, size=32)
    run(folder, "folds")
    store = PredictionStore(folder / "work" / "oof")
    folds: Folds = store.folds
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        oof = 1 / (1 + np.exp(-(folds.target * 2 - 1 + rng.normal(size=len(folds.ids)))))
        store.save(name, folds.ids, oof, rng.random(len(store.test_ids)))
    table = np.stack([store.load(name).oof for name in ("a", "b")], axis=1)
    result = fit_blend(table, folds.target, folds=folds.fold, names=["a", "b"])
    BlendStore(folder / "work" / "ensemble").save("both", result, folds.ids)
    return folder


def test_page_and_json_are_written_and_agree(workspace: Path) -> None:
    value = json.loads(run(workspace, "report", "--json").stdout)
    page = workspace / "work" / "reports" / "report.html"
    assert Path(value["page"]) == page
    assert json.loads(page.with_suffix(".json").read_text())["head"] == value["head"]
    assert value["head"]["blend"] == "both"
    assert {row["name"] for row in value["models"]["rows"]} == {"a", "b", "both", "share of positives"}
    text = page.read_text()
    assert text.count("data:image/jpeg") > 20  # thumbnails of real files
    assert f"{value['head']['nested_score']:.5f}" in text


def test_the_leak_audit_of_the_last_check_is_shown(workspace: Path) -> None:
    run(workspace, "check")
    value = json.loads(run(workspace, "report", "--json").stdout)
    assert "file size (kB)" in {row["name"] for row in value["clips"]["leaks"]}
    assert "file size (kB)" in (workspace / "work" / "reports" / "report.html").read_text()
    (workspace / "work" / "reports" / "check" / "leaks.json").write_text("{}")
    assert json.loads(run(workspace, "report", "--json").stdout)["clips"] is None


def test_a_page_of_ones_own_name(workspace: Path, tmp_path: Path) -> None:
    run(workspace, "report", "--out", str(tmp_path / "monday.html"))
    assert (tmp_path / "monday.html").exists()
    assert (tmp_path / "monday.json").exists()


def test_an_empty_workspace_is_told_what_to_run(tmp_path: Path) -> None:
    assert "Run dfens folds" in run(tmp_path, "report", code=1).output
