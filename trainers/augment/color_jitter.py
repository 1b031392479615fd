"""Color jitter: contrast around mid grey, brightness, and a color cast."""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from trainers.augment.arrays import as_image, round_grey, to_grey
from trainers.media.arrays import Image
from trainers.runtime.device import on_device

# contrast, and what is added to red, green and blue
Jitter = tuple[float, float, float, float]
NONE: Jitter = (1.0, 0.0, 0.0, 0.0)


def sample_jitter(probability: float, rng: np.random.Generator) -> Jitter:
    """Draw a contrast of 0.8 to 1.2, a brightness of up to 20 grey levels and up to 12 for each channel."""
    chance, contrast, brightness, *channels = rng.random(6).tolist()
    if chance >= probability:
        return NONE
    red, green, blue = (24 * value - 12 + 40 * brightness - 20 for value in channels)
    return 0.8 + 0.4 * contrast, red, green, blue


def jitter_color(image: Image, jitter: Jitter) -> Image:
    """Change the colors of an image (height, width, 3)."""
    contrast, *offset = (np.float32(value) for value in jitter)
    # in float32 and in this order, so that a device computes bit-identical values
    values = (np.arange(256, dtype=np.float32) - 128)[:, None] * contrast + 128 + np.array(offset, np.float32)
    return as_image(cv2.LUT(np.ascontiguousarray(image), to_grey(values)[:, None, :]))


def jitter_colors(batch: Tensor, jitters: Sequence[Jitter]) -> Tensor:
    """Change the colors of grey values (batch, 3, height, width); bit-identical to `jitter_color`."""
    values = on_device(np.array(jitters, np.float32).reshape(-1, 4, 1, 1), batch.device)
    return round_grey((batch - 128) * values[:, :1] + 128 + values[:, 1:])
