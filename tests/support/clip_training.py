"""A small competition of clips, tiny models on it, and jobs that train them."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oof.folds import make_folds
from oof.store import PredictionStore
from tests.support.clips import voice
from trainers.data.competition import Competition
from trainers.data.layouts import read_competition
from trainers.data.settings import DataSettings
from trainers.jobs.job import TrainingJob
from trainers.jobs.runner import FoldRunner
from trainers.kinds.clips.settings import AudioSettings, AvSettings, FramesSettings
from trainers.kinds.linear.settings import LinearSettings
from trainers.media.arrays import Image
from trainers.media.clip_writer import Encoding, write_clip

SHARED: dict[str, Any] = {
    "pretrained": False,
    "frames": 4,
    "key_frames": 0,
    "frame_size": 32,
    "moments": 2,
    "time_views": 2,
    "batch_size": 8,
    "epochs": 2,
    "lr": 3e-3,
    "seed": 1,
}
MODELS: dict[str, Any] = {
    "frames": FramesSettings(backbone="test_resnet", pooling="auto", **SHARED),
    "audio": AudioSettings(backbone="test_resnet", window_s=0.3, bands=32, tta="none", **SHARED),
    "raw": AudioSettings(backbone="aasist-l", window_s=0.42, **{**SHARED, "moments": 1, "time_views": 1, "epochs": 1}),
    "av": AvSettings(
        backbone="test_resnet",
        sound_backbone="test_resnet",
        sound_pretrained=False,
        window_s=0.2,
        bands=32,
        pooling="attention",
        **SHARED,
    ),
    "linear": LinearSettings(frames=4, key_frames=0, frame_size=32, leaks=True),
}


def moving(seed: int, *, fake: bool) -> list[Image]:
    """Return frames of a moving bright bar, which is red in fakes."""
    frames = []
    for index in range(8):
        frame = np.random.default_rng([seed, index]).integers(60, 90, (32, 32, 3), np.uint8)
        left = (3 * seed + 2 * index) % 26
        frame[:, left : left + 6] = [220, 60, 60] if fake else [60, 60, 220]
        frames.append(frame)
    return frames


def clip_competition(root: Path) -> tuple[Competition, Path]:
    """Write 24 training and 6 test clips; two have no sound, one has no video; fakes are red and loud."""
    rows = {"train": 24, "test": 6}
    fast = Encoding(options={"crf": "20", "preset": "ultrafast"})
    for part, count in rows.items():
        for row in range(count):
            fake = row % 2 == 1
            sound = voice(0.5, seed=row) * (1.5 if fake else 0.2)
            write_clip(
                root / "data" / part / f"{part} {row}.mp4",
                [] if row == 4 else moving(row, fake=fake),
                16,
                None if row in (2, 3) else np.asarray(sound, np.float32),
                encoding=fast,
            )
    train = pd.DataFrame({"id": [f"train {row}.mp4" for row in range(24)], "target": [row % 2 for row in range(24)]})
    train.to_csv(root / "data" / "train.csv", index=False)
    pd.DataFrame({"id": [f"test {row}.mp4" for row in range(6)], "y_pred": 0.5}).to_csv(
        root / "data" / "sample_submission.csv", index=False
    )
    return read_competition(DataSettings(layout="table", root=root / "data")), root


def make_job(competition: tuple[Competition, Path], folder: Path, *names: str, **changes: Any) -> TrainingJob:
    found, root = competition
    store = PredictionStore(folder / "oof")
    store.save_folds(make_folds(found.train["id"].to_numpy(object), found.train["target"].to_numpy(), k=2, seed=0))
    store.save_test_ids(found.test["id"].to_numpy(object))
    models = {name: dataclasses.replace(MODELS[name], **changes) for name in names}
    return TrainingJob(found, store.root, models, folder / "trainers", root=root)


def train(competition: tuple[Competition, Path], folder: Path, *names: str, **changes: Any) -> PredictionStore:
    job = make_job(competition, folder, *names, **changes)
    FoldRunner(job).all([0, 1])
    return PredictionStore(folder / "oof")
