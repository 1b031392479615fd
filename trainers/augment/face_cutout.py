"""Cutout of face parts, so that a model learns not to rely on a single part.

The winner of the Deepfake Detection Challenge dropped parts of most training faces by landmarks (selimsef, 2020).
Competitions provide crops aligned to the face, so the approximate positions of the parts in such crops are
used, and no detector is run. On images that are not face crops, this blackens arbitrary regions.
"""

from collections.abc import Callable

import cv2
import numpy as np

from oof.errors import DataError
from trainers.media.arrays import Image, Points

# Eyes, nose, corners of the mouth in crops aligned like FFHQ, x and y as fractions of width and height (left of the
# image first); measured on the faces of the image track, which are aligned in this way.
_ALIGNED = np.array([[0.38, 0.48], [0.62, 0.48], [0.50, 0.61], [0.41, 0.70], [0.59, 0.70]])
_CENTRE = np.array([0.5, 0.58])
_ZOOM = (0.9, 1.4)  # in tighter crops, as detectors produce them, the face is larger


def cut_face_part(image: Image, rng: np.random.Generator, *, landmarks: Points | None = None) -> Image:
    """Blacken one part of a face: both eyes, the nose, the mouth, or a half.

    Args:
        image: RGB face crop, shape (height, width, 3).
        rng: draws the part, and its position if there are no landmarks.
        landmarks: (5, 2), x and y in pixels of left eye, right eye, nose, left and right corner of the mouth; None
            for those of an aligned crop with random shift and scale.

    Returns:
        A modified copy.

    Raises:
        DataError: if the landmarks have another shape.
    """
    if landmarks is None:
        landmarks = aligned_landmarks(image.shape[:2], rng)
    if landmarks.shape != (5, 2):
        raise DataError(
            f"Expected 5 landmarks (eyes, nose, corners of the mouth), shape (5, 2); found {landmarks.shape}."
        )
    parts: list[Callable[[Image, np.random.Generator, Points], None]] = [_eyes, _nose, _mouth, _half]
    changed = image.copy()
    parts[rng.integers(len(parts))](changed, rng, landmarks)
    return changed


def aligned_landmarks(shape: tuple[int, ...], rng: np.random.Generator) -> Points:
    """Draw the five landmarks of an aligned crop of (height, width) pixels, (5, 2), x and y in pixels."""
    shares = _CENTRE + (_ALIGNED - _CENTRE) * rng.uniform(*_ZOOM) + rng.normal(0, 0.02, 2)
    return np.asarray(shares * (shape[1], shape[0]), np.float64)


def _between_eyes(landmarks: Points) -> float:
    return max(4.0, float(np.hypot(*(landmarks[1] - landmarks[0]))))


def _eyes(image: Image, rng: np.random.Generator, landmarks: Points) -> None:
    """Blacken a band over both eyes."""
    thick = max(2, round(_between_eyes(landmarks) * rng.uniform(0.35, 0.6)))
    reach = (landmarks[1] - landmarks[0]) * 0.3
    cv2.line(image, _pixel(landmarks[0] - reach), _pixel(landmarks[1] + reach), (0, 0, 0), thick)


def _nose(image: Image, rng: np.random.Generator, landmarks: Points) -> None:
    """Blacken a wedge from between the eyes to below the nose."""
    top = landmarks[:2].mean(axis=0)
    side = (landmarks[1] - landmarks[0]) * rng.uniform(0.25, 0.4)
    below = landmarks[2] + (landmarks[2] - top) * 0.25
    corners = np.stack([top, below - side, below + side])
    cv2.fillConvexPoly(image, np.rint(corners).astype(np.int32), (0, 0, 0))


def _mouth(image: Image, rng: np.random.Generator, landmarks: Points) -> None:
    """Blacken a band over the mouth."""
    thick = max(2, round(_between_eyes(landmarks) * rng.uniform(0.35, 0.6)))
    reach = (landmarks[4] - landmarks[3]) * 0.25
    cv2.line(image, _pixel(landmarks[3] - reach), _pixel(landmarks[4] + reach), (0, 0, 0), thick)


def _half(image: Image, rng: np.random.Generator, landmarks: Points) -> None:
    """Blacken one side of a line along or across the face."""
    along = landmarks[3:].mean(axis=0) - landmarks[:2].mean(axis=0)
    normal = np.array([-along[1], along[0]]) if rng.random() < 0.5 else along
    normal = normal * (1 if rng.random() < 0.5 else -1)
    down, across = np.indices(image.shape[:2])
    x, y = landmarks[2]
    image[(across - x) * normal[0] + (down - y) * normal[1] > 0] = 0


def _pixel(point: Points) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
