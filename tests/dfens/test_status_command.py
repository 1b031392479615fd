"""`dfens status`: running folds, remaining time, submissions; `--watch`; shell completion."""

import json
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dfens.cli import cli
from dfens.values import duration
from dfens.workspace.paths import Workspace
from oof.files import file_lock, locked_since, write_json
from oof.folds import make_folds
from submissions.ledger import Ledger
from submissions.table import values_fingerprint
from submissions.upload import new_entry
from tests.support.ensemble import make_workspace
from trainers.kinds.base import settings_record

CONFIG = """
[competition]
slug = "tiny"
submissions_per_day = 5
[folds]
k = 4
[models.m0]
kind = "linear"
[models.new]
kind = "linear"
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    make_workspace(tmp_path)
    (tmp_path / "dfens.toml").write_text(CONFIG)
    return Workspace(tmp_path)


def status(workspace: Workspace) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["-C", str(workspace.root), "status", "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_model_that_is_archived_while_it_is_read_does_not_end_the_command(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are there when the command looks for them, and gone when it reads them."""
    exists = Path.exists

    def seen(path: Path) -> bool:
        return path.name in ("history.json", "settings.json") or exists(path)

    monkeypatch.setattr(Path, "exists", seen)
    assert {row["model"] for row in status(workspace)["models"]} >= {"m0", "m1"}


def test_a_model_without_some_test_predictions_is_partial(workspace: Workspace) -> None:
    (workspace.predictions.model_dir("m0") / "test.fold1.parquet").unlink()
    for path in workspace.predictions.model_dir("m1").glob("test.*"):
        path.unlink()
    listed = CliRunner().invoke(cli, ["-C", str(workspace.root), "oof", "list", "--json"])
    for rows in (status(workspace)["models"], json.loads(listed.stdout)["models"]):
        states = {row["model"]: row["state"] for row in rows}
        assert (states["m0"], states["m1"], states["m2"]) == ("partial", "OOF only", "complete")


def test_the_next_training_is_named_with_its_folds_in_short(workspace: Workspace) -> None:
    (workspace.predictions.model_dir("m0") / "test.fold1.parquet").unlink()
    assert status(workspace)["next"] == "dfens train --fold 0-3"  # both m0 and new lack folds
    workspace.config_path.write_text(CONFIG.replace("[models.new]", "[models.m1]"))
    assert status(workspace)["next"] == "dfens train --model m0 --fold 1"
    for fold in (0, 2, 3):
        (workspace.predictions.model_dir("m0") / f"test.fold{fold}.parquet").unlink()
        (workspace.predictions.model_dir("m0") / f"oof.fold{fold}.parquet").unlink()
    assert status(workspace)["next"] == "dfens train --model m0 --fold 0-3"


@pytest.mark.parametrize(
    ("slug", "source"),
    [("tiny", "dfens download"), ("", "put the data there"), ("demo-av", "dfens demo . --recipe demo-av")],
)
def test_a_missing_data_folder_is_named_with_its_setting(tmp_path: Path, slug: str, source: str) -> None:
    (tmp_path / "dfens.toml").write_text(f'[competition]\nslug = "{slug}"\n[data]\nroot = "fotos"\n')
    found = status(Workspace(tmp_path))
    assert found["facts"] == [f"The data folder {tmp_path / 'fotos'} ([data] root) is missing."]
    assert found["next"] == f"{source}, or correct [data] root"


