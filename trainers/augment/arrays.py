"""What the operations of augmentation share: types, grey values, and parameters on a device without waiting for it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainers.runtime.device import on_device

Image = NDArray[np.uint8]  # RGB, (height, width, 3)


def as_image(value: object) -> Image:
    """Return what an OpenCV function gave, as an image for the type checker."""
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
