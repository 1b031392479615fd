"""The input stem: each side channel compared with its definition; a new stem initially changes nothing."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn
from torch import Tensor, nn

from oof.errors import ConfigError
from tests.support.competitions import face
from trainers.networks.input_stem import CHANNELS, SideInputs
from trainers.networks.settings import Inputs

MEAN = torch.tensor([123.7, 116.3, 103.5]).view(1, 3, 1, 1)
STD = torch.tensor([58.4, 57.1, 57.4]).view(1, 3, 1, 1)


def batch(size: int = 32) -> tuple[Tensor, Tensor]:
    """Return two faces, with values from 0 to 255 and normalised."""
    rgb = torch.from_numpy(np.stack([face(seed, size=size) for seed in (0, 1)])).permute(0, 3, 1, 2).float()
    return rgb, (rgb - MEAN) / STD


def planes(inputs: tuple[Inputs, ...], normalised: Tensor) -> Tensor:
    return SideInputs(nn.Identity(), inputs, MEAN, STD).planes(normalised)


def grey(rgb: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return (rgb.double() * torch.tensor([0.299, 0.587, 0.114]).double().view(1, 3, 1, 1)).sum(1).numpy()


@pytest.mark.parametrize("names", [("rgb",), ("rgb", "srm"), ("srm", "rgb", "dct", "phase", "ycbcr")])
def test_the_stem_initially_passes_rgb_unchanged(names: tuple[Inputs, ...]) -> None:
    _, normalised = batch()
    found = SideInputs(nn.Identity(), names, MEAN, STD)(normalised)
    torch.testing.assert_close(found, normalised)


def test_gradients_reach_the_side_channels() -> None:
    _, normalised = batch()
    model = SideInputs(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1)), ("rgb", "srm"), MEAN, STD)
    model(normalised.requires_grad_()).square().sum().backward()
    gradient = model.stem.weight.grad
    assert gradient is not None
    assert (gradient[:, 3:].abs().sum(dim=(0, 2, 3)) > 0).all()
    assert not [name for name, _ in model.named_parameters() if "srm" in name]
    assert set(model.state_dict()) == {"stem.weight", "stem.bias", "backbone.2.weight", "backbone.2.bias"}


@pytest.mark.parametrize("name", list(CHANNELS))
def test_every_channel_keeps_the_size_and_has_about_unit_variance(name: Inputs) -> None:
    for size in (32, 45):
        _, normalised = batch(size)
        found = planes((name,), normalised)
        assert found.shape == (2, CHANNELS[name], size, size)
        assert torch.isfinite(found).all()
        assert 0.1 < float(found.std()) < 4


def test_dct_bands_agree_with_scipy_and_add_up_to_the_image() -> None:
    rgb, normalised = batch(32)
    found = planes(("dct",), normalised)[0].numpy() * np.array([50, 6, 1.5])[:, None, None]
    block = grey(rgb)[0][8:16, 16:24] - 128
    order = np.add.outer(np.arange(8), np.arange(8))
    strengths = dctn(block, norm="ortho")
    for band, inside in zip(found, (order <= 2, (order > 2) & (order <= 6), order > 6), strict=True):
        np.testing.assert_allclose(band[8:16, 16:24], idctn(strengths * inside, norm="ortho"), atol=1e-2)
    np.testing.assert_allclose(found.sum(axis=0), grey(rgb)[0] - 128, atol=1e-2)


def test_srm_of_a_ramp_is_zero_and_of_an_impulse_is_its_kernel() -> None:
    slope = torch.arange(32.0).expand(1, 3, 32, 32)
    assert planes(("srm",), (slope - MEAN) / STD)[..., 3:-3, 3:-3].abs().max() < 1e-3
    point = torch.full((1, 3, 33, 33), 100.0)
    point[..., 16, 16] += 2
    found = planes(("srm",), (point - MEAN) / STD)
    assert found[0, 0, 16, 16] == pytest.approx(-2, abs=1e-3)
    assert found[0, 0, 16, 15] == pytest.approx(1, abs=1e-3)
    assert found[0, 2, 14, 14] == pytest.approx(-2 / 12, abs=1e-3)


def test_phase_is_independent_of_contrast() -> None:
    rgb, _ = batch(32)
    one, other = (planes(("phase",), (picture - MEAN) / STD) for picture in (rgb, rgb * 0.5))
    torch.testing.assert_close(one, other, atol=1e-2, rtol=1e-2)


def test_ycbcr_of_gray_has_zero_chroma() -> None:
    flat = torch.full((1, 3, 8, 8), 128.0)
    torch.testing.assert_close(planes(("ycbcr",), (flat - MEAN) / STD), torch.zeros(1, 3, 8, 8), atol=1e-4, rtol=0)


@pytest.mark.parametrize("names", [(), ("rgb", "rgb"), ("rgb", "srn")])
def test_wrong_inputs_are_refused(names: tuple[Inputs, ...]) -> None:
    with pytest.raises(ConfigError, match="give one or more of rgb, ycbcr, srm, dct, phase, each once"):
        SideInputs(nn.Identity(), names, MEAN, STD)
