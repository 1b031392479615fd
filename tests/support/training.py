"""A competition of a few generated images, and settings that train on it in seconds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dfens.demo.clips import make_competition as make_clips
from dfens.demo.competition import make_competition
from oof.folds import make_folds
from oof.progress import SILENT, Progress
from oof.store import PredictionStore
from trainers import train
from trainers.data.competition import Competition
from trainers.data.layouts import read_competition
from trainers.data.settings import DataSettings
from trainers.kinds.base import ModelSettings
from trainers.kinds.timm.settings import TimmSettings
from trainers.runtime import checkpoint
from trainers.train import Engine, FoldResult, TrainingJob, train_here

TINY = TimmSettings(
    backbone="test_resnet", pretrained=False, image_size=32, epochs=2, batch_size=8, lr=3e-3, jpeg=0.3, blur=0.3
)
DATA_TOML = """
[data]
layout = "table"
id = "img_name"

[folds]
k = 2
"""
TOML = (
    DATA_TOML
    + """
[models.tiny]
backbone = "test_resnet"
pretrained = false
image_size = 32
epochs = 3
batch_size = 8
lr = 3e-3
jpeg = 0.3
"""
)


def tiny_competition(folder: Path, *, train_rows: int = 40, k: int = 2) -> tuple[Competition, PredictionStore]:
    """Write images, and store folds and test ids."""
    make_competition(folder, train_rows=train_rows, test_rows=8, size=32)
    (folder / "dfens.toml").write_text(TOML)
    competition = read_competition(DataSettings(layout="table", root=folder / "data", id="img_name"))
    store = PredictionStore(folder / "work" / "oof")
    train = competition.train
    store.save_folds(make_folds(train["id"].to_numpy(object), train["target"].to_numpy(), k=k, seed=0))
    store.save_test_ids(competition.test["id"].to_numpy(object))
    return competition, store


def train_models(
    competition: Competition,
    store: PredictionStore,
    models: Mapping[str, ModelSettings],
    folds: Sequence[int],
    work_dir: Path,
    *,
    engine: Engine = train_here,
    force: bool = False,
    progress: Progress = SILENT,
    **job: Any,
) -> list[FoldResult]:
    """Train models of a competition in a folder."""
    found = TrainingJob(competition, store.root, dict(models), work_dir, **job)
    return train.train_models(found, folds, engine=engine, force=force, progress=progress)


def tiny_clips(folder: Path, *, train_rows: int = 12, k: int = 2) -> tuple[Competition, PredictionStore]:
    """Write clips of talking faces, and store folds and test ids."""
    make_clips(folder, train_rows=train_rows, test_rows=4)
    competition = read_competition(DataSettings(layout="table", root=folder / "data", id="video_name"))
    store = PredictionStore(folder / "work" / "oof")
    train = competition.train
    store.save_folds(make_folds(train["id"].to_numpy(object), train["target"].to_numpy(), k=k, seed=0))
    store.save_test_ids(competition.test["id"].to_numpy(object))
    return competition, store


def stored_bytes(store: PredictionStore, name: str) -> bytes:
    """Return all predictions of a model as bytes."""
    model = store.load(name)
    assert model.test_by_fold is not None
    return np.concatenate([model.oof, model.test_by_fold.ravel()]).tobytes()


def train_tiny(folder: Path, settings: ModelSettings = TINY, folds: Sequence[int] = (0, 1), **options: Any) -> bytes:
    """Train the model `tiny` in a folder and return its predictions."""
    competition, store = tiny_competition(folder)
    train_models(competition, store, {"tiny": settings}, folds, folder / "work" / "trainers", **options)
    return stored_bytes(store, "tiny")


def saved_position(state: Path) -> tuple[int, int]:
    """Return epoch and step of a saved training; (-1, 0) if nothing is saved yet."""
    if not state.exists():
        return -1, 0
    found = checkpoint.load(state)
    return found["epoch"], found["step"]


class Notes:
    """Record notes and the titles of tasks."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.titles: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def task(self, title: str, total: float | None = None, unit: str = "") -> "Notes":
        self.titles.append(title)
        return self

    def advance(self, amount: float = 1, **fields: str) -> None:
        pass

    def __enter__(self) -> "Notes":
        return self

    def __exit__(self, *_: object) -> None:
        pass
