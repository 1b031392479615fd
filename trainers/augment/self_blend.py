"""Self-blended images: fakes made from a single real face by blending it with a transformed copy of itself.

Shiohara and Yamasaki, Detecting Deepfakes with Self-Blended Images, CVPR 2022. Nearly every face
swap ends with a blend, and its traces (a seam of colour, sharpness or position) are the only difference between such
a fake and a real face. A model trained on them does not learn any particular forgery method and
generalises to unseen ones. Colour and content of the face itself carry no information on the label.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from oof.errors import DataError
from trainers.media.arrays import Image, Points

Mask = NDArray[np.float32]


def self_blend(
    image: Image, rng: np.random.Generator, *, landmarks: Points | None = None, strength: float = 1.0
) -> tuple[Image, Mask]:
    """Blend a face with a recoloured or resharpened and slightly shifted copy of itself.

    Args:
        image: RGB image of a real face, roughly centred, shape (height, width, 3).
        rng: random number generator; the same state gives the same fake.
        landmarks: (n_points, 2), x and y in pixels, at least 5; the blend covers their convex hull. Without
            landmarks, it covers an oval, or a part of it, at the position of the face in an aligned crop.
        strength: strength of recolouring and shift; 1 as in the paper, smaller values are harder to see.

    Returns:
        The fake, shape (height, width, 3), and the share of the copy in each pixel, 0 to 1, shape (height, width).

    Raises:
        DataError: if the image is not uint8 RGB, or too small for a seam (less than 16 pixels).

    >>> fake, mask = self_blend(np.full((64, 64, 3), 128, np.uint8), np.random.default_rng(0))
    >>> fake.shape, mask.shape
    ((64, 64, 3), (64, 64))
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < 16:
        raise DataError(
            f"Self-blending needs an RGB image of uint8 with at least 16 pixels in each direction; found shape "
            f"{image.shape}, type {image.dtype}. Decode it with trainers.media.image."
        )
    mask = _soft_mask(_region(image.shape[:2], rng, landmarks), rng)
    source, target = image.astype(np.float32), image.astype(np.float32)
    # recolouring either the copy or the background at random keeps the mean colour of fakes equal to that of reals; the
    # sharpness of the background is unchanged (unlike in the paper), otherwise blur would separate the classes
    if rng.random() < 0.5:
        source = _recolour(source, rng, strength)
    else:
        target = _recolour(target, rng, strength)
    source = _resharpen(source, rng, strength)
    source, mask = _move(source, mask, rng, strength)
    mask *= rng.choice(np.array([0.5, 0.75, 1.0, 1.0, 1.0, 1.0], np.float32))
    blended = target + mask[..., None] * (source - target)
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8), mask


def _region(shape: tuple[int, ...], rng: np.random.Generator, landmarks: Points | None) -> Mask:
    """Return the mask of the part of the face to replace, 0 or 1, shape (height, width)."""
    height, width = shape[:2]
    region = np.zeros((height, width), np.float32)
    if landmarks is not None:
        if landmarks.ndim != 2 or landmarks.shape[1] != 2 or len(landmarks) < 5:
            raise DataError(f"Expected landmarks of shape (n_points >= 5, 2), x and y; found {landmarks.shape}.")
        points = landmarks[rng.random(len(landmarks)) < 0.9] if len(landmarks) > 20 else landmarks
        cv2.fillConvexPoly(region, cv2.convexHull(np.rint(points).astype(np.int32)), 1.0)
        return region
    centre = np.array([0.5, 0.54]) + rng.normal(0, 0.02, 2)
    axes = np.array([rng.uniform(0.20, 0.32), rng.uniform(0.26, 0.38)])
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(7, 13)))
    kind = rng.integers(4)
    if kind == 0:  # a whole oval
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    elif kind == 1:  # the lower face: nose to chin
        angles = np.linspace(-0.15, np.pi + 0.15, 24)
    elif kind == 2:  # the upper face: brow to nose
        angles = np.linspace(np.pi - 0.45, 2 * np.pi + 0.45, 24)
        axes[1] *= 0.8
    # kind 3: a polygon with corners on the oval
    corners = (centre + axes * np.stack([np.cos(angles), np.sin(angles)], axis=1)) * (width, height)
    cv2.fillConvexPoly(region, cv2.convexHull(np.rint(corners).astype(np.int32)), 1.0)
    return region


def _soft_mask(region: Mask, rng: np.random.Generator) -> Mask:
    """Return the region with an irregular outline and a soft edge."""
    height, width = region.shape
    edge = min(height, width)
    across, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    shift = rng.normal(0, 1, (2, 6, 6)).astype(np.float32) * (0.02 * edge)  # coarse, so the outline stays smooth
    shift_x, shift_y = (cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC) for part in shift)
    bent = cv2.remap(region, across + shift_x, down + shift_y, cv2.INTER_LINEAR)
    sigma = edge * rng.uniform(0.006, 0.03)
    soft = cv2.GaussianBlur(bent, (0, 0), max(sigma, 0.5))
    highest = float(soft.max())
    return np.asarray(soft / highest if highest > 0 else soft, np.float32)


def _recolour(picture: NDArray[np.float32], rng: np.random.Generator, strength: float) -> NDArray[np.float32]:
    """Change colour and contrast by a minimum amount."""
    shift = rng.uniform(8, 20, 3) * rng.choice([-1.0, 1.0], 3) * strength
    contrast = 1 + rng.uniform(-0.15, 0.15) * strength
    mean = picture.mean(axis=(0, 1))
    changed = picture * np.float32(contrast) + (mean * (1 - contrast) + shift).astype(np.float32)
    return np.asarray(np.clip(changed, 0, 255), np.float32)


def _resharpen(picture: NDArray[np.float32], rng: np.random.Generator, strength: float) -> NDArray[np.float32]:
    """Soften by downscaling and upscaling, or sharpen with an unsharp mask."""
    height, width = picture.shape[:2]
    if rng.random() < 0.5:
        factor = 1 + rng.uniform(0.5, 2) * strength
        small_size = (max(8, round(width / factor)), max(8, round(height / factor)))
        small = cv2.resize(picture, small_size, interpolation=cv2.INTER_AREA)
        changed = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    else:
        blurred = cv2.GaussianBlur(picture, (0, 0), 1.0)
        changed = cv2.addWeighted(picture, 1 + (amount := rng.uniform(0.3, 0.9) * strength), blurred, -amount, 0)
    return np.asarray(np.clip(changed, 0, 255), np.float32)


def _move(
    picture: NDArray[np.float32], mask: Mask, rng: np.random.Generator, strength: float
) -> tuple[NDArray[np.float32], Mask]:
    """Shift, scale and rotate the copy and its mask together, by at most 3 % and 3 degrees."""
    height, width = mask.shape
    scale = 1 + rng.uniform(-0.05, 0.05) * strength
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-3, 3) * strength, scale)
    shift = rng.uniform(-0.03, 0.03, 2) * np.array([width, height]) * strength
    matrix = np.asarray(matrix, np.float64)
    matrix[:, 2] += shift
    size = (width, height)
    moved = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.float32), np.asarray(cv2.warpAffine(mask, matrix, size), np.float32)
