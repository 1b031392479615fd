"""Replacing folds archives the models and blends that depend on them, but not beside a running training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dfens.cli import cli
from dfens.workspace.changes import archive_dependents
from dfens.workspace.paths import Workspace
from oof import files
from oof.files import file_lock
from tests.support.commands import make_linear_competition, run


def test_replacing_folds_archives_models_and_blends_but_nothing_else(tmp_path: Path) -> None:
    for name in (
        "trainers/net/fold0",
        "trainers/ablations/net",
        "trainers/cache/64px",
        "trainers/clips/a",
        "ensemble/blend",
    ):
        (tmp_path / "work" / name).mkdir(parents=True)
    workspace = Workspace(tmp_path)
    moved = archive_dependents(workspace)
    assert sorted(path.name.split("-", 1)[1] for path in moved) == ["ablations", "blend", "net"]
    assert {path.name for path in workspace.trainers_dir.iterdir()} == {"archive", "cache", "clips"}
    assert archive_dependents(workspace) == []


@pytest.mark.parametrize("change", ["folds", "rows to predict"])
def test_rows_are_not_replaced_beside_a_running_training(tmp_path: Path, change: str) -> None:
    """The training would store predictions of the earlier rows, with which every later command fails."""
    make_linear_competition(tmp_path, rows=12)
    before = Workspace(tmp_path).predictions.folds.fingerprint
    arguments = ["folds", "--seed", "5", "--force"] if change == "folds" else ["folds"]
    with file_lock(tmp_path / "work" / "trainers" / "pixels" / "fold1" / ".lock"):
        run(tmp_path, "folds")  # changes nothing
        if change == "rows to predict":
            sample = tmp_path / "data" / "sample_submission.csv"
            sample.write_text("".join(sample.read_text().splitlines(keepends=True)[:-1]))
        message = " ".join(run(tmp_path, *arguments, code=1).output.split())
        assert "Another process is training 'pixels'" in message
        assert "Stop it first, or keep the folds and the rows to predict as they are." in message
        store = Workspace(tmp_path).predictions
        assert (store.folds.fingerprint, len(store.test_ids)) == (before, 3)
    run(tmp_path, *arguments)
    store = Workspace(tmp_path).predictions
    assert (store.folds.fingerprint == before, len(store.test_ids)) == ((False, 3) if change == "folds" else (True, 2))


@pytest.mark.parametrize("setting", ['[data] group = "person"', '[folds] group = "column:person"'])
def test_folds_that_split_the_present_groups_are_refused(tmp_path: Path, setting: str) -> None:
    """Training on them would leak labels: the setting is newer than the folds, or rows have moved to another group."""
    make_linear_competition(tmp_path, rows=12)
    labels, config = tmp_path / "data" / "train.csv", tmp_path / "dfens.toml"
    header, *rows = labels.read_text().splitlines()

    def write_people(people: Sequence[str]) -> None:
        lines = [f"{row},{person}" for row, person in zip(rows, people, strict=True)]
        labels.write_text("\n".join([f"{header},person", *lines]) + "\n")

    write_people([f"p{row // 3}" for row in range(12)])
    without, (section, value) = config.read_text(), setting.split(" ", 1)
    config.write_text(without.replace(section, f"{section}\n{value}"))
    for command in (["train"], ["ablate", "pixels", "--set", "image_size=16"]):
        message = " ".join(run(tmp_path, *command, code=1).output.split())
        assert f"of 4 groups of {setting} are split between folds or sealed rows" in message
        assert "run dfens folds --force" in message
    assert f"groups of {setting} are split" in " ".join(run(tmp_path, "check").stdout.split())
    run(tmp_path, "folds", "--force")
    run(tmp_path, "train")

    write_people(["p0"] * 12)
    message = " ".join(run(tmp_path, "train", code=1).output.split())
    assert f"1 of 1 groups of {setting} are split between folds or sealed rows" in message
    config.write_text(without)
    run(tmp_path, "train")


@pytest.mark.parametrize("moves", range(6))
def test_killed_folds_archive_the_rest_in_the_next_run(
    moves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model or blend left behind would belong to folds that no longer exist, and stop every later training."""
    make_linear_competition(tmp_path, rows=12)
    workspace = Workspace(tmp_path)
    before, store = workspace.predictions.folds, workspace.predictions
    for name in ("a", "b"):
        rows = before.rows(0)
        store.save_oof(name, before.ids[rows], np.linspace(0, 1, len(rows)), fold=0)
    for folder in ("trainers/a", "ensemble/blend"):
        (workspace.work_dir / folder).mkdir(parents=True)
    move, moved = files.move, list[Path]()

    def move_or_die(path: Path, target: Path) -> None:
        if len(moved) == moves:
            raise KeyboardInterrupt  # as if killed
        move(path, target)
        moved.append(path)

    monkeypatch.setattr(files, "move", move_or_die)
    CliRunner().invoke(cli, ["-C", str(tmp_path), "folds", "--seed", "5", "--force"])
    assert len(moved) == min(moves, 5)
    monkeypatch.setattr(files, "move", move)
    run(tmp_path, "folds", "--seed", "5", "--force")
    workspace = Workspace(tmp_path)
    assert workspace.predictions.folds.fingerprint != before.fingerprint
    assert workspace.predictions.names() == []
    assert [path.name for path in workspace.trainers_dir.iterdir() if path.is_dir()] == ["archive"]
    assert [path.name for path in workspace.ensemble_dir.iterdir() if path.is_dir()] == ["archive"]
