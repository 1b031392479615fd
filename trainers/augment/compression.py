"""Compress images as JPEG or WebP and decode them again.

Both formats treat luma and chroma separately, so the channel order matters. On a device, JPEG is computed from its
definition; WebP, which predicts blocks like a video codec, runs only on the CPU.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from trainers.augment.arrays import as_image, round_grey
from trainers.media.arrays import Image
from trainers.runtime.device import on_device

_QUALITY = (50, 100)
# ITU-T T.81, tables K.1 and K.2: luma and chroma
_TABLES = np.array((
    (16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29,
     51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120,
     101, 72, 92, 95, 98, 112, 100, 103, 99),
    (17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99,
     99, 99, 99, 99, *(99,) * 32),
), np.float32).reshape(2, 8, 8)  # fmt: skip
_TO_YCC = np.array(((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312)))
_MIDDLE = np.array((0, 128, 128), np.float32).reshape(3, 1, 1)


def sample_quality(probability: float, rng: np.random.Generator) -> int:
    """Draw a quality from 50 to 99, or 0 for no compression."""
    chance, amount = rng.random(2)
    return int(_QUALITY[0] + (_QUALITY[1] - _QUALITY[0]) * amount) if chance < probability else 0


def through_jpeg(image: Image, quality: int) -> Image:
    """Compress an RGB image as JPEG, with chroma at half resolution, and decode it."""
    return _coded(image, ".jpg", cv2.IMWRITE_JPEG_QUALITY, quality)


@dataclass(frozen=True)
class DoubleJpeg:
    """Qualities of two compressions, and the offset of the second block grid in pixels (0 to 7)."""

    first: int
    second: int
    down: int = 0
    right: int = 0


def sample_double(low: int, high: int, rng: np.random.Generator) -> DoubleJpeg:
    """Draw two qualities from `low` to `high`, and the offset of the block grid."""
    first, second = rng.integers(low, high + 1, 2).tolist()
    down, right = rng.integers(0, 8, 2).tolist()
    return DoubleJpeg(first, second, down, right)


def through_double_jpeg(image: Image, change: DoubleJpeg) -> Image:
    """Compress an RGB image as JPEG twice, the second time with a shifted block grid, as after a crop.

    The image is padded by 8 mirrored pixels for the second compression, so that no artificial edge appears inside it.
    """
    height, width = image.shape[:2]
    down, right = change.down, change.right
    first = np.ascontiguousarray(through_jpeg(image, change.first))
    extended = cv2.copyMakeBorder(first, down, 8 - down, right, 8 - right, cv2.BORDER_REFLECT_101)
    return through_jpeg(as_image(extended), change.second)[down : down + height, right : right + width]


def through_double_jpeg_batch(batch: Tensor, changes: Sequence[DoubleJpeg]) -> Tensor:
    """Apply `through_double_jpeg` to grey values (batch, 3, size, size); agrees to two grey levels on average."""
    size = batch.shape[2]
    first = through_jpeg_batch(batch, [change.first for change in changes])
    extended = pad(first, (8, 8, 8, 8), mode="reflect")
    starts = on_device(np.array([(8 - one.down, 8 - one.right) for one in changes], np.int64), batch.device)
    second = through_jpeg_batch(_windows(extended, starts, size + 8), [change.second for change in changes])
    return _windows(second, 8 - starts, size)


def _windows(batch: Tensor, starts: Tensor, size: int) -> Tensor:
    """Return a window of `size` pixels of each image at its start (batch, 2): rows, columns."""
    steps = torch.arange(size, device=batch.device)
    rows, columns = (start[:, None] + steps for start in starts.unbind(1))  # (batch, size)
    every = torch.arange(len(batch), device=batch.device)[:, None, None, None]
    plane = torch.arange(batch.shape[1], device=batch.device)[None, :, None, None]
    return batch[every, plane, rows[:, None, :, None], columns[:, None, None, :]]


def through_webp(image: Image, quality: int) -> Image:
    """Compress an RGB image as WebP and decode it."""
    return _coded(image, ".webp", cv2.IMWRITE_WEBP_QUALITY, quality)


def _coded(image: Image, kind: str, flag: int, quality: int) -> Image:
    coded = cv2.imencode(kind, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [flag, quality])[1]
    return as_image(cv2.imdecode(coded, cv2.IMREAD_COLOR_RGB))


def through_jpeg_batch(batch: Tensor, qualities: Sequence[int]) -> Tensor:
    """Apply the effect of JPEG to grey values (batch, 3, size, size): chroma at half size, quantised DCT coefficients.

    Agrees with `through_jpeg` (libjpeg, integer arithmetic) to one grey level on average; a coefficient
    near the middle between two quantisation steps may differ by one step.
    """
    size = batch.shape[2]
    to_ycc, to_rgb, middle = _constants(batch.device)
    luma_steps, chroma_steps = on_device(_quantisation_steps(qualities), batch.device)
    ycc = pad(conv2d(batch, to_ycc), (0, -size % 16, 0, -size % 16), mode="replicate")
    ycc = round_grey(ycc + middle)
    chroma = round_grey(interpolate(ycc[:, 1:], scale_factor=0.5, mode="area"))
    luma = _rounded_blocks(ycc[:, 0], luma_steps)
    coarse = torch.stack([_rounded_blocks(chroma[:, plane], chroma_steps) for plane in (0, 1)], 1)
    # libjpeg's "fancy upsampling" is linear between the centres of the coarse pixels
    fine = round_grey(interpolate(coarse, scale_factor=2, mode="bilinear"))
    full = torch.cat([luma[:, None], fine], 1)[:, :, :size, :size]
    return round_grey(conv2d(full - middle, to_rgb))


def _quantisation_steps(qualities: Sequence[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return the quantisation steps of luma and chroma for each image, (2, batch, 8, 8), scaled as in libjpeg."""
    quality = np.asarray(qualities, np.float64)
    scale = np.floor(np.where(quality < 50, 5000 / quality, 200 - 2 * quality))[:, None, None]
    return np.stack([np.clip(np.floor((table * scale + 50) / 100), 1, 255) for table in _TABLES]).astype(np.float32)


@cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the conversions RGB to YCbCr and back as 1 x 1 convolutions, and the offsets of the three planes."""
    forth, back = (matrix.astype(np.float32).reshape(3, 3, 1, 1) for matrix in (_TO_YCC, np.linalg.inv(_TO_YCC)))
    return on_device(forth, device), on_device(back, device), on_device(_MIDDLE, device)


def _rounded_blocks(plane: Tensor, steps: Tensor) -> Tensor:
    """Round the coefficients of all 8 x 8 blocks of a plane (batch, height, width) to multiples of the steps."""
    places = torch.arange(8, device=plane.device, dtype=torch.float32)
    basis = torch.cos(math.pi * (2 * places[None, :] + 1) * places[:, None] / 16) / 2
    basis[0] /= math.sqrt(2)
    batch, height, width = plane.shape
    blocks = (plane - 128).view(batch, height // 8, 8, width // 8, 8).transpose(2, 3)  # (..., 8, 8)
    step = steps[:, None, None]
    coefficients = (basis @ blocks @ basis.T / step).round() * step
    restored = basis.T @ coefficients @ basis
    return round_grey(restored.transpose(2, 3).reshape(batch, height, width) + 128)
