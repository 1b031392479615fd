"""Augmentation: drawn from (seed, epoch, id), each operation by itself, and the same on the CPU and for batches."""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from oof.errors import ConfigError
from tests.support.devices import DEVICES
from trainers.augment.arrays import Image, to_grey
from trainers.augment.noise import Noise
from trainers.augment.pipeline import AugmentParams, augment_batch, augment_image, sample_params
from trainers.augment.random_streams import ImageRandom
from trainers.augment.window import Window
from trainers.kinds.timm.settings import TimmSettings

OFF = TimmSettings(backbone="x", image_size=32, hflip=0, translate=0, color_jitter=0, jpeg=0, blur=0)
IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
OPERATIONS = "hflip translate color_jitter jpeg blur noise downscale grid_cutout".split()


def changed_settings(**values: object) -> TimmSettings:
    return dataclasses.replace(OFF, **values)  # type: ignore[arg-type]


def augment(settings: TimmSettings, seed: int = 0, epoch: int = 0, id_: str = "a") -> Image:
    params = sample_params(settings, len(IMAGE), settings.image_size, ImageRandom(seed, epoch, id_))
    return np.ascontiguousarray(augment_image(IMAGE, params, settings.image_size))


def photo(seed: int, size: int) -> Image:
    """Smooth colors with grain, as photos have."""
    rng = np.random.default_rng(seed)
    smooth = cv2.resize(rng.integers(0, 256, (7, 7, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    return to_grey(smooth + rng.normal(0, 6, smooth.shape))


# ---- sampling ----


def test_nothing_changes_when_all_is_off() -> None:
    np.testing.assert_array_equal(augment(OFF), IMAGE)


def test_a_flip_is_a_flip() -> None:
    np.testing.assert_array_equal(augment(changed_settings(hflip=1)), IMAGE[:, ::-1])


@pytest.mark.parametrize("change", [*OPERATIONS, "webp", "randaugment"])
def test_each_operation_changes_the_image_and_keeps_its_shape(change: str) -> None:
    before = IMAGE.copy()
    changed = augment(changed_settings(**{change: 1}), id_="b")
    assert changed.shape == IMAGE.shape
    assert changed.dtype == np.uint8
    assert (changed != IMAGE).any()
    np.testing.assert_array_equal(IMAGE, before)


def test_the_same_row_and_epoch_draw_the_same() -> None:
    all_on = changed_settings(**dict.fromkeys(OPERATIONS, 0.5))
    drawn = {key: augment(all_on, *key).tobytes() for key in [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b")]}
    assert augment(all_on).tobytes() == drawn[(0, 0, "a")]
    assert len(set(drawn.values())) == 4


@pytest.mark.parametrize("added", [*OPERATIONS, "randaugment"])
def test_an_operation_that_is_added_leaves_the_draws_of_the_others(added: str) -> None:
    others = dict.fromkeys([name for name in OPERATIONS if name != added], 0.7)
    fields = {
        "hflip": "window", "translate": "window", "color_jitter": "jitter", "jpeg": "jpeg", "blur": "sigma",
        "noise": "noise", "downscale": "scale", "grid_cutout": "cells",
    }  # fmt: skip
    for row in range(30):
        before = sample_params(changed_settings(**others), 32, 32, ImageRandom(0, 1, f"r{row}"))
        after = sample_params(changed_settings(**others, **{added: 1}), 32, 32, ImageRandom(0, 1, f"r{row}"))
        for name in others:
            one, other = getattr(before, fields[name]), getattr(after, fields[name])
            if name == "hflip":
                one, other = one.flip, other.flip
            elif name == "translate":
                one, other = (one.top, one.left, one.border), (other.top, other.left, other.border)
            assert one == other, name


def test_probabilities_are_kept() -> None:
    settings = changed_settings(**dict.fromkeys(OPERATIONS, 0.3))
    drawn = [sample_params(settings, 32, 32, ImageRandom(0, 0, f"r{row}")) for row in range(2000)]
    none = AugmentParams()
    for name in ("jitter", "jpeg", "sigma", "noise", "scale", "cells"):
        assert np.mean([getattr(one, name) != getattr(none, name) for one in drawn]) == pytest.approx(0.3, abs=0.04)
    assert np.mean([one.window.flip for one in drawn]) == pytest.approx(0.3, abs=0.04)
    assert all(0.3 <= one.sigma <= 1.5 for one in drawn if one.sigma)
    both = np.array([(one.sigma > 0, one.noise.sigma > 0) for one in drawn])
    assert both.all(1).mean() == pytest.approx(0.09, abs=0.03)  # streams of their own: independent


def test_a_larger_image_gives_a_window_of_it() -> None:
    window = augment(changed_settings(image_size=16, crop=32))
    places = [(i, j) for i in range(17) for j in range(17) if (IMAGE[i : i + 16, j : j + 16] == window).all()]
    assert len(places) == 1


# ---- one image by OpenCV against batches on every device ----


def both_ways(
    params: list[AugmentParams], size: int, device: str, *, edge: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What OpenCV and the device make of photos, (batch, size, size, 3)."""
    images = [photo(row, edge or size) for row in range(len(params))]
    expected = np.stack([augment_image(image, one, size) for image, one in zip(images, params, strict=True)])
    batch = augment_batch(torch.from_numpy(np.stack(images)).to(device), params, size)
    found = batch.permute(0, 2, 3, 1).cpu().numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, found.round())
    return expected.astype(int), found.astype(int)


def jittered(row: int) -> AugmentParams:
    rng = np.random.default_rng(row)
    return AugmentParams(jitter=(rng.uniform(0.8, 1.2), *rng.uniform(-32, 32, 3).tolist()))


def windowed(row: int) -> AugmentParams:
    rng = np.random.default_rng(row)
    top, left = rng.integers(0, 9, 2).tolist()
    return AugmentParams(window=Window(top, left, 4, bool(row % 2)))


@pytest.mark.parametrize(
    "make", [windowed, jittered, lambda row: AugmentParams(cells=0b110011 << row), lambda row: AugmentParams()]
)
@pytest.mark.parametrize("device", DEVICES)
def test_window_color_and_cutout_are_equal_on_every_device(make: Callable[[int], AugmentParams], device: str) -> None:
    for size in (48, 65):
        expected, found = both_ways([make(row) for row in range(6)], size, device)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("device", DEVICES)
def test_a_window_of_a_larger_image_is_equal_on_every_device(device: str) -> None:
    params = [AugmentParams(window=Window(3 * row, 16 - row, 0, row == 2)) for row in range(4)]
    expected, found = both_ways(params, 48, device, edge=64)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("device", DEVICES)
def test_downscaling_agrees_to_one_grey_level(device: str) -> None:
    for size in (64, 75):
        params = [AugmentParams(scale=scale) for scale in (0.4, 0.5, 0.63, 0.75, 0.9, 1.0)]
        expected, found = both_ways(params, size, device)
        difference = np.abs(expected - found)
        assert difference.max() <= 2
        assert (difference > 1).mean() < 0.001
        assert difference.mean() < 0.06


@pytest.mark.parametrize("device", DEVICES)
def test_blur_agrees_to_one_grey_level(device: str) -> None:
    params = [AugmentParams(sigma=sigma) for sigma in (0.3, 0.45, 0.6, 1.0, 1.5, 0.0)]
    expected, found = both_ways(params, 64, device)
    difference = np.abs(expected - found)
    assert difference.max() <= 1
    assert difference.mean() < 0.2


@pytest.mark.parametrize("device", DEVICES)
def test_jpeg_agrees_to_one_grey_level_on_average(device: str) -> None:
    for size in (64, 50):  # 50: blocks that reach beyond the border
        params = [AugmentParams(jpeg=quality) for quality in (50, 75, 90, 99)]
        expected, found = both_ways(params, size, device)
        assert np.abs(expected - found).mean() < 1
        assert abs((expected - found).mean()) < 0.1
        assert np.quantile(np.abs(expected - found), 0.999) <= 20


@pytest.mark.parametrize("device", DEVICES)
def test_noise_has_the_same_distribution_and_repeats(device: str) -> None:
    params = [AugmentParams(noise=Noise(sigma, row)) for row, sigma in enumerate((2.0, 5.0, 8.0))]
    images = torch.full((3, 64, 64, 3), 128, dtype=torch.uint8)
    found = augment_batch(images.to(device), params, 64).cpu().numpy()
    again = augment_batch(images[1:2].to(device), params[1:2], 64).cpu().numpy()
    np.testing.assert_array_equal(found[1:2], again)  # whatever else is in the batch
    for row, one in enumerate(params):
        spread = np.hypot(one.noise.sigma, 12**-0.5)  # rounding adds its own
        expected = augment_image(images[row].numpy(), one, 64).astype(float)
        assert expected.std() == pytest.approx(spread, rel=0.03)
        assert found[row].std() == pytest.approx(spread, rel=0.03)
        assert found[row].mean() == pytest.approx(128, abs=0.3)


@pytest.mark.parametrize("device", DEVICES)
def test_all_operations_together_agree(device: str) -> None:
    settings = changed_settings(
        image_size=64, hflip=0.5, translate=0.5, color_jitter=0.5, blur=0.5, downscale=0.5, jpeg=0.5, grid_cutout=0.3
    )
    params = [sample_params(settings, 64, 64, ImageRandom(1, 2, f"x{row}")) for row in range(32)]
    expected, found = both_ways(params, 64, device)
    assert np.abs(expected - found).mean() < 0.5


def test_every_draw_of_every_operation_can_be_applied_to_a_batch() -> None:
    settings = changed_settings(**dict.fromkeys([*OPERATIONS, "webp"], 0.4), randaugment=2)
    images = torch.from_numpy(np.stack([IMAGE] * 8))
    for step in range(20):
        params = [sample_params(settings, 32, 32, ImageRandom(0, step, f"r{row}")) for row in range(8)]
        found = augment_batch(images, params, 32)
        assert found.dtype == torch.float32
        assert torch.isfinite(found).all()


def test_operations_without_a_version_for_batches_are_refused_where_no_image_is_on_the_cpu() -> None:
    for name in ("webp", "self_blend", "face_cutout"):
        with pytest.raises(ConfigError, match=f"no image on the CPU, where {name} work"):
            changed_settings(decode="gpu", **{name: 0.5})
