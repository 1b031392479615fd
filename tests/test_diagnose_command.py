"""Tests of `dfens diagnose` and `dfens groups`: what they print and write."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from trainers_data_helpers import face, make_table, write_image

from dfens.cli import cli

CONFIG = """
[data]
layout = "table"
root = "data"
id = "img_name"
[folds]
k = 2
[models.pixels]
kind = "linear"
image_size = 8
[models.trees]
kind = "linear"
classifier = "extra_trees"
image_size = 8
"""


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["-C", str(folder), *arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_table(tmp_path / "data", rows=48, test_rows=3)
    (tmp_path / "dfens.toml").write_text(CONFIG)
    assert run(tmp_path, "folds").exit_code == 0
    return tmp_path


def test_diagnosis_lists_kinds_and_doubtful_labels(folder: Path) -> None:
    assert run(folder, "train").exit_code == 0
    result = run(folder, "diagnose", "pixels", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert sum(cluster["rows"] for cluster in found["clusters"]) == 48
    assert all(suspect["models"] == 2 for suspect in found["suspects"])
    text = (folder / "work" / "reports" / "diagnose" / "pixels" / "suspects.csv").read_text()
    assert text.startswith("id,target,doubt,models_against,models\n")
    assert len(text.splitlines()) == 1 + len(found["suspects"])
    shown = run(folder, "diagnose", "pixels")
    assert "by kind of image, weakest first" in shown.stdout


def test_an_unknown_model_is_named(folder: Path) -> None:
    result = run(folder, "diagnose", "nothing")
    assert result.exit_code == 1
    assert "The store holds no model 'nothing'" in result.stderr


def test_groups_tell_each_way_to_fold(folder: Path) -> None:
    write_image(folder / "data" / "train" / "a003.jpg", face(1, fake=True), quality=70)  # a copy of a001
    result = run(folder, "groups", "--json")
    assert result.exit_code == 0, result.output
    none, duplicates, clusters = json.loads(result.stdout)["ways"]
    assert (none["group"], none["groups"], none["rows_not_alone"]) == ("none", 48, 0)
    assert (duplicates["groups"], duplicates["largest"], duplicates["rows_not_alone"]) == (47, 2, 2)
    assert clusters["groups"] <= 20
    assert 0 <= none["floor_auc"] <= 1
    assert "A linear floor's out-of-fold AUC" in run(folder, "groups").stdout
