"""`dfens submissions`: list, show, diff, select, rebuild on a workspace with blends and a filled ledger."""

import dataclasses
import json
import shutil
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from dfens.cli import cli
from dfens.workflows.finals import current_finals
from dfens.workflows.ledger import open_ledger, read_entries, sample_submission, table_of
from dfens.workflows.provenance import read_recipe
from dfens.workflows.stored_results import read_finals
from dfens.workspace.paths import Workspace
from oof.metrics import roc_auc
from submissions.entry import Entry
from submissions.ledger import new_key
from submissions.table import build_table
from tests.support.commands import run
from tests.support.ensemble import CONFIG, make_workspace

BLENDS = {"all": "m0,m1,m2,m3", "pair": "m0,m1", "other": "m2,m3"}  # only the last two certainly differ
PUBLIC = {"all": 0.951, "pair": 0.93, "other": 0.94, "m0": 0.90}


def submissions(folder: Path, *arguments: str, code: int = 0) -> Result:
    return run(folder, "submissions", *arguments, code=code)


def add_entries(folder: Path) -> None:
    """Write a ledger as `dfens submit` and `sync` would: three blends, a model, one from the web page, one failed."""
    app = Workspace(folder)
    ledger = open_ledger(app)
    sample = folder / "data" / "sample_submission.csv"
    first = datetime(2026, 11, 20, tzinfo=UTC)
    for place, (name, public) in enumerate(PUBLIC.items()):
        recipe = read_recipe(app, name)
        table = build_table(sample, recipe.ids, recipe.predictions)
        path = Path("work") / "submissions" / f"{name}.csv"
        table.write(folder / path)
        when = first + timedelta(hours=place)
        ledger.add(
            Entry(
                key=new_key(),
                created=when,
                updated=when,
                competition="tiny",
                status="complete",
                file_name=path.name,
                path=str(path),
                sha256=table.sha256,
                rows=table.rows,
                blend=name,
                score=recipe.score,
                nested_score=recipe.nested_score,
                provenance=recipe.facts,
                ref=1000 + place,
                submitted=when,
                public_score=public,
                message=f"try {name}",
            )
        )
    later = first + timedelta(days=1)
    common = {"created": later, "updated": later, "competition": "tiny"}
    ledger.add(
        Entry(
            key=new_key(),
            status="complete",
            origin="elsewhere",
            file_name="web.csv",
            ref=2000,
            public_score=0.92,
            **common,  # type: ignore[arg-type]
        )
    )
    ledger.add(Entry(key=new_key(), status="failed", file_name="x.csv", error="400", **common))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ledger")
    store, _, _ = make_workspace(folder, rows=400, models=4)
    (folder / "data").mkdir()
    rows = "".join(f"{name},0\r\n" for name in store.test_ids)
    (folder / "data" / "sample_submission.csv").write_bytes(f"id,target\r\n{rows}".encode())
    for name, members in BLENDS.items():
        run(folder, "blend", "--name", name, "--members", members)
    add_entries(folder)
    return folder


def test_list_shows_cv_public_score_and_their_correlation(workspace: Path) -> None:
    found = submissions(workspace, "list")
    for text in ("1000", "2000", "OOF auc", "nested auc", "0.95100", "complete", "failed", "web.csv"):
        assert text in found.stdout
    assert "CV and public score of 4 submissions: rank correlation" in found.stdout
    value = json.loads(submissions(workspace, "list", "--json").stdout)
    assert len(value["submissions"]) == 6
    assert value["cv_lb_correlation"]["count"] == 4
    assert value["submissions"][0]["provenance"]["members"]["m0"]["fingerprint"]


def test_list_plots_on_request(workspace: Path) -> None:
    found = submissions(workspace, "list", "--plot")
    for name in ("cv_and_public.png", "history.png"):
        path = workspace / "work" / "submissions" / name
        assert str(path) in found.stdout
        assert path.read_bytes().startswith(b"\x89PNG")


