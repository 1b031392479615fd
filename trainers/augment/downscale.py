"""Downscale and upscale images, as messengers do, so that fine detail is lost."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from trainers.augment.arrays import as_image, round_grey
from trainers.media.arrays import Image
from trainers.runtime.device import on_device

_CUBIC = -0.75  # OpenCV's and torch's coefficient of the cubic kernel


def sample_scale(probability: float, rng: np.random.Generator) -> float:
    """Draw the smaller size as a fraction of the size, 0.4 to 0.9; 1 for none."""
    chance, amount = rng.random(2)
    return float(0.4 + 0.5 * amount) if chance < probability else 1.0


def downscale(image: Image, scale: float) -> Image:
    """Reduce a square image by averaging pixel areas, and enlarge it by cubic interpolation."""
    size = len(image)
    small = _small_size(scale, size)
    reduced = cv2.resize(np.ascontiguousarray(image), (small, small), interpolation=cv2.INTER_AREA)
    return as_image(cv2.resize(reduced, (size, size), interpolation=cv2.INTER_CUBIC))


def downscale_batch(batch: Tensor, scales: Sequence[float]) -> Tensor:
    """Downscale and upscale grey values (batch, 3, size, size); agrees with `downscale` to one grey level.

    Fewer than 0.1 % of the values differ by two, where a reduced value is halfway between two levels.
    Both steps are linear along each axis, so they are products with one matrix per image; torch's own "area" mode
    averages whole, overlapping pixels, which is a different operation.
    """
    size = batch.shape[2]
    counts = [_small_size(scale, size) for scale in scales]
    small = on_device(np.array(counts, np.float32).reshape(-1, 1, 1), batch.device)
    reduce, enlarge = _area_weights(small, size, max(counts)), _cubic_weights(small, size, max(counts))

    def along_both(weights: Tensor, images: Tensor) -> Tensor:
        return round_grey(weights[:, None] @ images @ weights[:, None].transpose(2, 3))

    return along_both(enlarge, along_both(reduce, batch))


def _small_size(scale: float, size: int) -> int:
    return max(8, round(size * scale))


def _area_weights(small: Tensor, size: int, most: int) -> Tensor:
    """Return the share of each pixel in each coarse pixel, (batch, most, size); rows beyond an image's size are 0."""
    device = small.device
    factor = size / small  # (batch, 1, 1)
    first = torch.arange(most, device=device, dtype=torch.float32)[None, :, None] * factor
    pixel = torch.arange(size, device=device, dtype=torch.float32)[None, None, :]
    overlap = (torch.minimum(first + factor, pixel + 1) - torch.maximum(first, pixel)).clamp(min=0)
    return overlap / factor


def _cubic_weights(small: Tensor, size: int, most: int) -> Tensor:
    """Return the weight of each coarse pixel in each pixel, (batch, size, most); border pixels are repeated."""
    device = small.device
    at = (torch.arange(size, device=device, dtype=torch.float32)[None, :, None] + 0.5) * (small / size) - 0.5
    first = at.floor()  # (batch, size, 1)
    coarse = torch.arange(most, device=device, dtype=torch.float32)[None, None, :]
    weights = torch.zeros((len(small), size, most), device=device)
    for tap in (-1, 0, 1, 2):
        place = torch.minimum((first + tap).clamp(min=0), small - 1)
        weights += (coarse == place) * _cubic_kernel((at - first - tap).abs())
    return weights


def _cubic_kernel(distance: Tensor) -> Tensor:
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
    far = _CUBIC * (((distance - 5) * distance + 8) * distance - 4)
    return torch.where(distance <= 1, near, far)
