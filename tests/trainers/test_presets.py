"""Presets: each can be created, its weights exist, settings have precedence, and weights adapt to other sizes."""

from pathlib import Path
from typing import Any, cast

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers.pos_embed import resample_abs_pos_embed

from dfens.workspace.config import parse_config
from oof.errors import ConfigError
from trainers.kinds.timm.settings import TimmSettings
from trainers.networks.backbone import backbone_tag, create_model, parameter_count
from trainers.networks.optim import make_optimizer, set_trainable
from trainers.networks.pretraining import pretraining_data
from trainers.presets import PRESETS


def model_of(model: dict[str, Any], train: dict[str, Any] | None = None) -> TimmSettings:
    """Return the settings of [models.a] with defaults from [train]."""
    settings = parse_config({"train": train or {}, "models": {"a": model}}, Path()).models["a"]
    assert isinstance(settings, TimmSettings)
    return settings


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_created_and_has_weights(name: str) -> None:
    settings = model_of({"preset": name, "pretrained": False})
    assert settings.backbone in timm.list_pretrained()
    with torch.device("meta"):  # shapes only
        model = create_model(settings, settings.image_size)
    assert model(torch.zeros(1, 3, settings.image_size, settings.image_size, device="meta")).shape == (1, 1)
    set_trainable(model, settings)
    learning = sum(value.numel() for value in model.parameters() if value.requires_grad)
    assert parameter_count(model) == PRESETS[name].parameters
    assert pretraining_data(backbone_tag(settings.backbone) or "") == PRESETS[name].pretraining
    if settings.trainable == "head":
        assert learning == cast(int, model.num_features) + 1
    elif settings.trainable == "norm":
        assert 0.0003 < learning / parameter_count(model) < 0.002
    else:
        assert learning == parameter_count(model)
    groups = make_optimizer(model, settings, torch.device("cpu")).param_groups
    scales = {group["lr_scale"] for group in groups}
    assert max(scales) == settings.head_lr
    assert (min(scales) < 0.2) == (settings.layer_decay < 1)


def test_model_settings_override_the_preset_which_overrides_the_defaults() -> None:
    found = model_of({"preset": "swin", "image_size": 224}, {"lr": 1e-2, "image_size": 64, "epochs": 3})
    assert (found.lr, found.image_size, found.epochs) == (PRESETS["swin"].settings["lr"], 224, 3)
    assert found.backbone == PRESETS["swin"].settings["backbone"]
    assert model_of({"preset": "swin", "backbone": "resnet18"}).backbone == "resnet18"
    assert model_of({}, {"preset": "clip"}).trainable == "norm"
    assert model_of({"backbone": "resnet18"}, {"lr": 1e-2}).lr == 1e-2


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"preset = 'convnxt' is unknown; did you mean 'convnext'"):
        model_of({"preset": "convnxt"})


@pytest.mark.parametrize("size", [96, 224])
def test_positions_are_resized_to_the_image_size(tmp_path: Path, size: int) -> None:
    torch.manual_seed(0)
    whole = create_model(TimmSettings(backbone="test_vit", pretrained=False, image_size=160), 160)
    weights = whole.state_dict()
    weights["pos_embed"] = torch.randn_like(weights["pos_embed"])
    save_file(weights, tmp_path / "a.safetensors")
    settings = TimmSettings(backbone="test_vit", pretrained="a.safetensors", image_size=size)
    model = create_model(settings, settings.image_size, tmp_path)
    assert model(torch.zeros(1, 3, size, size)).shape == (1, 1)
    expected = resample_abs_pos_embed(weights["pos_embed"], [size // 16, size // 16])
    torch.testing.assert_close(model.state_dict()["pos_embed"], expected)
    torch.testing.assert_close(model.state_dict()["blocks.0.attn.qkv.weight"], weights["blocks.0.attn.qkv.weight"])


def test_learning_rates_decrease_from_the_head_to_the_stem() -> None:
    settings = TimmSettings(
        backbone="test_convnext",
        pretrained=False,
        layer_decay=0.5,
        head_lr=4.0,
        backbone_options={"drop_path_rate": 0.3},
    )
    model = create_model(settings, settings.image_size)
    groups = make_optimizer(model, settings, torch.device("cpu")).param_groups
    scale = {value: group["lr_scale"] for group in groups for value in group["params"]}
    named = {name: scale[value] for name, value in model.named_parameters()}
    assert named["head.fc.weight"] == 4.0
    stages = [
        max(value for name, value in named.items() if name.startswith(f"stages.{stage}.blocks.")) for stage in range(4)
    ]
    assert stages == sorted(stages)
    assert named["stem.0.weight"] < stages[0] < stages[-1] <= 1.0
    rates = [float(str(module.drop_prob)) for module in model.modules() if type(module).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.3)
