"""Small handcrafted features of images: pixels, radial spectrum, statistics of noise residuals."""

from collections.abc import Sequence
from functools import lru_cache, partial

import cv2
import numpy as np
from numpy.typing import NDArray

from oof.progress import SILENT, Progress
from trainers.media.arrays import Image
from trainers.media.image import decode_image, load_image, resize_image
from trainers.media.image_info import in_threads
from trainers.media.settings import Decode

Matrix = NDArray[np.float32]

_WINDOW = 256  # spectrum and residuals are computed from the centre of the image at its original scale
_RINGS = 48
_KERNELS: list[Matrix] = [
    (np.array(weights) / divisor).astype(np.float32)
    for weights, divisor in (
        ([[0, 0, 0], [0, -1, 1], [0, 0, 0]], 1),
        ([[0, 0, 0], [1, -2, 1], [0, 0, 0]], 2),
        ([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]], 4),
        ([[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]], 12),
    )
]


def pixel_features(image: Image, size: int) -> Matrix:
    """Return the image at size x size pixels, 0 to 1, shape (size * size * 3,)."""
    return resize_image(image, size).astype(np.float32).ravel() / np.float32(255)


def trace_features(image: Image) -> Matrix:
    """Return features of traces left by generators and editors: radial spectrum and statistics of noise residuals.

    The spectrum is the mean logarithm of the power in 48 rings of spatial frequency (Durall et al.,
    Watch Your Up-Convolution, CVPR 2020). The residuals are those of the spatial rich model (SRM;
    Fridrich and Kodovsky, TIFS 2012): for each of four high-pass kernels, the histogram of rounded
    residuals, the mean magnitude, spread and tail weight.

    Returns:
        Shape (88,).
    """
    grey = _middle(image)
    return np.concatenate([_spectrum(grey), *(_residual_statistics(grey, kernel) for kernel in _KERNELS)])


def _middle(image: Image) -> Matrix:
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)
    height, width = grey.shape
    top, left = max(0, (height - _WINDOW) // 2), max(0, (width - _WINDOW) // 2)
    return grey[top : top + _WINDOW, left : left + _WINDOW]


@lru_cache(maxsize=64)
def _rings(height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.float64], Matrix]:
    """Return the ring of each frequency, the number of frequencies per ring, and a window that fades the borders."""
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    ring = np.minimum((np.hypot(down, across) * 2 * _RINGS).astype(np.intp), _RINGS - 1)
    count = np.maximum(np.bincount(ring.ravel(), minlength=_RINGS), 1).astype(np.float64)
    return ring.ravel(), count, np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)


def _spectrum(grey: Matrix) -> Matrix:
    # without the window, the discontinuity at the borders affects all frequencies
    ring, count, window = _rings(*grey.shape)
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2 / grey.size
    return np.asarray(np.bincount(ring, np.log1p(power).ravel(), _RINGS) / count, np.float32)


def _residual_statistics(grey: Matrix, kernel: Matrix) -> Matrix:
    residual = cv2.filter2D(grey, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101)
    rounded = np.clip(residual + 3.5, 0, 6.9).astype(np.uint8)  # integers from -3 to 3, shifted to 0 to 6
    histogram = np.bincount(rounded.ravel(), minlength=7) / rounded.size
    spread = float(residual.std()) + 1e-6
    magnitude = np.abs(residual)
    squared = np.square(residual / spread)
    tails = float(np.mean(squared * squared))
    return np.array([*histogram, np.log1p(magnitude.mean()), np.log(spread + 1), np.log1p(tails)], np.float32)


def file_features(
    paths: Sequence[str],
    *,
    size: int,
    decode: Decode = "area",
    traces: bool = True,
    threads: int = 1,
    progress: Progress = SILENT,
) -> Matrix:
    """Return features of image files.

    Args:
        paths: paths of the files.
        size: size of the pixel features; 0 for none.
        decode: decoder for the pixel features.
        traces: whether to compute spectrum and residuals, too.
        threads: number of threads.
        progress: receives progress by file.

    Returns:
        Shape (n_files, n_features).

    Raises:
        DataError: if a file cannot be read, naming it.
    """
    one = partial(_one_file, size=size, decode=decode, traces=traces)
    rows = in_threads(one, paths, threads, progress, "small features")
    return np.stack(rows) if rows else np.zeros((0, 1), np.float32)


def _one_file(path: str, *, size: int, decode: Decode, traces: bool) -> Matrix:
    parts = []
    if traces:
        image = decode_image(path)
        parts.append(trace_features(image))
        if size and decode == "area":
            parts.append(pixel_features(image, size))
    if size and not (traces and decode == "area"):
        parts.append(pixel_features(load_image(path, size, decode), size))
    return np.concatenate(parts)
