"""The whole main job by its commands, on a generated competition, with the trainer that takes seconds."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from dfens.cli import cli
from dfens.demo import make_competition

MODELS = """
[models.pixels]
kind = "linear"

[models.forest]
kind = "linear"
classifier = "extra_trees"
"""


def run(folder: Path, *arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["-C", str(folder), *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the whole main job was run."""
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


def test_status_tells_scores_and_the_next_command(done: Path) -> None:
    status = json.loads(run(done, "status", "--json").stdout)
    assert [model["state"] for model in status["models"]] == ["complete", "complete"]
    assert all(0 <= model["oof_score"] <= 1 for model in status["models"])
    assert len(status["blends"]) == 1
    assert status["next"].startswith("dfens submit")


def test_what_is_done_is_not_done_again(done: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (done / "work" / "oof").rglob("*.parquet")}
    run(done, "train", "--fold", "all")
    run(done, "check")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_folds_are_refused_then_archived(done: Path) -> None:
    refused = run(done, "folds", "--seed", "9", code=1)
    assert "models were made with other folds" in refused.stderr
    forced = run(done, "folds", "--seed", "9", "--force")
    assert "moved to" in forced.stderr
    assert "dfens train" in run(done, "status").stdout
    assert list((done / "work" / "ensemble" / "archive").iterdir())
    run(done, "train", "--fold", "all")
    assert "dfens blend" in run(done, "status").stdout
