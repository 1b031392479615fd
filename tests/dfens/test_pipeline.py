"""The whole pipeline of commands on a generated competition, with a trainer that takes seconds."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from dfens.cli import cli
from dfens.demo.competition import make_competition
from tests.support.commands import run
from tests.support.formats import documented

MODELS = """
[models.pixels]
kind = "linear"

[models.forest]
kind = "linear"
classifier = "extra_trees"
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the whole pipeline was run."""
    folder = tmp_path_factory.mktemp("competition")
    make_competition(folder, train_rows=120, test_rows=40, size=32)
    path = folder / "dfens.toml"
    text = path.read_text()
    begin, end = text.index("[train]"), text.index("[blend]")
    path.write_text(text[:begin] + MODELS + text[end:])
    assert "dfens check" in run(folder, "status").stdout
    run(folder, "check")
    run(folder, "folds")
    assert "dfens train" in run(folder, "status").stdout
    run(folder, "train", "--fold", "0-4")
    assert "dfens blend" in run(folder, "status").stdout
    run(folder, "blend", "--optimize", "auc")
    run(folder, "submit", "--dry-run")
    return folder


def test_the_submission_has_the_samples_ids_and_header(done: Path) -> None:
    (path,) = (done / "work" / "submissions").glob("*.csv")
    table = pd.read_csv(path, dtype={"img_name": str})
    sample = pd.read_csv(done / "data" / "sample_submission.csv", dtype={"img_name": str})
    assert list(table.columns) == ["img_name", "y_pred"]
    assert list(table["img_name"]) == list(sample["img_name"])
    assert table["y_pred"].between(0, 1).all()
    assert table["y_pred"].nunique() > 1


def test_status_shows_scores_and_the_next_command(done: Path) -> None:
    status = json.loads(run(done, "status", "--json").stdout)
    assert [model["state"] for model in status["models"]] == ["complete", "complete"]
    assert all(0 <= model["oof_score"] <= 1 for model in status["models"])
    assert len(status["blends"]) == 1
    assert status["next"].startswith("dfens submit")


# keys of these are names of users or of files
_FREE_KEYS = {"settings", "packages", "fingerprints", "contains", "sizes", "references", "sha256"}


def _keys(value: Any) -> Iterator[str]:
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield key
        if key not in _FREE_KEYS:
            yield from _keys(inner)
    for inner in value if isinstance(value, list) else ():
        yield from _keys(inner)


def test_the_keys_of_all_stored_json_files_are_documented(done: Path) -> None:
    sections = {
        "oof": documented("## work/oof", "## work/trainers"),
        "trainers": documented("## work/trainers", "## work/ensemble"),
        "ensemble": documented("## work/ensemble", "## work/reports"),
        "reports": documented("## work/reports", "## work/submissions"),
    }
    found = {path: set(_keys(json.loads(path.read_text()))) for path in (done / "work").rglob("*.json")}
    assert {path.name for path in found} >= {
        "model.json", "settings.json", "history.json", "blend.json", "predictor.json", "leaks.json", "report.json"
    }  # fmt: skip
    missing = {path: keys - sections[path.relative_to(done / "work").parts[0]] for path, keys in found.items()}
    assert {path: keys for path, keys in missing.items() if keys - {"version"}} == {}


def test_invalid_folds_are_refused(done: Path) -> None:
    assert "is not a list of folds. Write 0-4, 0,2 or all." in run(done, "train", "--fold", "first", code=2).stderr
    assert "there is no fold 5; the folds are 0 to 4" in run(done, "train", "--fold", "3-7", code=1).stderr


def test_finished_work_is_skipped(done: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (done / "work" / "oof").rglob("*.parquet")}
    run(done, "train", "--fold", "all")
    run(done, "check")
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """A copy of the folder that a test can damage."""
    return Path(shutil.copytree(done, tmp_path / "competition with spaces"))


def test_check_reports_changed_data(copy: Path) -> None:
    labels = copy / "data" / "train.csv"
    header, *rows = labels.read_text().splitlines()
    first, target, person = rows[0].split(",")
    gone = rows.pop(5).split(",")[0]
    rows[0] = f"{first},{1 - int(target)},{person}"
    labels.write_text("\n".join([header, *rows]) + "\n")
    output = run(copy, "check").stdout
    assert f"1 gone ({gone}); 1 labelled otherwise ({first})" in output
    assert "Next: dfens submit blend --dry-run" in output
    refused = CliRunner().invoke(cli, ["-C", str(copy), "train"])
    assert refused.exit_code == 1
    assert "The training rows differ from those of the folds" in refused.stderr


def test_a_new_test_set_is_predicted_and_blended(copy: Path) -> None:
    sample = copy / "data" / "sample_submission.csv"
    rows = pd.read_csv(sample, dtype={"img_name": str}).iloc[:30]
    rows["img_name"] = [f"new-{name}" for name in rows["img_name"]]
    rows.to_csv(sample, index=False)
    for name in rows["img_name"]:
        (copy / "data" / "test" / name.removeprefix("new-")).rename(copy / "data" / "test" / name)
    assert "The rows to predict differ from those that the models predicted: 30 new" in run(copy, "check").stdout
    assert "the earlier test predictions are in" in run(copy, "folds").stderr
    run(copy, "train")
    status = json.loads(run(copy, "status", "--json").stdout)
    assert [model["state"] for model in status["models"]] == ["complete", "complete"]
    assert status["blends"][0]["state"] == "stale: forest, pixels changed"
    assert status["next"] == "dfens blend --name blend"
    run(copy, "blend")
    assert json.loads(run(copy, "submit", "--dry-run", "--json").stdout)["rows"] == 30


def test_a_truncated_file_is_reported_by_status(copy: Path) -> None:
    path = copy / "work" / "oof" / "models" / "pixels" / "oof.fold1.parquet"
    path.write_bytes(path.read_bytes()[:700])
    output = run(copy, "status").stdout
    assert "broken, see below" in output
    assert "oof.fold1.parquet cannot be read as Parquet" in output.replace("\n", "")
    assert "cannot be read as Parquet" in run(copy, "blend", code=1).stderr
    path.unlink()
    assert "Next: dfens train --model pixels --fold 1" in run(copy, "status").stdout
    assert "0 folds trained, 10 skipped" in run(copy, "train").stdout  # predicted again
    assert "current" in run(copy, "status").stdout  # the same numbers as before


def test_a_missing_sample_submission_is_a_named_error(copy: Path) -> None:
    (copy / "data" / "sample_submission.csv").unlink()
    output = run(copy, "submit", "--dry-run", code=1).stderr
    assert "sample_submission.csv is missing: header, order and ids of a submission are taken from it" in output


def test_a_workspace_that_cannot_be_created_is_a_named_error(tmp_path: Path) -> None:
    make_competition(tmp_path, train_rows=40, test_rows=4, size=32)
    (tmp_path / "work").write_text("a file stands where the workspace should be")
    assert "cannot be written (Not a directory)" in run(tmp_path, "check", code=1).stderr
    assert "cannot be written (Not a directory)" in run(tmp_path, "folds", code=1).stderr


def test_other_folds_are_refused_then_archived(done: Path) -> None:
    refused = run(done, "folds", "--seed", "9", code=1)
    assert "models were made with other folds" in refused.stderr
    cache = done / "work" / "trainers" / "cache"
    cache.mkdir()
    forced = run(done, "folds", "--seed", "9", "--force")
    assert "Moved to" in forced.stderr
    assert cache.is_dir()  # resized images are the same for all folds
    assert "dfens train" in run(done, "status").stdout
    assert list((done / "work" / "ensemble" / "archive").iterdir())
    run(done, "train", "--fold", "all")
    assert "dfens blend" in run(done, "status").stdout


def test_every_step_works_without_rows_to_predict(tmp_path: Path) -> None:
    make_competition(tmp_path, train_rows=60, test_rows=10, size=32)
    text = (tmp_path / "dfens.toml").read_text()
    begin, end = text.index("[train]"), text.index("[blend]")
    text = (text[:begin] + MODELS + text[end:]).replace('test = "sample_submission.csv"', 'test = ""')
    (tmp_path / "dfens.toml").write_text(text.replace('test_dir = "test"\n', ""))
    shutil.rmtree(tmp_path / "data" / "test")
    (tmp_path / "data" / "sample_submission.csv").unlink()
    assert "There is no test set" in run(tmp_path, "check").output
    for command in ("folds", "train"):
        run(tmp_path, command)
    assert "Next: dfens report\n" in run(tmp_path, "blend").stdout
    run(tmp_path, "report")
    status = json.loads(run(tmp_path, "status", "--json").stdout)
    assert {model["state"] for model in status["models"]} == {"complete"}
    assert status["next"] == "dfens report"
    assert "has no sample submission" in run(tmp_path, "submit", "--dry-run", code=1).output


def test_the_message_about_a_missing_test_folder_says_how_to_continue_without(tmp_path: Path) -> None:
    make_competition(tmp_path, train_rows=20, test_rows=10, size=32)
    shutil.rmtree(tmp_path / "data" / "test")
    assert 'If there are no rows to predict, set test = "".' in run(tmp_path, "check", code=1).output
