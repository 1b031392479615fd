"""Resizing to a smaller size and back, each way with a filter of its own, as uploads and downloads do."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainers.augment.arrays import Image, as_image, round_grey
from trainers.runtime.device import on_device

_REDUCE = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
_ENLARGE = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
_SCALES = (0.35, 0.95)


@dataclass(frozen=True)
class Resampling:
    """Smaller size / size, and the flags of OpenCV for the filters of both ways."""

    scale: float
    reduce: int = cv2.INTER_AREA
    enlarge: int = cv2.INTER_CUBIC


def sample_resampling(rng: np.random.Generator) -> Resampling:
    """Draw a scale of 0.35 to 0.95 and a filter for each way."""
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
    """Do the same with grey values (batch, 3, size, size); agrees with `resample` to one grey level on average.

    Every filter is linear along each axis, so both ways are products with one matrix per image. Values differ by more
    where a tie of the reduced image is rounded to the other side, which the enlargement sharpens.
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
    """Return the weight of each pixel of an axis in each new pixel, (new_size, size): OpenCV resizes unit vectors."""
    unit = np.eye(size, dtype=np.float32)
    return np.asarray(cv2.resize(unit, (size, new_size), interpolation=flag), np.float32)
