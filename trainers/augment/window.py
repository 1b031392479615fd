"""Random crop, translation and mirroring of the decoded image.

If the image is larger than the network's input, a random window is taken (`crop`); otherwise the image is shifted by up
to a sixteenth of its size, with reflected borders (`translate`). `hflip` swaps left and right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

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
    """Cut each image's window out of square images (batch, height, width, 3).

    The nearest pixel of a grid at whole pixels is that pixel itself, and reflection at the centres of border pixels is
    OpenCV's BORDER_REFLECT_101; indexing with one tensor per axis takes several times as long on a GPU.

    Returns:
        Grey values as float32, shape (batch, 3, size, size).
    """
    values, last = images.permute(0, 3, 1, 2).float(), images.shape[1] - 1
    # from places -1 to 1 of the window to those of the image
    starts = np.array([(window.left - window.border, window.top - window.border) for window in windows])
    moves = np.zeros((len(windows), 2, 3))
    moves[:, 0, 0] = [-1 if window.flip else 1 for window in windows]
    moves[:, 1, 1] = 1
    moves *= (size - 1) / last
    moves[:, :, 2] = 2 * (starts + (size - 1) / 2) / last - 1
    grid = affine_grid(
        on_device(moves.astype(np.float32), images.device), [len(windows), 3, size, size], align_corners=True
    )
    return grid_sample(values, grid, mode="nearest", padding_mode="reflection", align_corners=True)
