"""Competition rules on models: pretraining data, number of parameters, and messages of `dfens check`."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
from click.testing import CliRunner

from dfens.cli import cli
from dfens.workspace.config import parse_config
from oof.errors import ConfigError
from tests.support.training import tiny_competition
from trainers.networks.backbone import backbone_tag
from trainers.networks.pretraining import pretraining_data
from trainers.rules import broken_rules, model_facts


def broken(models: dict[str, dict[str, Any]], rules: str = "multi-ffdi") -> list[str]:
    return broken_rules(parse_config({"models": models}, Path()).models, rules)


@pytest.mark.parametrize(("backbone", "data"), [
    ("convnextv2_tiny.fcmae_ft_in1k", {"ImageNet-1K"}),
    ("tf_efficientnet_b4.ns_jft_in1k", {"JFT-300M", "ImageNet-1K"}),
    ("convnext_tiny.in12k_ft_in1k", {"ImageNet-12K", "ImageNet-1K"}),
    ("beit_base_patch16_224.in22k_ft_in22k_in1k", {"ImageNet-22K", "ImageNet-1K"}),
    ("vit_base_patch16_224.mae", {"ImageNet-1K"}),
    ("vit_small_patch16_dinov3.lvd1689m", {"LVD-1689M (DINOv3)"}),
    ("regnety_320.swag_ft_in1k", {"Instagram", "ImageNet-1K"}),
    ("resnet50", {"ImageNet-1K"}),
])  # fmt: skip
def test_pretraining_data_are_derived_from_the_name(backbone: str, data: set[str]) -> None:
    assert set(pretraining_data(backbone_tag(backbone) or "") or ()) == data


def test_pretraining_data_of_most_timm_weights_are_known() -> None:
    names = timm.list_pretrained()
    unknown = [name for name in names if pretraining_data(name.partition(".")[2]) is None]
    assert len(unknown) < 0.1 * len(names)
    only_1k = [name for name in names if pretraining_data(name.partition(".")[2]) == ("ImageNet-1K",)]
    for word in ("in12k", "in21k", "in22k", "jft", "laion", "openai", "lvd", "webli", "clip"):
        assert not [name for name in only_1k if word in name.partition(".")[2].split("_")]


def test_models_within_the_rules_are_not_mentioned() -> None:
    models: dict[str, dict[str, Any]] = {
        "a": {"preset": "vit-small"},
        "b": {"backbone": "convnext_tiny.fb_in1k"},
        "c": {"backbone": "resnet18", "pretrained": False},
        "d": {"kind": "linear"},
    }
    assert broken(models) == []


def test_disallowed_and_unknown_weights_and_excess_parameters_are_named() -> None:
    (foreign,) = broken({"a": {"preset": "clip"}})
    assert foreign.startswith("Model 'a' starts from weights trained on WIT-400M (CLIP); the rules of multi-ffdi")
    (tag,) = broken({"a": {"backbone": "convnext_tiny.in12k_ft_in1k"}})
    assert "trained on ImageNet-12K; the rules of multi-ffdi allow only ImageNet-1K" in tag
    (file,) = broken({"a": {"backbone": "resnet18", "pretrained": "weights.pt"}})
    assert "the file 'weights.pt' does not specify what its weights were trained on" in file
    (hub,) = broken({"a": {"backbone": "hf-hub:someone/something"}})
    assert "the name 'hf-hub:someone/something' does not specify" in hub
    (data, size) = broken({"a": {"preset": "clip-large"}})
    assert "WIT-400M" in data
    assert "Model 'a' has 303,180,801 parameters; the rules of multi-ffdi allow 200,000,000 in total" in size
    assert broken({"a": {"preset": "clip-large", "pretrained": False}}) == [size]


def test_parameters_of_all_models_are_counted_together() -> None:
    large = {"backbone": "convnext_large.fb_in1k"}
    assert broken({"a": large}) == []
    (text,) = broken({"a": large, "b": {"preset": "vit-small"}})
    assert text.startswith("The models of dfens.toml have 217,897,922 parameters together")


def test_the_parameters_of_each_seed_are_counted() -> None:
    settings = {"preset": "clip-large", "pretrained": False, "seeds": 2}
    (text,) = broken({"a": settings})
    assert text.startswith("Model 'a' has 606,361,602 parameters with 2 seeds; the rules of multi-ffdi allow")
    assert text.endswith("Choose a smaller backbone or fewer seeds.")


def test_audio_encoders_are_counted_too() -> None:
    settings = parse_config(
        {"models": {"a": {"kind": "av", "backbone": "resnet18", "sound_backbone": "convnext_tiny.in12k_ft_in1k"}}},
        Path(),
    ).models["a"]
    facts = model_facts(settings)
    assert facts.data == ("ImageNet-1K", "ImageNet-12K")
    assert facts.parameters is not None
    assert 38e6 < facts.parameters < 40e6
    assert broken({"a": {"kind": "audio", "backbone": "aasist"}}) == []


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[competition\] rules = 'ffdi' is unknown. Known: multi-ffdi, multi-ffdv"):
        parse_config({"competition": {"rules": "ffdi"}}, Path())


def test_check_warns_of_models_that_break_the_rules(tmp_path: Path) -> None:
    tiny_competition(tmp_path)
    path = tmp_path / "dfens.toml"
    text = path.read_text().replace("pretrained = false", "").replace("test_resnet", "tf_efficientnet_b4.ns_jft_in1k")
    path.write_text(text)
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "--json", "check"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rules"] == []
    path.write_text(f'[competition]\nrules = "multi-ffdi"\n{text}')
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "check"])
    assert result.exit_code == 0, result.output
    assert "Warning: Model 'tiny' starts from weights trained on JFT-300M" in " ".join(result.stdout.split())
