"""Reduce the grey levels of each channel, as palettes and coarse colour tables do."""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from trainers.augment.arrays import as_image, to_grey
from trainers.media.arrays import Image
from trainers.runtime.device import on_device

_LEVELS = (12, 64)


def sample_levels(rng: np.random.Generator) -> int:
    """Draw a number of levels from 12 to 64, log-uniformly."""
    low, high = np.log(_LEVELS)
    return round(float(np.exp(low + (high - low) * rng.random())))


def quantize(image: Image, levels: int) -> Image:
    """Round each value of an image (height, width, 3) to the nearest of `levels` even steps from 0 to 255."""
    return as_image(cv2.LUT(np.ascontiguousarray(image), _table(levels)))


def quantize_batch(batch: Tensor, levels: Sequence[int]) -> Tensor:
    """Apply `quantize` to grey values (batch, 3, height, width), with bit-identical results."""
    tables = np.stack([_table(count) for count in levels]).astype(np.float32)
    found = on_device(tables, batch.device).gather(1, batch.flatten(1).long())
    return found.view_as(batch)


def _table(levels: int) -> Image:
    """Return the new value of each of the 256 grey values."""
    steps = np.rint(np.arange(256) * (levels - 1) / 255)
    return to_grey(steps * 255 / (levels - 1))
