"""Downscaling and upscaling with independently chosen filters, as caused by uploads and downloads."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainers.augment.arrays import as_image, round_grey
from trainers.media.arrays import Image
from trainers.runtime.device import on_device

_REDUCE = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
_ENLARGE = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
_SCALES = (0.35, 0.95)


@dataclass(frozen=True)
class Resampling:
    """Ratio of the smaller size to the original, and OpenCV's flags for the filters of both steps."""

    scale: float
    reduce: int = cv2.INTER_AREA
    enlarge: int = cv2.INTER_CUBIC


def sample_resampling(rng: np.random.Generator) -> Resampling:
    """Draw a scale from 0.35 to 0.95 and a filter for each step."""
    amount = rng.random()
    reduce, enlarge = (int(filters[rng.integers(len(filters))]) for filters in (_REDUCE, _ENLARGE))
    return Resampling(float(_SCALES[0] + (_SCALES[1] - _SCALES[0]) * amount), reduce, enlarge)


def resample(image: Image, change: Resampling) -> Image:
    """Resize a square image to the smaller size and back."""
    size = len(image)
    small = _small_size(change.scale, size)
    reduced = cv2.resize(np.ascontiguousarray(image), (small, small), interpolation=change.reduce)
    return as_image(cv2.resize(reduced, (size, size), interpolation=change.enlarge))


def resample_batch(batch: Tensor, changes: Sequence[Resampling]) -> Tensor:
    """Apply `resample` to grey values (batch, 3, size, size); the results agree to one grey level on average.

    Every filter is linear along each axis, so both steps are products with one matrix per image. Differences are larger
    if a tie in the downscaled image is rounded differently, which the upscaling amplifies.
    """
    size = batch.shape[2]
    smalls = [_small_size(change.scale, size) for change in changes]
    reduce = np.zeros((len(changes), max(smalls), size), np.float32)
    enlarge = np.zeros((len(changes), size, max(smalls)), np.float32)
    for row, (change, small) in enumerate(zip(changes, smalls, strict=True)):
        reduce[row, :small] = _weights(size, small, change.reduce)
        enlarge[row, :, :small] = _weights(small, size, change.enlarge)
    for weights in (reduce, enlarge):
        along = on_device(weights, batch.device)[:, None]
        batch = round_grey(along @ batch @ along.transpose(2, 3))
    return batch


def _small_size(scale: float, size: int) -> int:
    return max(8, round(size * scale))


@lru_cache(maxsize=256)
def _weights(size: int, new_size: int, flag: int) -> NDArray[np.float32]:
    """Return the weight of each pixel of an axis in each new pixel, (new_size, size), by resizing unit vectors."""
    unit = np.eye(size, dtype=np.float32)
    return np.asarray(cv2.resize(unit, (size, new_size), interpolation=flag), np.float32)
