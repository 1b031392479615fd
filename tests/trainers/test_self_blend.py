"""Tests of trainers.augment.self_blend: the mask, unchanged regions, and that colours do not reveal the label."""

import cv2
import numpy as np
import pytest

from dfens.demo.faces import draw_face, draw_person
from oof.errors import DataError
from oof.metrics import roc_auc
from trainers.augment.self_blend import self_blend
from trainers.media.arrays import Image


def face(seed: int, size: int = 64) -> Image:
    rng = np.random.default_rng(seed)
    return draw_face(draw_person(rng), rng, size)


def test_the_same_generator_gives_the_same_fake_and_does_not_change_its_input() -> None:
    image = face(0)
    before = image.copy()
    first, first_mask = self_blend(image, np.random.default_rng(5))
    again, again_mask = self_blend(image, np.random.default_rng(5))
    other, _ = self_blend(image, np.random.default_rng(6))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first_mask, again_mask)
    np.testing.assert_array_equal(image, before)
    assert (first != other).any()


def test_the_mask_has_an_inside_an_outside_and_a_soft_edge() -> None:
    for seed in range(30):
        _, mask = self_blend(face(seed), np.random.default_rng(seed))
        assert mask.dtype == np.float32
        assert mask.min() >= 0
        assert 0.45 <= mask.max() <= 1
        assert 0.02 < (mask > 0.25).mean() < 0.6  # a part of the face, never the whole image
        assert mask[0].max() == 0
        assert ((mask > 0.05) & (mask < 0.4)).any()


def test_outside_the_mask_only_the_color_changes() -> None:
    """Outside, the fake is an affine function of each channel of the image (or the image itself)."""
    for seed in range(20):
        image = np.clip(face(seed), 60, 190)  # recoloring then never reaches 0 or 255
        fake, mask = self_blend(image, np.random.default_rng(seed))
        outside = mask == 0
        for channel in range(3):
            x, y = image[outside][:, channel].astype(float), fake[outside][:, channel].astype(float)
            slope, offset = np.polyfit(x, y, 1)
            assert np.abs(y - (slope * x + offset)).max() < 1.2


def test_the_blend_has_a_seam() -> None:
    """Between inside and outside, the difference between image and fake is not the same as outside."""
    changed = []
    for seed in range(30):
        image = face(seed)
        fake, mask = self_blend(image, np.random.default_rng(seed))
        difference = fake.astype(float) - image
        changed.append(np.abs(difference[mask > 0.4].mean(axis=0) - difference[mask == 0].mean(axis=0)).max())
    assert np.mean(np.array(changed) > 3) > 0.9


def test_neither_mean_color_nor_sharpness_reveals_the_label() -> None:
    reals, fakes = [], []
    for seed in range(150):
        image = face(seed)
        reals.append(image if seed % 2 else face(seed + 1000))
        fakes.append(self_blend(image, np.random.default_rng(seed))[0])
    y = np.repeat([0, 1], 150)
    for channel in range(3):
        mean = np.array([picture[..., channel].mean() for picture in reals + fakes])
        assert 0.4 < roc_auc(y, mean) < 0.6
    border = np.array([cv2.Laplacian(picture[:10], cv2.CV_64F).std() for picture in reals + fakes])
    assert 0.4 < roc_auc(y, border) < 0.6


def test_landmarks_place_the_blend() -> None:
    angles = np.linspace(0, 2 * np.pi, 30)
    points = np.stack([20 + 8 * np.cos(angles), 40 + 8 * np.sin(angles)], axis=1)
    _, mask = self_blend(face(1), np.random.default_rng(0), landmarks=points)
    weights = mask / mask.sum()
    down, across = np.indices(mask.shape)
    assert abs((weights * across).sum() - 20) < 3
    assert abs((weights * down).sum() - 40) < 3


def test_smaller_strength_is_harder_to_see() -> None:
    def change(strength: float) -> float:
        pairs = [
            (face(seed), self_blend(face(seed), np.random.default_rng(seed), strength=strength)[0])
            for seed in range(20)
        ]
        return float(np.mean([np.abs(fake.astype(float) - image).mean() for image, fake in pairs]))

    assert change(0.25) < 0.6 * change(1.0)


def test_wrong_input_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"needs an RGB image of uint8.*found shape \(8, 8, 3\)"):
        self_blend(np.zeros((8, 8, 3), np.uint8), rng)
    with pytest.raises(DataError, match="type float64"):
        self_blend(np.zeros((64, 64, 3)), rng)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"Expected landmarks of shape.*found \(3, 2\)"):
        self_blend(face(0), rng, landmarks=np.zeros((3, 2)))
