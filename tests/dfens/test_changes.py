"""Replacing folds archives the models and blends that depend on them."""

from pathlib import Path

from dfens.workspace.changes import archive_dependents
from dfens.workspace.paths import Workspace


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
