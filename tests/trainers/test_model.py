"""Backbones by name, weights from a file or none, and messages with remedies."""

import argparse
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from oof.errors import ConfigError, TrainingError
from trainers.kinds.timm.settings import TimmSettings
from trainers.networks.backbone import check_backbone, create_model, deprecated_models, parameter_count
from trainers.networks.optim import make_optimizer, set_trainable
from trainers.networks.weights import head_parameters


def settings(**values: object) -> TimmSettings:
    return TimmSettings(**{"backbone": "test_resnet", "pretrained": False, **values})  # type: ignore[arg-type]


def test_a_network_has_one_output() -> None:
    model = made(settings())
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 1)
    assert parameter_count(model) == sum(value.numel() for value in model.parameters())


def made(settings: TimmSettings, root: Path = Path()) -> nn.Module:
    return create_model(settings, settings.image_size, root)


def test_options_are_passed_to_timm() -> None:
    narrow = made(settings(backbone="resnet10t", backbone_options={"channels": [8, 16, 32, 64]}))
    assert parameter_count(narrow) < parameter_count(made(settings(backbone="resnet10t"))) / 10


def test_an_unknown_backbone_names_the_nearest() -> None:
    with pytest.raises(TrainingError, match=r"'convnext_tinny' is not a model of timm .* Nearest: convnext_tiny"):
        made(settings(backbone="convnext_tinny"))


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(TrainingError, match="cannot be made with backbone_options = {'depht': 3}"):
        made(settings(backbone_options={"depht": 3}))


def test_an_unreachable_hub_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(TrainingError, match=r"could not be fetched from the hub.*Set pretrained = .*safetensors"):
        made(settings(backbone="resnet10t.c3_in1k", pretrained=True))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_are_loaded_from_a_file(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(1)
    first = made(settings())
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": first.state_dict()}, path)
    else:
        save_file(first.state_dict(), path)
    torch.manual_seed(2)
    second = made(settings(pretrained=path.name), tmp_path)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    save_file(made(settings(backbone="test_convnext")).state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(TrainingError, match="It belongs to another backbone"):
        made(settings(pretrained="a.safetensors"), tmp_path)


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("evil"),))


def test_code_in_a_file_of_weights_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pt").write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(TrainingError, match="cannot be read as weights"):
        made(settings(pretrained="a.pt"), tmp_path)
    assert not (tmp_path / "evil").exists()


def test_a_missing_file_of_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="'.*none.safetensors' cannot be read as weights"):
        made(settings(pretrained="none.safetensors"), tmp_path)


@pytest.mark.parametrize(("key", "value"), [("hflip", 1.5), ("epochs", 0), ("lr", -1.0), ("crop", 100)])
def test_settings_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{key} = "):
        settings(**{key: value})


# ---- names ----


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("xception", "legacy_xception"),
        ("tf_efficientnet_b4_ns", "tf_efficientnet_b4.ns_jft_in1k"),
        ("swsl_resnet50", "resnet50.fb_swsl_ig1b_ft_in1k"),
    ],
)
def test_former_names_of_timm_are_mapped_to_current_ones(old: str, new: str) -> None:
    assert check_backbone(old) == new


def test_every_former_name_is_mapped_or_listed_as_dropped() -> None:
    renamed = deprecated_models()
    assert len(renamed) > 150
    for old, new in renamed.items():
        if new is None:
            with pytest.raises(TrainingError, match="any more"):
                check_backbone(old)
        else:
            assert check_backbone(old) == new
            assert timm.is_model(new)


def test_hub_names_are_passed_to_timm() -> None:
    assert check_backbone("hf-hub:timm/resnet18.a1_in1k") == "hf-hub:timm/resnet18.a1_in1k"
    with pytest.raises(TrainingError, match="Nearest: resnet18"):
        check_backbone("ResNet18")


# ---- wrappings of weights ----


def plain_weights(name: str = "test_resnet", classes: int = 1000) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    model: nn.Module = timm.create_model(name, num_classes=classes)
    return dict(model.state_dict())


def behind(prefix: str, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in weights.items()}


WRAPPINGS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "plain": lambda w: w,
    "tutorial": lambda w: {"epoch": 3, "model_state_dict": w, "optimizer_state_dict": {"state": {0: {"m": w}}}},
    "net": lambda w: {"net": w},
    "lightning": lambda w: {"state_dict": {**behind("model.", w), "criterion.weight": torch.ones(2)}},
    "dfdc": lambda w: {"state_dict": behind("module.encoder.", w), "bce_best": 0.2},
    "parallel": lambda w: {"state_dict": behind("module.", w), "arch": "x"},
    "compiled": lambda w: behind("_orig_mod.module.", w),
    "other head": lambda w: {**behind("backbone.", w), "head.fc.weight": torch.ones(3, 3)},
    "list": lambda w: [w],
    "by number": lambda w: {0: w},
    "deep": lambda w: {"checkpoint": {"ema": {"weights": w}}},
    "timm script": lambda w: {"state_dict": w, "args": argparse.Namespace(lr=1), "metric": np.float64(0.5)},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_the_same_weights_are_found_in_every_wrapping(wrapping: str, tmp_path: Path) -> None:
    weights = plain_weights()
    torch.save(WRAPPINGS[wrapping](weights), tmp_path / "a.pth")
    model = made(settings(pretrained="a.pth"), tmp_path)
    own = model.state_dict()
    loaded = [name for name, value in own.items() if name in weights and value.shape == weights[name].shape]
    assert len(loaded) >= len(weights) - 2  # the head is for other classes
    for name in loaded:
        assert torch.equal(model.state_dict()[name], weights[name]), name


