"""Types and choices of settings that are made in Python."""

import contextlib
import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from oof.errors import ConfigError
from tests.support.training import TINY, tiny_competition
from trainers.features.settings import ExtractSettings
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


KINDS = [
    *(kind(backbone="resnet18") for kind in (TimmSettings, FramesSettings, AudioSettings, AvSettings)),
    LinearSettings(),
    ExtractSettings(),
]


@pytest.mark.parametrize("settings", KINDS, ids=lambda settings: type(settings).__name__)
def test_a_wrong_type_of_any_setting_is_a_named_error(settings: Any) -> None:
    """A comparison of a text with a number, for example, would be a TypeError."""
    for item in fields(settings):
        for value in (None, "", "x", 1.5, math.nan, math.inf, -1, True, (), ("x",), (math.nan,), {}, {"x": 1}):
            with contextlib.suppress(ConfigError):
                check_types(replace(settings, **{item.name: value}))


@pytest.mark.parametrize(("values", "message"), [
    ({"pooling": "max"}, r"pooling = 'max': expected one of 'mean', 'top_k', 'confidence', 'dfdc'"),
    ({"pseudo": PseudoSettings(rounds=1.5)}, r"pseudo\.rounds = 1\.5: expected an integer"),  # type: ignore[arg-type]
    ({"pseudo": 3}, r"pseudo = 3: expected PseudoSettings or None"),
    ({"lr": True}, r"lr = True: expected a number"),
    ({"inputs": ("rgb", "rbg")}, r"inputs = \('rgb', 'rbg'\): expected a tuple, each one of 'rgb', 'ycbcr'"),
    ({"pretrained": 1.5}, r"pretrained = 1\.5: expected True or False or text"),
    ({"epochs": "3"}, r"epochs = '3': expected an integer"),
    ({"batch_size": np.int64(8)}, r"batch_size = .*8.*: expected an integer or 'auto'"),
    ({"backbone_options": "x"}, r"backbone_options = 'x': expected a table"),
    ({"sound_slip_s": (0.2,)}, r"sound_slip_s = \(0\.2,\): expected a tuple of 2, each a number"),
])  # fmt: skip
def test_a_wrong_setting_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        AvSettings(**{"backbone": "resnet18", **values})


def test_a_wrong_setting_of_a_plugin_is_found_before_anything_is_trained(tmp_path: Path) -> None:
    """Kinds of plugins do not check types themselves."""

    @dataclass(frozen=True, kw_only=True)
    class Plugin:
        kind: str = "plugin"
        limit: int = 3

    competition, store = tiny_competition(tmp_path)
    models: dict[str, ModelSettings] = {"tiny": TINY, "clips": Plugin(limit="3")}  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="model 'clips': limit = '3': expected an integer"):
        TrainingJob(competition, store.root, models, tmp_path / "work")
