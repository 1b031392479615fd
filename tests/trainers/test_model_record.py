"""The record of a model's settings, and models that are replaced by others of the same name."""

from pathlib import Path

import pytest

from oof import files
from tests.support.training import stored_bytes, tiny_competition, train_models
from trainers.kinds.linear.settings import LinearSettings

OLD, NEW = LinearSettings(image_size=8), LinearSettings(image_size=12)


@pytest.mark.parametrize("moves", [0, 1])
def test_a_killed_replacement_never_passes_old_predictions_off_as_new(
    moves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    competition, store = tiny_competition(tmp_path)
    work, move, moved = tmp_path / "work" / "trainers", files.move, list[Path]()
    train_models(competition, store, {"fresh": NEW}, (0, 1), work)
    train_models(competition, store, {"m": OLD}, (0, 1), work)
    assert stored_bytes(store, "m") != stored_bytes(store, "fresh")

    def move_or_die(path: Path, target: Path) -> None:
        if len(moved) == moves:
            raise KeyboardInterrupt  # as if killed: nothing that would catch an error runs
        move(path, target)
        moved.append(path)

    monkeypatch.setattr(files, "move", move_or_die)
    with pytest.raises(KeyboardInterrupt):
        train_models(competition, store, {"m": NEW}, (0, 1), work, force=True)
    monkeypatch.setattr(files, "move", move)
    train_models(competition, store, {"m": NEW}, (0, 1), work, force=True)
    assert stored_bytes(store, "m") == stored_bytes(store, "fresh")
