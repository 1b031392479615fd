"""Corruptions of images: recompression, blur, noise and downscaling, with increasing severity."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from trainers.media.arrays import Image

Change = Callable[[Image, float, np.random.Generator], Image]


@dataclass(frozen=True)
class Perturbation:
    """A corruption: its severities from mild to strong, their unit, and the function."""

    name: str
    unit: str
    severities: tuple[float, ...]
    change: Change


def jpeg(image: Image, quality: float, rng: np.random.Generator) -> Image:
    """Compress as JPEG with chroma at half resolution, the default of most software."""
    coded = np.frombuffer(jpeg_bytes(image, quality), np.uint8)
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR_RGB), np.uint8)


def jpeg_bytes(image: Image, quality: float) -> bytes:
    """Return an image as a JPEG file with chroma at half resolution."""
    options = [cv2.IMWRITE_JPEG_QUALITY, int(quality)]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def blur(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Apply Gaussian blur; sigma in pixels of the file."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def noise(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Add Gaussian noise to each value; sigma in grey levels."""
    return np.clip(np.rint(image + rng.normal(0, sigma, image.shape)), 0, 255).astype(np.uint8)


def scale(image: Image, share: float, rng: np.random.Generator) -> Image:
    """Downscale to a fraction of the size, and upscale again."""
    height, width = image.shape[:2]
    small = cv2.resize(
        image, (max(4, round(width * share)), max(4, round(height * share))), interpolation=cv2.INTER_AREA
    )
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


PERTURBATIONS: Mapping[str, Perturbation] = {
    kind.name: kind
    for kind in (
        Perturbation("jpeg", "quality", (90, 70, 50, 30), jpeg),
        Perturbation("blur", "sigma, px", (0.5, 1, 2, 3), blur),
        Perturbation("noise", "sigma, grey levels", (2, 5, 10, 20), noise),
        Perturbation("scale", "fraction of the size", (0.75, 0.5, 0.33, 0.25), scale),
    )
}


def corrupted_file(image: Image, name: str, severity: float, rng: np.random.Generator) -> tuple[str, bytes]:
    """Corrupt an image and return it as a file: its suffix and its bytes.

    A recompressed image is that JPEG file itself; all others are stored without loss.
    """
    if name == "jpeg":
        return ".jpg", jpeg_bytes(image, severity)
    corrupted = PERTURBATIONS[name].change(image, severity, rng)
    return ".bmp", cv2.imencode(".bmp", cv2.cvtColor(corrupted, cv2.COLOR_RGB2BGR))[1].tobytes()
