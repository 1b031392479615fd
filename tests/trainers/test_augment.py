"""Augmentation: drawn by (seed, epoch, id), independent for each operation, the same on the CPU and in batches."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from oof.errors import ConfigError
from tests.support.devices import DEVICES
from trainers.augment.arrays import to_grey
from trainers.augment.compression import DoubleJpeg, through_double_jpeg, through_jpeg
from trainers.augment.degrade import Step, degrade, sample_chain
from trainers.augment.noise import Noise
from trainers.augment.pipeline import (
    NEUTRAL,
    AugmentParams,
    augment_batch,
    augment_image,
    sample_params,
    start_on_host,
)
from trainers.augment.quantize import quantize
from trainers.augment.random_streams import ImageRandom
from trainers.augment.settings import DegradeSettings
from trainers.augment.window import Window
from trainers.kinds.timm.settings import TimmSettings
from trainers.media.arrays import Image

OFF = TimmSettings(backbone="x", image_size=32, hflip=0, translate=0, color_jitter=0, jpeg=0, blur=0)
IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
OPERATIONS = "hflip translate color_jitter jpeg blur noise downscale grid_cutout".split()


def changed_settings(**values: object) -> TimmSettings:
    return dataclasses.replace(OFF, **values)  # type: ignore[arg-type]


def augment(settings: TimmSettings, seed: int = 0, epoch: int = 0, id_: str = "a") -> Image:
    params = sample_params(settings, len(IMAGE), settings.image_size, ImageRandom(seed, epoch, id_))
    return np.ascontiguousarray(augment_image(IMAGE, params, settings.image_size))


def photo(seed: int, size: int) -> Image:
    """Smooth colours with grain, as photos have."""
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
def test_adding_an_operation_does_not_change_the_draws_of_the_others(added: str) -> None:
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


def test_operations_have_the_requested_probability() -> None:
    settings = changed_settings(**dict.fromkeys(OPERATIONS, 0.3))
    drawn = [sample_params(settings, 32, 32, ImageRandom(0, 0, f"r{row}")) for row in range(2000)]
    none = AugmentParams()
    for name in ("jitter", "jpeg", "sigma", "noise", "scale", "cells"):
        assert np.mean([getattr(one, name) != getattr(none, name) for one in drawn]) == pytest.approx(0.3, abs=0.04)
    assert np.mean([one.window.flip for one in drawn]) == pytest.approx(0.3, abs=0.04)
    assert all(0.3 <= one.sigma <= 1.5 for one in drawn if one.sigma)
    both = np.array([(one.sigma > 0, one.noise.sigma > 0) for one in drawn])
    assert both.all(1).mean() == pytest.approx(0.09, abs=0.03)  # separate streams: independent


def test_a_larger_image_is_cropped_to_a_window() -> None:
    window = augment(changed_settings(image_size=16, crop=32))
    places = [(i, j) for i in range(17) for j in range(17) if (IMAGE[i : i + 16, j : j + 16] == window).all()]
    assert len(places) == 1


# ---- one image by OpenCV against batches on every device ----


def both_ways(
    params: list[AugmentParams], size: int, device: str, *, edge: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the results of OpenCV and of the device for photos, (batch, size, size, 3)."""
    images = [photo(row, edge or size) for row in range(len(params))]
    expected = np.stack([augment_image(image, one, size) for image, one in zip(images, params, strict=True)])
    batch = augment_batch(torch.from_numpy(np.stack(images)).to(device), params, size)
    found = batch.cpu().numpy()
    assert found.dtype == np.uint8
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
def test_downscaling_agrees_to_one_gray_level(device: str) -> None:
    for size in (64, 75):
        params = [AugmentParams(scale=scale) for scale in (0.4, 0.5, 0.63, 0.75, 0.9, 1.0)]
        expected, found = both_ways(params, size, device)
        difference = np.abs(expected - found)
        assert difference.max() <= 2
        assert (difference > 1).mean() < 0.001
        assert difference.mean() < 0.06


@pytest.mark.parametrize("device", DEVICES)
def test_blur_agrees_to_one_gray_level(device: str) -> None:
    params = [AugmentParams(sigma=sigma) for sigma in (0.3, 0.45, 0.6, 1.0, 1.5, 0.0)]
    expected, found = both_ways(params, 64, device)
    difference = np.abs(expected - found)
    assert difference.max() <= 1
    assert difference.mean() < 0.2


