"""Types and choices of settings that are made in Python."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oof.errors import ConfigError
from tests.support.training import TINY, tiny_competition
from trainers.kinds.base import ModelSettings
from trainers.kinds.clips.settings import AudioSettings, AvSettings, FramesSettings
from trainers.kinds.linear.settings import LinearSettings
from trainers.kinds.timm.settings import TimmSettings
from trainers.runtime.settings import check_types
from trainers.train import TrainingJob


@pytest.mark.parametrize("kind", [TimmSettings, FramesSettings, AudioSettings, AvSettings])
def test_the_defaults_of_every_kind_have_their_types(kind: Any) -> None:
    check_types(kind(backbone="resnet18"))
    check_types(LinearSettings())


def test_numbers_of_numpy_and_lists_are_accepted() -> None:
    values: dict[str, Any] = {"epochs": np.int64(3), "lr": np.float32(1e-3), "hflip": 1, "inputs": ["rgb", "srm"]}
    check_types(TimmSettings(backbone="resnet18", **values))


@pytest.mark.parametrize(("values", "message"), [
    ({"pooling": "max"}, r"pooling = 'max': expected one of 'mean', 'top_k', 'confidence', 'dfdc'"),
    ({"batch_size": "all"}, r"batch_size = 'all': expected an integer or 'auto'"),
    ({"lr": True}, r"lr = True: expected a number"),
    ({"inputs": ("rgb", "rbg")}, r"inputs = \('rgb', 'rbg'\): expected a tuple, each one of 'rgb', 'ycbcr'"),
    ({"pretrained": 1.5}, r"pretrained = 1\.5: expected True or False or text"),
])  # fmt: skip
def test_a_wrong_setting_is_found_before_anything_is_trained(
    values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    competition, store = tiny_competition(tmp_path)
    models: dict[str, ModelSettings] = {"tiny": TINY, "clips": FramesSettings(**{"backbone": "resnet18", **values})}
    with pytest.raises(ConfigError, match=f"model 'clips': {message}"):
        TrainingJob(competition, store.root, models, tmp_path / "work")
