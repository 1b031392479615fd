"""RandAugment: a few random operations of medium strength on one image.

Cubuk et al., RandAugment: Practical automated data augmentation with a reduced search space, NeurIPS 2020.
Operations that destroy the traces used by detectors at any strength (posterize, solarize) are left out.
"""

from collections.abc import Callable

import cv2
import numpy as np

from trainers.media.arrays import Image


def randaugment(image: Image, operations: int, seed: int) -> Image:
    """Apply a number of operations, drawn from the seed, to an RGB image of shape (size, size, 3)."""
    rng = np.random.default_rng([seed, 1])
    for _ in range(operations):
        operation = _OPERATIONS[int(rng.integers(len(_OPERATIONS)))]
        image = operation(np.ascontiguousarray(image), float(rng.uniform(-1, 1)))
    return image


def _affine(matrix: list[list[float]], image: Image) -> Image:
    """Apply an affine matrix around the centre, with reflected borders."""
    half = (len(image) - 1) / 2
    full = np.array(matrix, np.float64)
    full[:, 2] += half - full[:, :2] @ [half, half]
    moved: object = cv2.warpAffine(
        image, full, image.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return _image(moved)


def _rotate(image: Image, amount: float) -> Image:
    angle = amount * np.pi / 9  # up to 20 degrees
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    return _affine([[cos, -sin, 0], [sin, cos, 0]], image)


def _shear_x(image: Image, amount: float) -> Image:
    return _affine([[1, amount * 0.2, 0], [0, 1, 0]], image)


def _shear_y(image: Image, amount: float) -> Image:
    return _affine([[1, 0, 0], [amount * 0.2, 1, 0]], image)


def _translate_x(image: Image, amount: float) -> Image:
    return _affine([[1, 0, amount * 0.15 * len(image)], [0, 1, 0]], image)


def _translate_y(image: Image, amount: float) -> Image:
    return _affine([[1, 0, 0], [0, 1, amount * 0.15 * len(image)]], image)


def _mix(image: Image, other: Image, amount: float) -> Image:
    """Return image + amount * (image - other), a step towards or away from a degenerate image."""
    return _image(cv2.addWeighted(image, 1 + amount, other, -amount, 0))


def _brightness(image: Image, amount: float) -> Image:
    return _mix(image, np.zeros_like(image), amount * 0.3)


def _contrast(image: Image, amount: float) -> Image:
    return _mix(image, np.full_like(image, round(float(image.mean()))), amount * 0.4)


def _saturation(image: Image, amount: float) -> Image:
    grey = _image(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    return _mix(image, np.repeat(grey[..., None], 3, axis=2), amount * 0.6)


def _sharpness(image: Image, amount: float) -> Image:
    return _mix(image, _image(cv2.blur(image, (3, 3))), amount * 0.8)


def _stretch(image: Image, amount: float) -> Image:
    """Stretch each channel to the full range of grey values."""
    low, high = image.min((0, 1)).astype(np.float64), image.max((0, 1)).astype(np.float64)
    table = (np.arange(256)[:, None] - low) * 255 / np.maximum(high - low, 1)
    return _image(cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8)[:, None, :]))


def _image(value: object) -> Image:
    assert isinstance(value, np.ndarray)
    return value


_OPERATIONS: list[Callable[[Image, float], Image]] = [
    _rotate, _shear_x, _shear_y, _translate_x, _translate_y, _brightness, _contrast, _saturation, _sharpness, _stretch,
]  # fmt: skip
