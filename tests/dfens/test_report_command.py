"""`dfens report` on a workspace with stores: the page, the JSON, and messages about missing inputs."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dfens.demo.competition import make_competition
from dfens.workflows.report import load_inputs
from dfens.workspace.paths import Workspace
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


def test_results_for_other_labels_count_as_unknown(workspace: Path, tmp_path: Path) -> None:
    """The order of rows is not content; labels are."""
    workspace = Path(shutil.copytree(workspace, tmp_path / "copy"))

    def outcomes() -> dict[str, str]:
        found = json.loads(run(workspace, "report", "--json").stdout)["checks"]
        return {check["name"]: check["sentence"] for check in found}

    run(workspace, "check")
    run(workspace, "groups")
    before = outcomes()
    assert "linear baseline has AUC" in before["Random or grouped folds"]
    assert "near-duplicate" in before["Duplicates across folds"]
    assert "properties of the files" in before["Leaks"] or "AUC" in before["Leaks"]
    labels = workspace / "data" / "train.csv"
    table = pd.read_csv(labels)
    table[::-1].to_csv(labels, index=False)
    run(workspace, "folds", "--force")
    assert outcomes() == before
    table.assign(target=1 - table["target"]).to_csv(labels, index=False)
    run(workspace, "folds", "--force")
    after = outcomes()
    assert "linear baseline has AUC" not in after["Random or grouped folds"]
    assert after["Duplicates across folds"] == "Near-duplicates were not searched for yet. Run dfens groups."
    assert after["Leaks"] == "The files were not audited yet. Run dfens check --leaks."


def test_the_name_of_the_page_can_be_chosen(workspace: Path, tmp_path: Path) -> None:
    run(workspace, "report", "--out", str(tmp_path / "monday.html"))
    assert (tmp_path / "monday.html").exists()
    assert (tmp_path / "monday.json").exists()


def test_a_folder_without_a_project_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    assert "Run dfens init" in run(tmp_path, "report", code=1).output
    assert list(tmp_path.iterdir()) == []


def page_of(folder: Path) -> str:
    """The page of a workspace, after `dfens report` ended without an error."""
    run(folder, "report")
    return (folder / "work" / "reports" / "report.html").read_text()


@pytest.fixture
def copy(workspace: Path, tmp_path: Path) -> Path:
    """A copy of the workspace that a test can damage."""
    return Path(shutil.copytree(workspace, tmp_path / "copy"))


def test_an_empty_project_gets_a_page(tmp_path: Path) -> None:
    make_competition(tmp_path, train_rows=20, test_rows=10, size=32)
    page = page_of(tmp_path)
    assert "There are no folds yet. Run dfens check, then dfens folds." in page
    assert "dfens check, then dfens folds</code>" in page
    facts = json.loads((tmp_path / "work" / "reports" / "report.json").read_text())
    assert "fail" not in {check["outcome"] for check in facts["checks"]}


def test_the_page_of_imported_predictions_names_another_command_next(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        values = [f"r{row},{row % 2},{row % 3},{row % 2 + rng.random():.4f}" for row in range(60)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,target,fold,pred", *values]))
    run(tmp_path, "oof", "import", "a.csv", "b.csv")
    run(tmp_path, "blend", "--optimize", "none")
    head = json.loads(run(tmp_path, "report", "--json").stdout)["head"]
    assert head["next_command"] == "dfens oof diversity --leave-one-out"


def test_missing_images_are_named_in_their_place(copy: Path) -> None:
    (copy / "data").rename(copy / "elsewhere")
    page = page_of(copy)
    assert page.count("file not found") > 20
    assert "data:image/jpeg" not in page


def test_single_broken_and_missing_images_do_not_affect_the_others(copy: Path) -> None:
    files = sorted((copy / "data" / "train").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:100])
    files[1].unlink()
    page = page_of(copy)
    assert page.count("data:image/jpeg") > 20


def test_a_blend_with_missing_members_is_reported(copy: Path) -> None:
    shutil.rmtree(copy / "work" / "oof" / "models" / "a")
    page = page_of(copy)
    assert "&#39;both&#39; was made from predictions or features that have changed since (&#39;a&#39;)" in page
    assert 'Run dfens blend <span class="unbroken">--name</span> both.' in page


def test_one_fold_only_and_rows_without_predictions(copy: Path) -> None:
    store = PredictionStore(copy / "work" / "oof")
    for name in ("a", "b"):
        shutil.rmtree(store.root / "models" / name)
    shutil.rmtree(copy / "work" / "ensemble")
    ids = store.folds.ids[store.folds.rows(0)]
    store.save_oof("a", ids, np.linspace(0, 1, len(ids)), fold=0)
    oof = np.where(np.arange(len(store.folds.ids)) % 2, 0.5, np.nan)
    known = np.isfinite(oof)
    store.save("half", store.folds.ids[known], oof[known], None)
    page = page_of(copy)
    assert "&#39;a&#39; and &#39;half&#39; lack predictions for some training rows" in page
    assert "&#39;a&#39; and &#39;half&#39; have no test predictions" in page
    assert not re.search(r">\s*nan\b", page)


@pytest.mark.parametrize("file", ["dfens.toml", "work/oof/models/a/model.json", "work/ensemble/both/blend.json"])
def test_a_broken_file_is_named_on_the_page(copy: Path, file: str) -> None:
    (copy / file).write_text("{ this is neither JSON nor TOML")
    page = page_of(copy)
    assert Path(file).name in page
    assert 'class="fail"' in page


def test_medals_come_from_the_leaderboard_that_was_fetched(copy: Path) -> None:
    teams = "TeamName,Score\n" + "".join(f"team {rank},{1 - rank / 100}\n" for rank in range(1, 21))
    (copy / "work" / "submissions").mkdir(exist_ok=True)
    (copy / "work" / "submissions" / "leaderboard.zip").write_text(teams)
    medals = load_inputs(Workspace(copy)).medals
    assert [(name, round(score, 2)) for name, score in medals] == [("gold", 0.98), ("silver", 0.96), ("bronze", 0.92)]
    (copy / "work" / "submissions" / "leaderboard.zip").write_text("no leaderboard")
    assert "leaderboard.zip is not a leaderboard" in page_of(copy)


def test_groups_are_measured_once_and_shown(copy: Path) -> None:
    first, second = sorted((copy / "data" / "train").iterdir())[:2]
    shutil.copy(first, second)  # a duplicate
    run(copy, "groups", "--threads", "1")
    checks = {check["name"]: check for check in json.loads(run(copy, "report", "--json").stdout)["checks"]}
    assert "linear baseline has AUC" in checks["Random or grouped folds"]["sentence"]
    assert checks["Duplicates across folds"]["outcome"] in ("pass", "warn")
    assert "of near-duplicate images" in checks["Duplicates across folds"]["sentence"]
