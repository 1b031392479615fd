"""Cutout of a block of cells of a 4 x 4 grid, painted mid grey (DeVries and Taylor, 2017; Chen et al., 2020)."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.media.arrays import Image
from trainers.runtime.device import on_device

_GRID = 4
_GREY = 128
_BLOCKS = ((1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2))


def sample_cells(probability: float, rng: np.random.Generator) -> int:
    """Draw a block of 1 x 1 to 2 x 3 cells, as a bit mask of the 16 cells; 0 for none."""
    chance, shape, down, right = rng.random(4)
    if chance >= probability:
        return 0
    rows, columns = _BLOCKS[int(shape * len(_BLOCKS))]
    top, left = int(down * (_GRID - rows + 1)), int(right * (_GRID - columns + 1))
    return sum(1 << (row * _GRID + column) for row in range(top, top + rows) for column in range(left, left + columns))


def cut_cells(image: Image, cells: int) -> Image:
    """Paint the cells of a square image grey."""
    return np.where(_mask(cells, len(image))[..., None], np.uint8(_GREY), image)


def cut_cells_batch(batch: Tensor, cells: Sequence[int]) -> Tensor:
    """Paint the cells of grey values (batch, 3, size, size) grey; equal to `cut_cells`."""
    at = (torch.arange(batch.shape[2], device=batch.device) * _GRID // batch.shape[2]).clamp(max=_GRID - 1)
    bit = at[:, None] * _GRID + at[None, :]  # (size, size)
    chosen = on_device(np.array(cells, np.int64).reshape(-1, 1, 1), batch.device)
    return batch.masked_fill(((chosen >> bit) & 1 > 0)[:, None], float(_GREY))


def _mask(cells: int, size: int) -> NDArray[np.bool_]:
    """Return the mask of the cells, shape (size, size)."""
    at = np.minimum(np.arange(size) * _GRID // size, _GRID - 1)
    found: NDArray[np.bool_] = (cells >> (at[:, None] * _GRID + at[None, :]) & 1).astype(bool)
    return found
