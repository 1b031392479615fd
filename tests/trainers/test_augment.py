"""Augmentation is drawn from (seed, epoch, id), and each change is off at probability 0."""

import dataclasses

import numpy as np
import pytest

from trainers.augment.pipeline import augment, sample_rng
from trainers.augment.settings import AugmentSettings

OFF = AugmentSettings(hflip=0, translate=0, color_jitter=0, jpeg=0, blur=0)
IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def test_nothing_changes_when_all_is_off() -> None:
    np.testing.assert_array_equal(augment(IMAGE, OFF, 32, sample_rng(0, 0, "a")), IMAGE)


def test_a_flip_is_a_flip() -> None:
    flipped = augment(IMAGE, dataclasses.replace(OFF, hflip=1), 32, sample_rng(0, 0, "a"))
    np.testing.assert_array_equal(flipped, IMAGE[:, ::-1])


@pytest.mark.parametrize("change", ["translate", "color_jitter", "jpeg", "blur"])
def test_each_change_changes_and_keeps_the_shape(change: str) -> None:
    before = IMAGE.copy()
    changed = augment(IMAGE, dataclasses.replace(OFF, **{change: 1}), 32, sample_rng(0, 0, "a"))  # type: ignore[arg-type]
    assert changed.shape == IMAGE.shape
    assert changed.dtype == np.uint8
    assert (changed != IMAGE).any()
    np.testing.assert_array_equal(IMAGE, before)


def test_the_same_row_and_epoch_draw_the_same() -> None:
    all_on = dataclasses.replace(OFF, hflip=0.5, translate=0.5, color_jitter=0.5, jpeg=0.5, blur=0.5)
    drawn = {
        key: augment(IMAGE, all_on, 32, sample_rng(*key)).tobytes()
        for key in [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b")]
    }
    assert augment(IMAGE, all_on, 32, sample_rng(0, 0, "a")).tobytes() == drawn[(0, 0, "a")]
    assert len(set(drawn.values())) == 4


def test_a_larger_image_gives_a_window_of_it() -> None:
    window = augment(IMAGE, OFF, 16, sample_rng(0, 0, "a"))
    places = [(i, j) for i in range(17) for j in range(17) if (IMAGE[i : i + 16, j : j + 16] == window).all()]
    assert len(places) == 1
