"""Random crop, translation and mirroring of the decoded image.

If the image is larger than the network's input, a random window is taken (`crop`); otherwise the image is shifted by up
to a sixteenth of its size, with reflected borders (`translate`). `hflip` swaps left and right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from trainers.augment.arrays import as_image
from trainers.media.arrays import Image
from trainers.runtime.device import on_device


@dataclass(frozen=True)
class Window:
    """Top left pixel of the window in the image extended by `border` pixels on all sides, and whether to mirror."""

    top: int = 0
    left: int = 0
    border: int = 0
    flip: bool = False


def sample_place(probability: float, stored_size: int, size: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw top, left and border of a window of `size` pixels in an image of `stored_size` pixels."""
    chance, down, right = rng.random(3)
    if stored_size > size:
        return int(down * (stored_size - size + 1)), int(right * (stored_size - size + 1)), 0
    if chance >= probability:
        return 0, 0, 0
    border = max(1, size // 16)
    return int(down * (2 * border + 1)), int(right * (2 * border + 1)), border


def take_window(image: Image, window: Window, size: int) -> Image:
    """Cut the window out of a square image (height, width, 3); may share memory with it."""
    border = window.border
    if border:
        image = as_image(cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_REFLECT_101))
    image = image[window.top : window.top + size, window.left : window.left + size]
    # copying numpy's mirrored view takes 10 times as long
    return as_image(cv2.flip(image, 1)) if window.flip else image


def take_windows(images: Tensor, windows: Sequence[Window], size: int) -> Tensor:
    """Cut each image's window out of square images (batch, height, width, 3); returns (batch, 3, size, size)."""
    batch, stored_size = images.permute(0, 3, 1, 2), images.shape[1]
    starts = [(window.top - window.border, window.left - window.border, window.flip) for window in windows]
    top, left, flip = on_device(np.array(starts, np.int64).reshape(-1, 3), images.device).unbind(1)
    steps = torch.arange(size, device=images.device)

    def mirrored(at: Tensor) -> Tensor:
        at = at.abs()
        return torch.where(at >= stored_size, 2 * (stored_size - 1) - at, at)

    rows = mirrored(top[:, None] + steps)  # (batch, size)
    columns = mirrored(left[:, None] + torch.where(flip[:, None] > 0, size - 1 - steps, steps))
    every = torch.arange(len(batch), device=images.device)[:, None, None, None]
    plane = torch.arange(3, device=images.device)[None, :, None, None]
    return batch[every, plane, rows[:, None, :, None], columns[:, None, None, :]]
