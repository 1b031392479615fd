"""Backbones by name, weights from a file or none, and messages that tell the way out."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from oof.errors import ConfigError, TrainingError
from trainers.kinds.timm.settings import TimmSettings
from trainers.networks.backbone import create_model, parameter_count


def settings(**values: object) -> TimmSettings:
    return TimmSettings(**{"backbone": "test_resnet", "pretrained": False, **values})  # type: ignore[arg-type]


def test_a_network_has_one_output() -> None:
    model = made(settings())
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 1)
    assert parameter_count(model) == sum(value.numel() for value in model.parameters())


def made(settings: TimmSettings, root: Path = Path()) -> nn.Module:
    return create_model(settings, settings.image_size, root)


def test_options_go_to_timm() -> None:
    narrow = made(settings(backbone="resnet10t", backbone_options={"channels": [8, 16, 32, 64]}))
    assert parameter_count(narrow) < parameter_count(made(settings(backbone="resnet10t"))) / 10


def test_an_unknown_backbone_offers_the_nearest() -> None:
    with pytest.raises(TrainingError, match=r"'convnext_tinny' is no model of timm .* Nearest: convnext_tiny"):
        made(settings(backbone="convnext_tinny"))


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(TrainingError, match="cannot be made with backbone_options = {'depht': 3}"):
        made(settings(backbone_options={"depht": 3}))


def test_an_unreachable_hub_names_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(TrainingError, match=r"could not be fetched from the hub.*Set pretrained = .*safetensors"):
        made(settings(backbone="resnet10t.c3_in1k", pretrained=True))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_come_from_a_file(tmp_path: Path, suffix: str) -> None:
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
