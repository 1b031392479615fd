"""A generated competition on disk with its store of predictions, for benchmarks that train models."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from oof.folds import make_folds
from oof.store import PredictionStore
from trainers.data.competition import Competition
from trainers.data.layouts import read_competition
from trainers.data.settings import DataSettings
from trainers.kinds.base import ModelSettings
from trainers.kinds.pseudo_labels import PseudoLabels
from trainers.train import TrainingJob


@dataclass(frozen=True, eq=False)
class World:
    """A competition in a folder, and the store of its predictions."""

    competition: Competition
    store: PredictionStore
    folder: Path

    def job(self, models: Mapping[str, ModelSettings], pseudo: PseudoLabels | None = None) -> TrainingJob:
        return TrainingJob(
            self.competition,
            self.store.root,
            dict(models),
            self.folder / "work",
            threads=1,
            root=self.folder,
            pseudo=pseudo,
        )


def read_faces(folder: Path, id_column: str = "img_name") -> Competition:
    """Read a table of generated faces; all images of a person are one group."""
    return read_competition(DataSettings(layout="table", root=folder, id=id_column, group="person"))


def make_store(folder: Path, competition: Competition, *, k: int, seed: int = 0) -> PredictionStore:
    """Store the folds of a competition, by group, and the ids of its test rows."""
    train, test = competition.train, competition.test
    assert test is not None
    store = PredictionStore(folder)
    ids, target, groups = (train[name].to_numpy() for name in ("id", "target", "group"))
    store.save_folds(make_folds(ids, target, k=k, seed=seed, groups=groups, group="person"))
    store.save_test_ids(test["id"].to_numpy(object))
    return store