def test_averaged_weights_are_preferred(tmp_path: Path) -> None:
    weights = plain_weights()
    averaged = {name: value + 1 if value.is_floating_point() else value for name, value in weights.items()}
    torch.save({"state_dict": weights, "state_dict_ema": averaged}, tmp_path / "a.pth")
    model = made(settings(pretrained="a.pth"), tmp_path)
    assert torch.equal(model.state_dict()["conv1.0.weight"], averaged["conv1.0.weight"])


def test_several_sets_of_weights_are_ambiguous(tmp_path: Path) -> None:
    torch.save({"fold0": plain_weights(), "fold1": plain_weights()}, tmp_path / "a.pth")
    with pytest.raises(TrainingError, match="contains 2 sets of weights that fit: fold0, fold1"):
        made(settings(pretrained="a.pth"), tmp_path)


@pytest.mark.parametrize("classes", [1, 10])
def test_two_networks_in_one_dictionary_are_ambiguous(classes: int, tmp_path: Path) -> None:
    weights = timm.create_model("test_resnet", num_classes=classes).state_dict()
    torch.save({**behind("student.", weights), **behind("teacher.", weights)}, tmp_path / "a.pth")
    with pytest.raises(TrainingError, match="contains 2 sets of weights that fit: student, teacher"):
        made(settings(pretrained="a.pth"), tmp_path)
    torch.save([weights, weights], tmp_path / "b.pth")
    with pytest.raises(TrainingError, match="contains 2 sets of weights that fit: 0, 1"):
        made(settings(pretrained="b.pth"), tmp_path)
    averaged = {name: value + 1 if value.is_floating_point() else value for name, value in weights.items()}
    torch.save({**behind("model.", weights), **behind("model_ema.module.", averaged)}, tmp_path / "c.pth")
    loaded = made(settings(pretrained="c.pth"), tmp_path).state_dict()
    assert torch.equal(loaded["conv1.0.weight"], averaged["conv1.0.weight"])


@pytest.mark.parametrize("classes", [1, 10])
def test_weights_that_are_not_finite_or_quantised_are_refused(classes: int, tmp_path: Path) -> None:
    weights = timm.create_model("test_resnet", num_classes=classes).state_dict()
    torch.save({name: value.to(torch.int8) for name, value in weights.items()}, tmp_path / "int8.pth")
    with pytest.raises(TrainingError, match="75 are missing: conv1.0.weight"):
        made(settings(pretrained="int8.pth"), tmp_path)
    weights["conv1.0.weight"][0] = torch.nan
    torch.save(weights, tmp_path / "nan.pth")
    with pytest.raises(TrainingError, match="NaN or infinite values: conv1.0.weight. The training .* diverged"):
        made(settings(pretrained="nan.pth"), tmp_path)


def test_a_file_of_another_kind_does_not_recommend_to_run_its_code(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(TrainingError, match="torch.load does not know its content. It must be a .safetensors file"):
        made(settings(pretrained="a.pth"), tmp_path)


def test_files_without_weights_are_reported(tmp_path: Path) -> None:
    torch.save(torch.ones(3), tmp_path / "one.pth")
    with pytest.raises(TrainingError, match="contains no named tensors"):
        made(settings(pretrained="one.pth"), tmp_path)


@pytest.mark.parametrize(
    ("file", "backbone"), [("resnet18", "resnet34"), ("resnet34", "resnet18"), ("test_convnext", "test_convnext2")]
)
@pytest.mark.parametrize("classes", [1, 10])
def test_weights_of_a_smaller_or_deeper_network_are_refused(
    file: str, backbone: str, classes: int, tmp_path: Path
) -> None:
    save_file(plain_weights(file, classes), tmp_path / "a.safetensors")
    with pytest.raises(TrainingError, match="belongs to another backbone"):
        made(settings(backbone=backbone, pretrained="a.safetensors"), tmp_path)


def test_positions_are_resized(tmp_path: Path) -> None:
    save_file(plain_weights("test_vit"), tmp_path / "a.safetensors")  # made for 160 px
    model = made(settings(backbone="test_vit", image_size=64, pretrained="a.safetensors"), tmp_path)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 1)


# ---- heads and tied weights ----


def test_both_heads_of_a_distilled_network_are_trained() -> None:
    model = made(settings(backbone="deit_tiny_distilled_patch16_224", image_size=224))
    head = {name for name, value in model.named_parameters() if any(value is one for one in head_parameters(model))}
    assert head == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}
    chosen = settings(backbone="deit_tiny_distilled_patch16_224", image_size=224, trainable="head", head_lr=3.0)
    set_trainable(model, chosen)
    assert {name for name, value in model.named_parameters() if value.requires_grad} == head
    groups = make_optimizer(model, chosen, torch.device("cpu")).param_groups
    assert {group["lr_scale"] for group in groups} == {3.0}