def test_an_empty_ledger_shows_the_next_step(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    assert "No submissions yet. Run dfens submit" in submissions(tmp_path, "list").stdout


def test_show_names_members_with_weights_and_hashes(workspace: Path) -> None:
    found = submissions(workspace, "show", "1001")
    value = json.loads(submissions(workspace, "show", "pair", "--json").stdout)
    assert value["ref"] == 1001
    for name, facts in value["provenance"]["members"].items():
        assert name in found.stdout
        assert facts["fingerprint"][:16] in found.stdout
    assert "try pair" in found.stdout
    wrong = submissions(workspace, "show", "999", code=1)
    assert "no submission '999'; it has" in wrong.stderr
    assert "1000" in wrong.stderr


def test_diff_compares_refs_names_and_files(workspace: Path) -> None:
    found = submissions(workspace, "diff", "1002", "pair", "--moves", "3")
    assert "50 rows; rank correlation" in found.stdout
    assert "Pairs in opposite order" in found.stdout
    assert "Largest moves" in found.stdout
    value = json.loads(submissions(workspace, "diff", "1000", "work/submissions/all.csv", "--json").stdout)
    assert value["swapped_pairs"] == 0
    assert value["moves"] == []
    other = json.loads(submissions(workspace, "diff", "other", "pair", "--json").stdout)
    assert other["if_first_is_true"][0] > other["if_first_is_true"][1]
    lost = submissions(workspace, "diff", "1000", "2000", code=1)
    assert "was not made from a stored blend or model (source: elsewhere), and there is no copy" in lost.stderr


def test_select_recommends_a_pair_and_prints_the_link(workspace: Path) -> None:
    arguments = ("select", "--public-share", "0.4", "--draws", "200")
    found = submissions(workspace, *arguments, "--plot")
    assert "Recommended: " in found.stdout
    assert "https://www.kaggle.com/competitions/tiny/submissions" in found.stdout
    assert "Left out: 2000 web.csv (public 0.92000; its OOF predictions are not stored)." in found.stderr
    assert (workspace / "work" / "submissions" / "finals.png").exists()
    value = json.loads(submissions(workspace, *arguments, "--json").stdout)
    count = len(value["candidates"])
    assert len(value["pairs"]) == count * (count - 1) // 2
    assert {item["name"] for item in value["candidates"]} >= {"1000 all", "1002 other", "1003 m0"}
    expected = [pair["expected"] for pair in value["pairs"]]
    assert expected == sorted(expected, reverse=True)
    assert value["best"] == value["pairs"][0]
    assert value["best"]["error"] > 0
    again = json.loads(submissions(workspace, *arguments, "--json").stdout)
    assert again == value
    config = (workspace / "dfens.toml").read_text()
    (workspace / "dfens.toml").write_text(config + "[submissions]\npublic_share = 0.4\n")
    assert json.loads(submissions(workspace, "select", "--draws", "200", "--json").stdout) == value
    (workspace / "dfens.toml").write_text(config)


def test_a_pair_simulated_with_other_labels_folds_or_metric_counts_as_unknown(workspace: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(workspace, tmp_path / "copy"))

    def reason() -> str:
        found = json.loads(run(copy, "report", "--json").stdout)["submissions"]["finals_reason"]
        return str(found)

    submissions(copy, "select", "--draws", "100")
    assert reason().startswith("Simulated by dfens submissions select over")
    assert "have changed since" not in reason()  # the submission that was left out is not a new one
    config = copy / "dfens.toml"
    config.write_text(CONFIG.replace("[data]", 'metric = "log_loss"\n[data]'))
    assert "Simulated" not in reason()
    config.write_text(CONFIG)
    store = Workspace(copy).predictions
    folds = store.folds
    flipped, moved = 1 - folds.target, (folds.fold + 1) % folds.k
    for other in (dataclasses.replace(folds, target=flipped), dataclasses.replace(folds, fold=moved)):
        store.save_folds(other, force=True)
        assert read_finals(Workspace(copy)) is None
        store.save_folds(folds, force=True)
    assert read_finals(Workspace(copy)) is not None
    ledger = open_ledger(Workspace(copy))
    ledger.update(ledger.get(1003).key, public_score=0.6)
    assert "have changed since: 1. Run dfens submissions select again." in reason()


def test_a_truncated_upload_is_ignored_in_the_fit_and_the_finals(workspace: Path) -> None:
    ledger = open_ledger(Workspace(workspace))
    cut = ledger.update(
        ledger.get(1001).key, error="Kaggle has 3 of the 9 bytes that were sent: the upload was truncated."
    )
    try:
        listed = submissions(workspace, "list").stdout
        assert "CV and public score of 3 submissions" in listed
        assert "1001 pair (complete): Kaggle has 3 of the 9 bytes" in listed
        chosen = submissions(workspace, "select", "--draws", "100", "--json")
        assert "1001 pair" not in {item["name"] for item in json.loads(chosen.stdout)["candidates"]}
        assert "Left out: 1001 pair. Kaggle has 3 of the 9 bytes" in chosen.stderr
    finally:
        ledger.update(cut.key, error="")


def test_select_needs_two_scored_candidates(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    found = submissions(tmp_path, "select", code=1)
    assert "needs at least two scored submissions with OOF predictions in the store; there are none" in found.stderr


def test_rebuild_gives_the_same_bytes(workspace: Path) -> None:
    for name, ref in (("all", "1000"), ("m0", "1003")):
        value = json.loads(submissions(workspace, "rebuild", ref, "--json").stdout)
        kept = workspace / "work" / "submissions" / f"{name}.csv"
        assert Path(value["path"]).read_bytes() == kept.read_bytes()
        assert value["source"] == (f"blend '{name}'" if name == "all" else f"model '{name}'")
    ledger = open_ledger(Workspace(workspace))
    copied = ledger.get(1001)
    now = datetime.now(UTC)
    ledger.add(dataclasses.replace(copied, key=new_key(), created=now, ref=3000, provenance={"source": "file"}))
    from_file = submissions(workspace, "rebuild", "3000")
    assert "Rebuilt from the copy of what was sent" in from_file.stdout
    ledger.update(ledger.get(3000).key, competition="another")
    web = submissions(workspace, "rebuild", "2000", code=1)
    assert "so it cannot be rebuilt" in web.stderr


@pytest.mark.parametrize("file_name", ["../../../x.csv", "/tmp/../x.csv", "..", "a/b/x.csv", ""])
def test_rebuild_stays_in_its_folder_whatever_name_the_ledger_has(workspace: Path, file_name: str) -> None:
    ledger = open_ledger(Workspace(workspace))
    kept = ledger.get(1000)
    ledger.update(kept.key, file_name=file_name)
    before = set(workspace.parent.rglob("*"))
    path = Path(json.loads(submissions(workspace, "rebuild", "1000", "--json").stdout)["path"])
    ledger.update(kept.key, file_name=kept.file_name)
    folder = workspace / "work" / "submissions" / "rebuilt"
    assert path.resolve().parent == folder.resolve()
    made = {item for item in set(workspace.parent.rglob("*")) - before if item.is_file() and item != path}
    assert made == set()


def test_rebuild_finds_replaced_blends_and_names_changed_members(tmp_path: Path) -> None:
    store, _, _ = make_workspace(tmp_path, rows=400, models=4)
    (tmp_path / "data").mkdir()
    rows = "".join(f"{name},0\n" for name in store.test_ids)
    (tmp_path / "data" / "sample_submission.csv").write_text(f"id,target\n{rows}")
    for name, members in BLENDS.items():
        run(tmp_path, "blend", "--name", name, "--members", members)
    add_entries(tmp_path)
    kept = (tmp_path / "work" / "submissions" / "pair.csv").read_bytes()

    def rebuilt() -> dict[str, str]:
        value: dict[str, str] = json.loads(submissions(tmp_path, "rebuild", "1001", "--json").stdout)
        assert Path(value["path"]).read_bytes() == kept
        return value

    run(tmp_path, "blend", "--name", "pair", "--members", "m2,m3")
    assert rebuilt()["source"].startswith("archived blend ")
    for path in [tmp_path / "work" / "ensemble" / "pair", *(tmp_path / "work" / "ensemble" / "archive").iterdir()]:
        path.rename(tmp_path / path.name)
    assert rebuilt()["source"] == "the members, blended again with the recorded settings"
    store.save_test("m1", store.test_ids, np.linspace(0, 1, len(store.test_ids)), fold=0)
    assert (
        "A copy of the submitted file is stored: work/submissions/pair.csv"
        in submissions(tmp_path, "rebuild", "1001", code=1).stderr
    )
    (tmp_path / "work" / "submissions" / "pair.csv").unlink()
    found = submissions(tmp_path, "rebuild", "1001", code=1)
    assert "is kept" not in found.stderr
    assert "Member 'm1' has different predictions: " in found.stderr
    assert "'m0'" not in found.stderr
    gone = submissions(tmp_path, "diff", "1001", "1000", code=1)
    assert "There is no copy of the file of" in gone.stderr


def test_a_blend_among_the_members_is_identified_by_its_predictions(tmp_path: Path) -> None:
    store, _, _ = make_workspace(tmp_path, rows=400, models=4)
    (tmp_path / "data").mkdir()
    rows = "".join(f"{name},0\n" for name in store.test_ids)
    (tmp_path / "data" / "sample_submission.csv").write_text(f"id,target\n{rows}")
    run(tmp_path, "blend", "--name", "pair", "--members", "m0,m1")
    run(tmp_path, "blend", "--name", "top", "--members", "pair,m2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PUBLIC, "top", 0.9)
        for name in BLENDS:
            patch.delitem(PUBLIC, name)
        add_entries(tmp_path)

    def states() -> dict[str, str]:
        found = json.loads(run(tmp_path, "status", "--json").stdout)["blends"]
        return {item["blend"]: item["state"] for item in found}

    assert states() == {"pair": "current", "top": "current"}
    run(tmp_path, "blend", "--name", "pair", "--members", "m0,m3")
    assert states() == {"top": "stale: pair changed", "pair": "current"}
    refused = run(tmp_path, "submit", "top", "--dry-run", code=1)
    assert "The predictions in the store have changed since the blend 'top' was made; changed or missing: pair" in (
        refused.stderr
    )
    assert "Nothing was sent" in run(tmp_path, "submit", "top", "--dry-run", "--stale").stdout
    assert submissions(tmp_path, "rebuild", "top", "--json").exit_code == 0  # top itself is still stored
    (tmp_path / "work" / "ensemble" / "top").rename(tmp_path / "gone")
    found = submissions(tmp_path, "rebuild", "top", code=1)
    assert "Member 'pair' has different predictions: " in found.stderr
    assert "'m2'" not in found.stderr
    itself = run(tmp_path, "blend", "--name", "pair", "--members", "pair,m2", code=1)
    assert "The blend 'pair' cannot be a member of itself" in itself.stderr


def test_every_subcommand_has_help() -> None:
    text = CliRunner().invoke(cli, ["submissions", "--help"]).stdout
    for name in ("list", "show", "sync", "diff", "select", "leaderboard", "rebuild"):
        assert name in text
        assert CliRunner().invoke(cli, ["submissions", name, "--help"]).exit_code == 0


def test_leaderboard_shows_the_ranks_of_scores(workspace: Path) -> None:
    path = workspace / "work" / "submissions" / "leaderboard.zip"
    lines = "".join(f"{place},{place},team {place},2026-11-22,{1 - place / 1000:.5f}\n" for place in range(1, 101))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny-publicleaderboard.csv", f"Rank,TeamId,TeamName,LastSubmissionDate,Score\n{lines}")
    value = json.loads(submissions(workspace, "leaderboard", "1001", "0.9955", "--json").stdout)
    assert value["ranks"]["0.9955"]["rank"] == 5
    assert value["ranks"]["0.9955"]["ahead"] == {"name": "team 4", "score": 0.996}
    assert value["ranks"]["1001 pair"]["rank"] == 71
    found = submissions(workspace, "leaderboard")
    assert "1000 all" in found.stdout
    assert "50 of 101" in found.stdout
    wrong = submissions(workspace, "leaderboard", "x.csv", code=1)
    assert "has no public score yet (failed)" in wrong.stderr


def test_scores_of_a_blend_that_optimised_another_metric_are_by_that_of_the_competition(tmp_path: Path) -> None:
    _, folds, _ = make_workspace(tmp_path)
    run(tmp_path, "blend", "--optimize", "log_loss", "--name", "loss")
    app = Workspace(tmp_path)
    recipe, blend = read_recipe(app, "loss"), app.blends.load("loss")
    order = [list(blend.ids).index(id_) for id_ in folds.ids]
    assert recipe.score == roc_auc(folds.target, blend.oof[order])
    assert recipe.nested_score == roc_auc(folds.target, blend.nested_oof[order])
    assert (recipe.facts["metric"], recipe.facts["score_metric"]) == ("log_loss", "auc")
    now = datetime(2026, 11, 20, tzinfo=UTC)
    common = {"key": new_key(), "created": now, "updated": now, "competition": "tiny", "status": "complete"}
    scores = {"score": recipe.score, "nested_score": recipe.nested_score}
    entry = Entry(**common, **scores, provenance=recipe.facts)  # type: ignore[arg-type]
    assert (entry.cv_by("auc"), entry.cv_by("log_loss")) == (recipe.nested_score, None)
    # recorded before there was a score_metric, with the scores of the metric that the blend optimised
    before = dataclasses.replace(entry, score=0.3, nested_score=0.4, provenance={"metric": "log_loss"})
    assert (before.cv_by("auc"), before.cv_by("log_loss")) == (None, 0.4)
    assert before.scores_by("auc") == (None, None)
    assert dataclasses.replace(before, provenance={}, nested_score=None).cv_by("auc") == 0.3


def test_a_tilde_is_the_home_folder_in_all_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, project = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    project.mkdir()
    make_workspace(project)
    monkeypatch.setenv("HOME", str(home))
    rows = "".join(f"t{row},{row / 100}\n" for row in range(50))
    (home / "mine.csv").write_text(f"id,target\n{rows}")
    (project / "dfens.toml").write_text(f'{CONFIG}sample_submission = "~/mine.csv"\n')
    app = Workspace(project)
    assert sample_submission(app) == home / "mine.csv"
    assert table_of(app, "~/mine.csv", [], home / "mine.csv")[1].rows == 50


def test_a_pair_simulated_with_other_oof_predictions_counts_as_unknown(workspace: Path, tmp_path: Path) -> None:
    """A model that is imported again with the same test predictions is still the submission's, but not its OOF."""
    copy = Path(shutil.copytree(workspace, tmp_path / "copy"))
    submissions(copy, "select", "--draws", "100")

    def chosen() -> object:
        found = Workspace(copy)
        return current_finals(found, read_entries(found))

    assert chosen() is not None
    store = Workspace(copy).predictions
    model = store.load("m0")
    assert model.test is not None
    store.save("m0", store.folds.ids, model.oof, model.test)
    assert chosen() is not None
    store.save("m0", store.folds.ids, model.oof[::-1], model.test)
    assert chosen() is None
    assert "Simulated" not in json.loads(run(copy, "report", "--json").stdout)["submissions"]["finals_reason"]
    store.archive("m0")
    assert chosen() is not None  # as for a submission that is no longer stored
