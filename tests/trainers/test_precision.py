"""Precision of networks, and conversion of images to floats without changing the images."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from oof.errors import ConfigError
from tests.support.training import TINY
from trainers.kinds.timm.predict import Predictor
from trainers.kinds.timm.settings import TimmSettings
from trainers.kinds.training.train_state import TrainState, as_tuple
from trainers.networks.backbone import create_model
from trainers.networks.normalise import Normalise
from trainers.runtime.device import amp_type, keep_freed_memory

CPU = torch.device("cpu")


def test_a_cpu_computes_in_float32_by_default() -> None:
    assert amp_type(CPU) is None
    assert amp_type(CPU, "bfloat16") is torch.bfloat16
    assert amp_type(torch.device("cuda"), "float32") is None


def test_bfloat16_predicts_nearly_the_same() -> None:
    torch.manual_seed(0)
    model = create_model(TINY, 32)
    images = np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3), np.uint8)
    exact = Predictor(TINY, [model], CPU).images(images)
    rough = Predictor(dataclasses.replace(TINY, precision="bfloat16"), [model], CPU).images(images)
    assert 0 < np.abs(exact - rough).max() < 0.02


def test_bfloat16_learns() -> None:
    torch.manual_seed(0)
    settings = dataclasses.replace(TINY, precision="bfloat16", label_smoothing=0.0)
    model = create_model(settings, 32)
    normalise = Normalise(model, CPU)
    state = TrainState(settings, model, CPU, lambda batch, target, rng: (normalise(as_tuple(batch)[0]), target))
    target = torch.arange(8) % 2
    images = (target[:, None, None, None] * 120 + torch.randint(0, 100, (8, 32, 32, 3))).to(torch.uint8)
    for step in range(15):
        state.loss_sum.zero_()
        state.step(images, target.float(), None, rate=3e-3, step=step, seed=(0, step))
    assert float(state.loss_sum) < 0.3
    assert all(value.dtype == torch.float32 for value in state.values)


def test_normalising_does_not_change_the_images() -> None:
    keep_freed_memory()  # must have no other effect
    grey = torch.full((1, 4, 4, 3), 100, dtype=torch.uint8)
    found = Normalise(nn.Identity(), CPU)(grey)
    assert (grey == 100).all()
    expected = (100 / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(found[0, :, 0, 0], expected)


def test_an_unknown_precision_is_refused() -> None:
    from pathlib import Path

    from dfens.workspace.config import parse_config

    with pytest.raises(ConfigError, match=r"\[models.a\] precision = 'half': expected"):
        parse_config({"models": {"a": {"backbone": "resnet18", "precision": "half"}}}, Path())
    assert TimmSettings(backbone="resnet18").precision == "auto"
