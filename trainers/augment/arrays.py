"""Helpers for augmentation: grey values, and parameters on a device without synchronisation."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainers.media.arrays import Image
from trainers.runtime.device import on_device

T = TypeVar("T")


def as_image(value: object) -> Image:
    """Return the result of an OpenCV function, typed as an image."""
    assert isinstance(value, np.ndarray)
    return value


def to_grey(values: NDArray[np.floating]) -> Image:
    """Round to grey values and clip them to 0 to 255."""
    grey: Image = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return grey


def round_grey(values: Tensor) -> Tensor:
    """Round to whole grey values and clip them to 0 to 255, still as floats."""
    return values.round().clamp(0, 255)


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """Return one float32 value per image, shape (batch, 1, 1, 1), on the device of `like`."""
    return on_device(np.asarray(values, np.float32).reshape(-1, 1, 1, 1), like.device)


def change_rows(
    batch: Tensor, rows: Sequence[int], function: Callable[[Tensor, list[T]], Tensor], values: list[T]
) -> Tensor:
    """Apply an operation to some images of a batch (batch, …), given its parameters for each of these rows."""
    if not rows:
        return batch
    if len(rows) == len(batch):
        return function(batch, values)
    chosen = on_device(np.array(rows, np.int64), batch.device)
    return batch.index_copy(0, chosen, function(batch[chosen], values))
