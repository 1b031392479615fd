"""`dfens cache`: reports the size, creates and removes caches, and skips broken files."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dfens.cli import cli
from oof.files import file_lock
from tests.support.competitions import make_table

CONFIG = """
[data]
layout = "table"
root = "data"
id = "img_name"
[models.baseline]
kind = "linear"
[models.small]
backbone = "test_resnet"
pretrained = false
image_size = 16
[models.large]
backbone = "test_resnet"
pretrained = false
image_size = 16
crop = 24
"""


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["-C", str(folder), "cache", *arguments])


def run_json(folder: Path, *arguments: str) -> dict[str, Any]:
    result = run(folder, "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_table(tmp_path / "data")
    (tmp_path / "dfens.toml").write_text(CONFIG)
    return tmp_path


def test_the_size_is_reported_before_the_cache_is_created(folder: Path) -> None:
    found = run_json(folder, "--dry-run")
    assert [(row["size"], row["images"], row["cached"]) for row in found["caches"]] == [(16, 12, 0), (24, 12, 0)]
    assert found["caches"][1]["bytes_missing"] == 12 * 24 * 24 * 3
    assert not (folder / "work" / "trainers" / "cache").exists()
    result = run(folder)
    assert result.exit_code == 0
    assert "12 images of 24 px will take 0.00 GB" in result.stderr
    assert [(row["cached"], row["bytes_missing"]) for row in run_json(folder)["caches"]] == [(12, 0), (12, 0)]


def test_a_broken_file_is_reported_and_the_rest_is_cached(folder: Path) -> None:
    (folder / "data" / "train" / "a003.jpg").write_bytes(b"broken")
    result = run(folder, "--model", "small")
    assert "Left out: " in result.stderr
    assert "a003.jpg" in result.stderr
    (row,) = run_json(folder, "--model", "small", "--dry-run")["caches"]
    assert row["cached"] == 11


def test_a_cache_that_another_model_uses_is_kept(folder: Path) -> None:
    with (folder / "dfens.toml").open("a") as file:
        file.write('[models.second]\nbackbone = "test_resnet2"\npretrained = false\nimage_size = 16\n')
    assert run(folder).exit_code == 0
    result = run(folder, "--model", "small", "--model", "large", "--remove")
    assert "Kept 16px-area: second uses it, too. To remove it, add --model second." in result.stderr
    assert [row["cached"] for row in run_json(folder, "--dry-run")["caches"]] == [12, 0]
    assert "Kept" not in run(folder, "--model", "small", "--model", "second", "--remove").stderr
    assert [row["cached"] for row in run_json(folder, "--dry-run")["caches"]] == [0, 0]


def test_caches_are_removed(folder: Path) -> None:
    run_json(folder)
    (small,) = run_json(folder, "--model", "small", "--remove")["caches"]
    assert (small["cached"], small["bytes_cached"]) == (0, 0)
    assert [row["cached"] for row in run_json(folder, "--dry-run")["caches"]] == [0, 12]
    assert [row["cached"] for row in run_json(folder, "--remove", "--dry-run")["caches"]] == [0, 12]
    config = folder / "dfens.toml"
    config.write_text(config.read_text().replace("crop = 24", ""))
    result = run(folder, "--dry-run")
    assert "No model uses 24px-area-" in result.stderr
    assert run_json(folder, "--remove")["unused"] == []
    assert not list((folder / "work" / "trainers" / "cache").glob("*px-*"))


def test_a_cache_that_another_process_writes_is_not_removed(folder: Path) -> None:
    run_json(folder)
    cache = next((folder / "work" / "trainers" / "cache").glob("24px-*"))
    with file_lock(cache / ".lock"):
        result = run(folder, "--model", "large", "--remove")
    assert result.exit_code == 1
    assert f"Another process is writing to {cache}. Wait for it" in " ".join(result.stderr.split())
    assert [row["cached"] for row in run_json(folder, "--dry-run")["caches"]] == [12, 12]


def test_an_unknown_model_is_refused(folder: Path) -> None:
    result = run(folder, "--model", "smal")
    assert result.exit_code == 1
    assert "has no [models.smal]" in result.stderr
