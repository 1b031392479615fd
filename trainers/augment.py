"""Augmentation of one decoded image, drawn from (seed, epoch, id): resuming draws the same again."""

import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

from trainers.settings import TimmSettings

Image = NDArray[np.uint8]


def sample_rng(seed: int, epoch: int, id_: str) -> np.random.Generator:
    """The generator of one row in one epoch, whatever came before it."""
    return np.random.default_rng([seed, epoch, zlib.crc32(id_.encode())])


def augment(image: Image, settings: TimmSettings, rng: np.random.Generator) -> Image:
    """A changed copy of an image at the size that the network sees.

    Args:
        image: RGB, shape (edge, edge, 3); edge is settings.crop, or image_size where that is 0.
        settings: which changes, and how likely each is.
        rng: of every draw.

    Returns:
        RGB, shape (image_size, image_size, 3).
    """
    image = _window(image, settings, rng)
    if rng.random() < settings.hflip:
        image = image[:, ::-1]
    if rng.random() < settings.colour:
        image = _recolour(image, rng)
    if rng.random() < settings.blur:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.5)).astype(np.uint8)
    if rng.random() < settings.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 100))]
        coded = cv2.imencode(".jpg", np.ascontiguousarray(image), quality)[1]
        decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)  # three planes in, the same three out
        assert decoded is not None
        image = decoded.astype(np.uint8)
    return np.ascontiguousarray(image)


def _window(image: Image, settings: TimmSettings, rng: np.random.Generator) -> Image:
    """A random window where the image is larger, else a small shift with mirrored edges."""
    edge, size = len(image), settings.image_size
    if edge > size:
        top, left = rng.integers(0, edge - size + 1, 2)
        return image[top : top + size, left : left + size]
    if rng.random() >= settings.shift:
        return image
    most = max(1, size // 16)
    down, right = rng.integers(-most, most + 1, 2)
    padded = cv2.copyMakeBorder(image, most, most, most, most, cv2.BORDER_REFLECT_101)
    shifted: Image = padded[most + down : most + down + size, most + right : most + right + size].astype(np.uint8)
    return shifted


def _recolour(image: Image, rng: np.random.Generator) -> Image:
    """Brightness, contrast and a tint."""
    contrast = rng.uniform(0.8, 1.2)
    tint = rng.uniform(-12, 12, 3) + rng.uniform(-20, 20)
    changed = (image.astype(np.float32) - 128) * contrast + 128 + tint
    return np.clip(changed, 0, 255).astype(np.uint8)
