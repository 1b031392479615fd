"""Types and choices of settings that are made in Python."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from oof.errors import ConfigError
from tests.support.training import TINY, tiny_competition
from trainers.kinds.base import ModelSettings
from trainers.kinds.clips.settings import AudioSettings, AvSettings, FramesSettings
from trainers.kinds.linear.settings import LinearSettings
from trainers.kinds.repeats import PseudoSettings
from trainers.kinds.timm.settings import TimmSettings
from trainers.runtime.settings import check_types
from trainers.train import TrainingJob


@pytest.mark.parametrize("kind", [TimmSettings, FramesSettings, AudioSettings, AvSettings])
def test_the_defaults_of_every_kind_have_their_types(kind: Any) -> None:
    check_types(kind(backbone="resnet18"))
    check_types(LinearSettings())


def test_whole_numbers_lists_and_paths_in_place_of_their_types_are_accepted() -> None:
    values: dict[str, Any] = {"lr": 1, "hflip": 1, "inputs": ["rgb", "srm"], "pretrained": "weights.pt"}
    check_types(TimmSettings(backbone="resnet18", **values))


def test_types_of_plugins_that_are_not_known_are_not_checked() -> None:
    @dataclass
    class Plugin:
        limit: ClassVar = 3
        where: Path | None = Path()
        size: tuple[int, int] = (1, 2)
        anything: object = True
        table: dict[str, int] = field(default_factory=dict)

    check_types(Plugin())


def test_a_setting_that_is_no_number_is_named() -> None:
    values: Any
    for values, shown in (({"epochs": "3"}, "epochs = '3'"), ({"batch_size": np.int64(8)}, r"batch_size = .*8.*")):
        with pytest.raises(ConfigError, match=f"^{shown}: expected an int or float from 1"):
            TimmSettings(backbone="resnet18", **values)


@pytest.mark.parametrize(("values", "message"), [
    ({"pooling": "max"}, r"pooling = 'max': expected one of 'mean', 'top_k', 'confidence', 'dfdc'"),
    ({"pseudo": PseudoSettings(rounds=1.5)}, r"pseudo\.rounds = 1\.5: expected an integer"),  # type: ignore[arg-type]
    ({"pseudo": 3}, r"pseudo = 3: expected PseudoSettings or None"),
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
