"""`dfens check`: its output and exit code."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dfens.cli import cli
from dfens.workspace.changes import files_changed_since_training
from dfens.workspace.paths import Workspace
from oof.files import write_json
from tests.support.competitions import face, make_table, write_image
from trainers.runtime.provenance import files_fingerprint

CONFIG = '[data]\nlayout = "table"\nroot = "data"\nid = "img_name"\n'


def test_valid_data_exit_with_0_and_show_the_next_command(tmp_path: Path) -> None:
    make_table(tmp_path / "data", rows=12)
    (tmp_path / "dfens.toml").write_text(CONFIG)
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "check"])
    assert result.exit_code == 0, result.output
    assert "Next: dfens folds" in result.stdout
    assert "32 x 32: 12" in result.stdout
    assert "50.0 %" in result.stdout


def test_broken_data_exit_with_1_and_list_the_findings(tmp_path: Path) -> None:
    make_table(tmp_path / "data", rows=14)
    (tmp_path / "dfens.toml").write_text(CONFIG)
    (tmp_path / "data" / "train" / "a003.jpg").write_bytes(b"")
    (tmp_path / "data" / "train" / "a004.jpg").unlink()
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "check", "--decode", "--json"])
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["ok"] is False
    assert {problem["kind"] for problem in found["problems"]} == {"missing", "unreadable"}
    assert Path(found["lists"]["train-unreadable"]).read_text().startswith("a003.jpg")
    plain = CliRunner().invoke(cli, ["-C", str(tmp_path), "check"])
    assert plain.exit_code == 1
    assert "Error: 1 of 13 train images cannot be read: a003.jpg (is empty (0 bytes))" in plain.stdout
    assert "Training would go wrong" in plain.stdout
    assert "were decoded" not in plain.stdout  # not a matter of the sample: an empty file is found without decoding


def test_fewer_rows_of_a_class_than_folds_are_reported_before_making_folds(tmp_path: Path) -> None:
    make_table(tmp_path / "data", rows=9)
    (tmp_path / "dfens.toml").write_text(CONFIG)
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "check"])
    assert result.exit_code == 1
    assert "has 4 rows of class 1, but 5 folds need at least 5 of each class. Lower [folds] k to 4" in result.stdout
    folds = CliRunner().invoke(cli, ["-C", str(tmp_path), "folds"])
    assert folds.exit_code == 1
    assert "5 folds need at least 5 rows of each class; class 1 has 4 of 9 rows" in folds.stderr


def test_skip_broken_quarantines_for_the_commands_that_follow(tmp_path: Path) -> None:
    make_table(tmp_path / "data", rows=12)
    (tmp_path / "dfens.toml").write_text(CONFIG + "skip_broken = true\n[folds]\nk = 2\n")
    (tmp_path / "data" / "train" / "a003.jpg").write_bytes(b"")
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "check"])
    assert result.exit_code == 0, result.output
    assert "Left out of training: 1 rows" in result.stdout
    folds = CliRunner().invoke(cli, ["-C", str(tmp_path), "folds", "--json"])
    assert folds.exit_code == 0, folds.output
    assert sum(fold["rows"] for fold in json.loads(folds.stdout)["folds"]) == 11


def test_a_missing_label_file_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "dfens.toml").write_text(CONFIG)
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "check"])
    assert result.exit_code == 1
    assert "data/train is missing" in result.stderr


@pytest.mark.parametrize("rows", [24, 60])
def test_leaks_are_shown_as_a_table_and_as_json(tmp_path: Path, rows: int) -> None:
    make_table(tmp_path / "data", rows=rows)
    for row in range(1, rows, 2):
        write_image(tmp_path / "data" / "train" / f"a{row:03d}.jpg", face(row, fake=True), quality=70)
    (tmp_path / "dfens.toml").write_text(CONFIG)
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "check", "--leaks"], env={"COLUMNS": "140"})
    assert result.exit_code == 0, result.output
    assert f"how well a property of the files alone separates {rows // 2} real from {rows // 2} fake" in result.stdout
    assert ("ranks separate the classes beyond chance" in " ".join(result.stdout.split())) == (rows == 24)
    line = next(line for line in result.stdout.splitlines() if "JPEG quality" in line)
    assert "92" in line
    assert "70" in line
    assert "separates the classes" in line
    assert "Re-encode all files in the same way" in result.stdout
    assert "name order" in result.stdout  # clean properties too
    narrow = CliRunner().invoke(cli, ["-C", str(tmp_path), "check"], env={"COLUMNS": "70"})
    assert "name order" not in narrow.stdout
    assert "JPEG quality" in narrow.stdout
    found = json.loads(CliRunner().invoke(cli, ["-C", str(tmp_path), "check", "--json"]).stdout)
    assert "JPEG quality" in found["leaks"]["leaks"]


def test_files_that_changed_since_a_fold_was_trained_are_reported(tmp_path: Path) -> None:
    root = make_table(tmp_path / "data", rows=12)
    (tmp_path / "dfens.toml").write_text(CONFIG + "[folds]\nk = 2\n")
    assert CliRunner().invoke(cli, ["-C", str(tmp_path), "folds"]).exit_code == 0
    workspace = Workspace(tmp_path)
    store, competition = workspace.predictions, workspace.competition()
    store.save("m", store.folds.ids, store.folds.target * 0.5)
    then = files_fingerprint([*competition.train["path"], *competition.test["path"]])
    assert then == files_fingerprint([*competition.test["path"], *competition.train["path"][::-1]])
    write_json(workspace.history_path("m", 1), {"data": then})
    assert files_changed_since_training(workspace, competition) == []
    write_image(root / "train" / "a003.jpg", face(3, size=64))
    (change,) = files_changed_since_training(workspace, competition)
    assert change.startswith("Names or sizes of files have changed since fold 1 of 'm' was trained.")
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "check"])
    assert "since fold 1 of 'm' was trained" in result.stdout
    (root / "test" / "t003.jpg").unlink()
    assert files_changed_since_training(workspace, competition) == []  # named by the check itself


def test_check_and_folds_report_that_originals_are_groups(tmp_path: Path) -> None:
    root = make_table(tmp_path / "data", rows=18)
    lines = [f"a{row:03d}.jpg,{int(row >= 6)},{f'a{(row - 6) // 2:03d}.jpg' if row >= 6 else -1}" for row in range(18)]
    (root / "train.csv").write_text("\n".join(["img_name,target,original", *lines]) + "\n")
    (tmp_path / "dfens.toml").write_text(CONFIG + 'group = "original"\n[folds]\nk = 3\n')
    note = "12 rows share the group of the 6 rows that they were made from."
    assert note in CliRunner().invoke(cli, ["-C", str(tmp_path), "check"]).stdout
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "folds"])
    assert note in result.stdout, result.output
    folds = Workspace(tmp_path).predictions.folds
    fold = dict(zip(folds.ids, folds.fold, strict=True))
    assert all(fold[f"a{row:03d}.jpg"] == fold[f"a{(row - 6) // 2:03d}.jpg"] for row in range(6, 18))