@pytest.mark.parametrize("device", DEVICES)
def test_jpeg_agrees_to_one_gray_level_on_average(device: str) -> None:
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
    np.testing.assert_array_equal(found[1:2], again)  # regardless of the rest of the batch
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


@pytest.mark.parametrize("device", DEVICES)
def test_what_the_host_starts_is_completed_by_the_device(device: str) -> None:
    settings = changed_settings(
        image_size=64, crop=80, hflip=0.5, color_jitter=0.5, blur=0.3, downscale=0.3, jpeg=0.3, grid_cutout=0.3
    )
    params = [sample_params(settings, 80, 64, ImageRandom(1, 2, f"x{row}")) for row in range(64)]
    photos = [photo(row, 80) for row in range(len(params))]
    started = [start_on_host(image, one, 64) for image, one in zip(photos, params, strict=True)]
    rest = [one.after_start for one in params]
    found = augment_batch(torch.from_numpy(np.stack(started)).to(device), rest, 64)
    whole = augment_batch(torch.from_numpy(np.stack(photos)).to(device), params, 64)
    assert torch.equal(found, whole)
    done = [row for row, one in enumerate(rest) if one == NEUTRAL]
    assert 4 < len(done) < 60
    for row in done:
        assert rest[row] is NEUTRAL
        np.testing.assert_array_equal(started[row], augment_image(photos[row], params[row], 64))


def test_a_batch_without_anything_to_change_is_returned_as_it_is() -> None:
    images = torch.from_numpy(np.stack([IMAGE] * 3))
    assert augment_batch(images, [NEUTRAL] * 3, 32) is images
    assert augment_batch(images, [NEUTRAL] * 3, 16).shape == (3, 16, 16, 3)


def test_every_draw_of_every_operation_can_be_applied_to_a_batch() -> None:
    settings = changed_settings(**dict.fromkeys([*OPERATIONS, "webp"], 0.4), randaugment=2)
    for step in range(20):
        params = [sample_params(settings, 32, 32, ImageRandom(0, step, f"r{row}")) for row in range(8)]
        images = torch.from_numpy(np.stack([start_on_host(IMAGE, one, 32) for one in params]))
        found = augment_batch(images, [one.after_start for one in params], 32)
        assert found.dtype == torch.uint8
        assert found.shape == (8, 32, 32, 3)


def test_operations_without_a_batched_version_are_refused_if_images_are_decoded_on_the_device() -> None:
    for name in ("webp", "self_blend", "face_cutout"):
        with pytest.raises(ConfigError, match=f"and there is no GPU version of {name}"):
            changed_settings(decode="gpu", **{name: 0.5})


# ---- chains of degradations ----

CHAIN_OPERATIONS = DegradeSettings().operations
ON_DEVICE = tuple(name for name in CHAIN_OPERATIONS if name != "webp")


def chain(row: int, *, epoch: int = 0, seed: int = 0, **values: object) -> tuple[Step, ...]:
    settings = DegradeSettings(**{"probability": 1.0, **values})  # type: ignore[arg-type]
    return sample_chain(settings, ImageRandom(seed, epoch, f"r{row}"))


def test_chains_are_off_by_default_and_change_no_other_draws() -> None:
    all_on = dict.fromkeys([*OPERATIONS, "webp"], 0.5)
    for row in range(50):
        random = ImageRandom(0, 1, f"r{row}")
        plain = sample_params(changed_settings(**all_on), 32, 32, random)
        with_chain = sample_params(changed_settings(**all_on, degrade=DegradeSettings(probability=1.0)), 32, 32, random)
        assert plain.chain == ()
        assert with_chain.chain
        assert dataclasses.replace(with_chain, chain=()) == plain


def test_a_chain_depends_only_on_seed_epoch_and_id() -> None:
    drawn = [chain(0), chain(1), chain(0, epoch=1), chain(0, seed=1)]
    assert chain(0) == drawn[0]
    assert len({str(one) for one in drawn}) == 4


def test_chains_have_every_order_and_length_and_each_operation_once() -> None:
    chains = [chain(row, length=3, operations=("jpeg", "blur", "noise")) for row in range(2000)]
    orders = Counter(tuple(step.operation for step in one) for one in chains if len(one) == 3)
    assert len(orders) == 6
    assert min(orders.values()) > 0.7 * max(orders.values())
    lengths = Counter(map(len, chains))
    assert all(lengths[count] / 2000 == pytest.approx(1 / 3, abs=0.04) for count in (1, 2, 3))
    share = np.mean([bool(chain(row, probability=0.3)) for row in range(2000)])
    assert share == pytest.approx(0.3, abs=0.04)
    assert {len(chain(row, operations=("jpeg",), length=4)) for row in range(20)} == {1}


