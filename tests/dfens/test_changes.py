"""Replacing folds archives the models and blends that depend on them, but not beside a running training."""

from pathlib import Path

import pytest

from dfens.workspace.changes import archive_dependents
from dfens.workspace.paths import Workspace
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