def test_a_lock_records_when_it_was_acquired(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert locked_since(path) is None
    before = datetime.now(UTC) - timedelta(seconds=1)
    with file_lock(path):
        since = locked_since(path)
        assert since is not None
        assert before <= since <= datetime.now(UTC) + timedelta(seconds=1)
    assert locked_since(path) is None


def test_running_folds_and_the_time_left_are_shown(workspace: Workspace) -> None:
    assert status(workspace)["running"] == []
    write_json(workspace.history_path("new", 0), {"seconds": 3600.0})
    with file_lock(workspace.fold_lock("new", 1)), file_lock(workspace.test_lock("m0")):
        found = status(workspace)
        (predicting, training) = found["running"]
        assert (predicting["model"], predicting["fold"]) == ("m0", None)
        assert (training["model"], training["fold"]) == ("new", 1)
        assert 3500 < training["left_s"] <= 3600
        assert found["left"]["folds"] == 4
        assert 4 * 3600 - 100 < found["left"]["seconds"] <= 4 * 3600
        shown = CliRunner().invoke(cli, ["-C", str(workspace.root), "status"]).stdout
    assert "Now: training new fold 1" in shown
    assert "Now: predicting test rows by m0" in shown
    assert "4 folds are not trained yet; about" in shown
    assert "left" not in CliRunner().invoke(cli, ["-C", str(workspace.root), "status"]).stdout.split("Models")[0]


def test_folds_of_a_model_without_history_have_no_time(workspace: Workspace) -> None:
    found = status(workspace)
    assert found["left"] == {"folds": 4, "unknown": 4, "seconds": 0.0}
    shown = CliRunner().invoke(cli, ["-C", str(workspace.root), "status"]).stdout
    assert "4 folds are not trained yet." in shown


def test_submissions_are_summed_up(workspace: Workspace) -> None:
    assert status(workspace)["submissions"] is None
    assert not workspace.submissions_dir.exists()  # status writes nothing
    ledger = Ledger(workspace.ledger_path())
    for ref, name, score in ((1005, "first", 0.8), (1006, "second", 0.9), (1007, "third", None)):
        entry = ledger.add(new_entry("tiny", blend=name, message=""))
        ledger.update(entry.key, status="pending" if score is None else "complete", ref=ref, public_score=score)
    found = status(workspace)["submissions"]
    assert (found["made"], found["today"], found["per_day"], found["pending"]) == (3, 3, 5, 1)
    assert (found["best"], found["best_public"]) == ("1006 second", 0.9)
    shown = CliRunner().invoke(cli, ["-C", str(workspace.root), "status"]).stdout
    assert "3 submissions, 3 of 5 today, 1 without a score yet" in shown


def test_the_next_step_follows_the_submission_of_the_newest_blend(workspace: Workspace) -> None:
    (workspace.root / "dfens.toml").write_text(CONFIG.replace('[models.new]\nkind = "linear"\n', ""))
    blend = ["-C", str(workspace.root), "blend", "--name", "b", "--members", "m0,m1"]
    assert CliRunner().invoke(cli, blend).exit_code == 0
    stored = workspace.blends.load("b")
    assert stored.test is not None
    assert stored.test_ids is not None
    facts = {"source": "blend", "blend_fingerprint": values_fingerprint(stored.test_ids, stored.test)}
    ledger = Ledger(workspace.ledger_path())
    entry = ledger.add(new_entry("tiny", blend="b", message="", provenance=facts))
    found = []
    for change in (
        {"status": "failed"},
        {"status": "creating"},
        {"status": "pending", "ref": 1005},
        {"status": "error", "error": "bad rows"},
        {"status": "complete", "error": "", "public_score": 0.8},
    ):
        ledger.update(entry.key, **change)
        found.append(status(workspace)["next"])
    assert found == [
        "dfens submit b --dry-run",
        "dfens submissions sync",
        "dfens submissions sync",
        "dfens submissions show 1005",
        "dfens submissions list, then a further [models.NAME] section",
    ]
    assert found[-1] in CliRunner().invoke(cli, blend).output  # the same predictions again
    earlier = ledger.add(new_entry("tiny", blend="a", message=""))
    ledger.update(earlier.key, status="complete", ref=1004, public_score=0.7)
    assert status(workspace)["next"] == "dfens submissions list, then dfens submissions select for the two finals"
    assert CliRunner().invoke(cli, [*blend[:-1], "m0"]).exit_code == 0
    assert status(workspace)["next"] == "dfens submit b --dry-run"  # other predictions under the same name


def test_missing_test_ids_are_made_again_next(workspace: Workspace) -> None:
    workspace.predictions.test_ids_path.unlink()
    found = status(workspace)
    assert any("Run dfens folds." in fact for fact in found["facts"])
    assert found["next"] == "dfens folds"


def test_a_blend_without_test_predictions_is_not_submitted_next(workspace: Workspace) -> None:
    (workspace.root / "dfens.toml").write_text(CONFIG.split("[models.m0]")[0])
    for path in workspace.predictions.model_dir("m1").glob("test.*"):
        path.unlink()
    blend = ["-C", str(workspace.root), "blend", "--name", "b", "--members", "m1"]
    made = CliRunner().invoke(cli, blend)
    assert made.exit_code == 0, made.output
    wanted = "dfens train, or dfens oof import NAME --oof FILE --test FILE, then dfens blend --name b --members m1"
    assert status(workspace)["next"] == wanted
    assert f"Next: {wanted}" in made.stdout


def test_settings_changed_since_the_training_are_shown(workspace: Workspace) -> None:
    record = settings_record(workspace.config.models["m0"])
    write_json(workspace.settings_path("m0"), {"settings": record})
    facts = status(workspace)["facts"]
    text = CONFIG.replace('[models.m0]\nkind = "linear"', '[models.m0]\nkind = "linear"\nclassifier = "svm"\nseeds = 2')
    workspace.config_path.write_text(text)
    assert status(workspace)["facts"] == [
        *facts,
        "The settings of 'm0' have changed since it was trained: classifier 'logistic' to 'svm'. Its predictions are "
        "those of the earlier settings until dfens train --model m0 --force, which trains it again.",
    ]
    network = '[models.m0]\nbackbone = "resnet10t"'
    workspace.config_path.write_text(CONFIG.replace('[models.m0]\nkind = "linear"', network))
    record = settings_record(Workspace(workspace.root).config.models["m0"])
    write_json(workspace.settings_path("m0"), {"settings": record | {"tta": "none"}})
    assert status(workspace)["facts"][-1].endswith("until dfens train --model m0, which predicts again.")
    workspace.settings_path("m0").write_text("{")
    assert "m0/settings.json is not readable JSON" in status(workspace)["facts"][-1]


@pytest.mark.parametrize(
    ("line", "changed"), [("k = 5", "k = 5"), ("seed = 3", "seed = 3"), ('group = "clusters"', "group = clusters")]
)
def test_folds_other_than_those_of_the_settings_are_shown(workspace: Workspace, line: str, changed: str) -> None:
    folds = workspace.predictions.folds
    made = make_folds(folds.ids, folds.target, k=4, seed=0)
    workspace.predictions.save_folds(made, force=True)
    assert not any("[folds]" in fact for fact in status(workspace)["facts"])
    workspace.config_path.write_text(CONFIG.replace("k = 4", line if line.startswith("k") else f"k = 4\n{line}"))
    (fact,) = [fact for fact in status(workspace)["facts"] if "[folds]" in fact]
    assert fact.startswith(f"[folds] in dfens.toml differs from the stored folds: {changed} instead of")
    assert "until dfens folds --force, which moves trained models to the archive." in fact


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_report_status_and_submit_name_the_same_blend(workspace: Workspace, metric: str) -> None:
    """The newest blend is the worst, whatever metric it optimised."""
    (workspace.root / "dfens.toml").write_text(CONFIG.replace('[models.new]\nkind = "linear"\n', ""))
    root = str(workspace.root)
    for name, members in (("three", "m0,m1,m2"), ("one", "m0")):
        made = ["blend", "--name", name, "--members", members, "--optimize", metric if name == "one" else "auc"]
        assert CliRunner().invoke(cli, ["-C", root, *made]).exit_code == 0
    found = status(workspace)
    assert found["next"] == "dfens submit one --dry-run"
    assert "dfens submit sends the newest blend, 'one'" in found["facts"][-1]
    assert "that of 'three' is better" in found["facts"][-1]
    assert CliRunner().invoke(cli, ["-C", root, "report", "--json"]).exit_code == 0
    head = json.loads((workspace.root / "work" / "reports" / "report.json").read_text())["head"]
    assert (head["blend"], head["better"][0], head["next_command"]) == ("one", "three", found["next"])
    assert f"is better: {head['better'][1]:.5f}" in (workspace.root / "work" / "reports" / "report.html").read_text()
    assert f"is better: {head['better'][1]:.5f}." in found["facts"][-1]
    assert CliRunner().invoke(cli, ["-C", root, "blend", "--name", "three"]).exit_code == 0
    assert status(workspace)["facts"] == found["facts"][:-1]


def test_a_blend_that_cannot_be_read_is_named_after_the_models(workspace: Workspace) -> None:
    root = str(workspace.root)
    made = CliRunner().invoke(cli, ["-C", root, "blend", "--name", "b", "--members", "m0,m1", "--optimize", "none"])
    assert made.exit_code == 0
    (workspace.ensemble_dir / "b" / "blend.json").write_text("{")
    found = status(workspace)
    assert [row["model"] for row in found["models"]] == ["m0", "new", "m1", "m2"]
    assert found["blends"] == []
    assert "b/blend.json is not readable JSON" in found["facts"][-1]
    assert found["next"] == "move the broken file away, then dfens status"


def test_watch_refreshes_until_it_is_interrupted(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    naps = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", nap)
    result = CliRunner().invoke(cli, ["-C", str(workspace.root), "status", "--watch", "--every", "2"])
    assert result.exit_code == 0, result.output
    assert naps == [2.0] * 3
    assert result.stdout.count("Next: dfens train") == 3


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (75, "1 min 15 s"), (3599.6, "1 h 0 min"), (4000, "1 h 6 min"), (2e5, "2 d 7 h")]
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_dfens(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0, result.output
    assert "_DFENS_COMPLETE" in result.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=result.stdout, text=True, check=True)


def test_completion_completes_commands_and_options() -> None:
    environment = {"COMP_WORDS": "dfens sub", "COMP_CWORD": "1", "_DFENS_COMPLETE": "bash_complete"}
    result = CliRunner().invoke(cli, [], prog_name="dfens", env=environment)
    assert result.stdout.splitlines() == ["plain,submit", "plain,submissions"]
    environment = {"COMP_WORDS": "dfens train --wo", "COMP_CWORD": "2", "_DFENS_COMPLETE": "bash_complete"}
    result = CliRunner().invoke(cli, [], prog_name="dfens", env=environment)
    assert result.stdout.splitlines() == ["plain,--workers"]


@pytest.mark.parametrize(
    "words",
    [
        ["status", "--watch", "--every", "nan"],
        ["status", "--watch", "--every", "inf"],
        ["submissions", "select", "--public-share", "nan"],
        ["submissions", "select", "--positive-share", "nan"],
    ],
)
def test_nan_and_infinity_are_outside_of_every_range(workspace: Workspace, words: list[str]) -> None:
    result = CliRunner().invoke(cli, ["-C", str(workspace.root), *words])
    assert result.exit_code == 2
    assert f"Invalid value for '{words[-2]}': {words[-1]} is not in the range 0" in result.output