def test_adding_an_operation_does_not_change_strength_and_order_of_the_others() -> None:
    for row in range(50):
        few = chain(row, operations=("jpeg", "blur", "noise"), length=7)
        many = chain(row, length=7)
        common = {step.operation for step in few} & {step.operation for step in many}
        assert [step for step in few if step.operation in common] == [step for step in many if step.operation in common]


@pytest.mark.parametrize("name", CHAIN_OPERATIONS)
def test_each_degradation_changes_only_the_image(name: str) -> None:
    image = photo(3, 48)
    before = image.copy()
    changed = degrade(image, chain(5, operations=(name,), length=1))
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    assert 0 < np.abs(changed.astype(int) - image).mean() < 20


@pytest.mark.parametrize("name", ON_DEVICE)
@pytest.mark.parametrize("device", DEVICES)
def test_each_degradation_agrees_on_every_device(name: str, device: str) -> None:
    for size in (64, 50):
        params = [AugmentParams(chain=chain(row, operations=(name,), length=1)) for row in range(12)]
        expected, found = both_ways(params, size, device)
        difference = np.abs(expected - found)
        if name == "noise":  # another field of the same distribution
            for row, one in enumerate(params):
                spread = one.chain[0].strength.sigma
                plain = photo(row, size).astype(int)
                assert (found[row] - plain).std() == pytest.approx(np.hypot(spread, 0.3), rel=0.08)
            continue
        assert difference.mean() < {"quantize": 1e-9, "blur": 0.2, "resize": 0.35, "double_jpeg": 2.0}.get(name, 1.0)
        assert np.quantile(difference, 0.99) <= {"quantize": 0, "blur": 1, "resize": 1}.get(name, 12)


@pytest.mark.parametrize("device", DEVICES)
def test_whole_chains_agree_on_every_device(device: str) -> None:
    operations = tuple(name for name in ON_DEVICE if name != "noise")
    params = [AugmentParams(chain=chain(row, operations=operations)) for row in range(24)]
    assert len({len(one.chain) for one in params}) == 4
    expected, found = both_ways(params, 64, device)
    assert np.abs(expected - found).mean() < 1
    again = augment_batch(torch.from_numpy(np.stack([photo(7, 64)])).to(device), params[7:8], 64)
    np.testing.assert_array_equal(again[0].cpu().numpy(), found[7])  # regardless of the rest of the batch


def test_the_blocks_of_the_second_jpeg_have_the_offset_of_the_chain() -> None:
    image = photo(1, 64)
    once = through_jpeg(image, 40)
    aligned = through_double_jpeg(image, DoubleJpeg(40, 95))
    apart = through_double_jpeg(image, DoubleJpeg(40, 95, 4, 3))
    assert np.abs(aligned.astype(int) - once).mean() < np.abs(apart.astype(int) - once).mean()


def test_quantising_keeps_the_requested_number_of_levels() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    for levels in (2, 12, 64):
        assert len(np.unique(quantize(every, levels))) == levels
        np.testing.assert_array_equal(quantize(quantize(every, levels), levels), quantize(every, levels))


def test_a_chain_with_webp_runs_on_the_cpu_or_is_refused() -> None:
    params = [AugmentParams(chain=chain(row, operations=("webp", "blur"), length=2)) for row in range(20)]
    has_webp = ["webp" in [step.operation for step in one.chain] for one in params]
    assert [one.needs_host for one in params] == has_webp
    assert any(has_webp)
    with pytest.raises(ConfigError, match=r"there is no GPU version of webp in degrade.operations"):
        changed_settings(decode="gpu", degrade=DegradeSettings(probability=0.1))
    changed_settings(decode="gpu", degrade=DegradeSettings(probability=0.1, operations=("jpeg", "blur")))


@pytest.mark.parametrize(("values", "message"), [
    ({"probability": 1.5}, "degrade.probability = 1.5 is out of range"),
    ({"operations": ()}, "degrade.operations = .* must name one operation or more"),
    ({"operations": ("jpeg", "jpeg")}, "each once"),
    ({"length": 0}, "degrade.length = 0 is out of range; it must be from 1 to 7"),
])  # fmt: skip
def test_settings_of_chains_are_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DegradeSettings(**values)
