"""Gaussian blur."""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor
from torch.nn.functional import conv2d, pad

from trainers.augment.arrays import as_image, round_grey
from trainers.media.arrays import Image
from trainers.runtime.device import on_device


def sample_sigma(probability: float, rng: np.random.Generator) -> float:
    """Draw the standard deviation, 0.3 to 1.5 pixels; 0 for none."""
    chance, amount = rng.random(2)
    return float(0.3 + 1.2 * amount) if chance < probability else 0.0


def blur(image: Image, sigma: float) -> Image:
    """Blur an image (height, width, 3) with reflected borders; sigma in pixels."""
    return as_image(cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), sigma))


def blur_batch(batch: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Blur grey values (batch, 3, height, width), each image with its own sigma; agrees with `blur` to one grey level.

    The axes are blurred one after the other; all images are channels of one grouped convolution.
    """
    sigma = np.maximum(np.asarray(sigmas, np.float64), 1e-3)[:, None]
    half = np.maximum(1, np.rint(6 * sigma + 1).astype(int) | 1) // 2  # OpenCV's radius for 8 bits
    places = np.arange(-half.max(), half.max() + 1)[None]
    weights = np.exp(-(places**2) / (2 * sigma**2)) * (np.abs(places) <= half)
    weights /= weights.sum(1, keepdims=True)
    kernel = on_device(weights.astype(np.float32), batch.device).repeat_interleave(3, 0)  # (batch * 3, taps)
    margin = int(half.max())
    planes = batch.reshape(1, -1, *batch.shape[2:])
    planes = pad(planes, (margin, margin, margin, margin), mode="reflect")
    planes = conv2d(planes, kernel[:, None, None, :], groups=len(kernel))
    planes = conv2d(planes, kernel[:, None, :, None], groups=len(kernel))
    return round_grey(planes.view_as(batch))
