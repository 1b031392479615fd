"""Cutout of face parts: a model that may not look at one part learns from all of them.

The winner of the Deepfake Detection Challenge dropped parts of most training faces (selimsef, 2020);
cutout at random places is DeVries and Taylor, 2017; cells of a grid, GridMask (Chen et al., 2020).
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from oof.errors import DataError

Image = NDArray[np.uint8]
Points = NDArray[np.floating]


def cut_face_part(image: Image, rng: np.random.Generator, *, landmarks: Points | None = None) -> Image:
    """Blacken one part of a face: eyes, nose, mouth, or a half; without landmarks, cells of a grid.

    Args:
        image: RGB, shape (height, width, 3).
        rng: of the part.
        landmarks: (5, 2) of x and y in pixels: left eye, right eye, nose, left and right corner of the mouth, as
            face detectors give them.

    Returns:
        A changed copy.

    Raises:
        DataError: landmarks of another shape.
    """
    if landmarks is None:
        return cut_grid(image, rng)
    if landmarks.shape != (5, 2):
        raise DataError(
            f"Expected 5 landmarks (eyes, nose, corners of the mouth), shape (5, 2); found {landmarks.shape}."
        )
    parts: list[Callable[[Image, np.random.Generator, Points], None]] = [_eyes, _nose, _mouth, _half]
    changed = image.copy()
    parts[rng.integers(len(parts))](changed, rng, landmarks)
    return changed


def _between_eyes(landmarks: Points) -> float:
    return max(4.0, float(np.hypot(*(landmarks[1] - landmarks[0]))))


def _eyes(image: Image, rng: np.random.Generator, landmarks: Points) -> None:
    """A band over both eyes."""
    thick = max(2, round(_between_eyes(landmarks) * rng.uniform(0.35, 0.6)))
    reach = (landmarks[1] - landmarks[0]) * 0.3
    cv2.line(image, _pixel(landmarks[0] - reach), _pixel(landmarks[1] + reach), (0, 0, 0), thick)


def _nose(image: Image, rng: np.random.Generator, landmarks: Points) -> None:
    """A wedge from between the eyes to below the nose."""
    top = landmarks[:2].mean(axis=0)
    side = (landmarks[1] - landmarks[0]) * rng.uniform(0.25, 0.4)
    below = landmarks[2] + (landmarks[2] - top) * 0.25
    corners = np.stack([top, below - side, below + side])
    cv2.fillConvexPoly(image, np.rint(corners).astype(np.int32), (0, 0, 0))


def _mouth(image: Image, rng: np.random.Generator, landmarks: Points) -> None:
    """A band over the mouth."""
    thick = max(2, round(_between_eyes(landmarks) * rng.uniform(0.35, 0.6)))
    reach = (landmarks[4] - landmarks[3]) * 0.25
    cv2.line(image, _pixel(landmarks[3] - reach), _pixel(landmarks[4] + reach), (0, 0, 0), thick)


def _half(image: Image, rng: np.random.Generator, landmarks: Points) -> None:
    """All on one side of the line along, or across, the face."""
    along = landmarks[3:].mean(axis=0) - landmarks[:2].mean(axis=0)
    normal = np.array([-along[1], along[0]]) if rng.random() < 0.5 else along
    normal = normal * (1 if rng.random() < 0.5 else -1)
    down, across = np.indices(image.shape[:2])
    x, y = landmarks[2]
    image[(across - x) * normal[0] + (down - y) * normal[1] > 0] = 0


def _pixel(point: Points) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def cut_grid(image: Image, rng: np.random.Generator, *, cells: int = 4, most: float = 0.35) -> Image:
    """Blacken some cells of a grid, at least one, at most a share of the image.

    Args:
        image: RGB, shape (height, width, 3).
        rng: of the cells.
        cells: along each edge.
        most: share of all cells, 0 to 1.

    Returns:
        A changed copy.
    """
    count = int(rng.integers(1, max(2, int(most * cells * cells) + 1)))
    chosen = rng.choice(cells * cells, count, replace=False)
    rows = np.linspace(0, image.shape[0], cells + 1).round().astype(int)
    columns = np.linspace(0, image.shape[1], cells + 1).round().astype(int)
    changed = image.copy()
    for cell in chosen.tolist():
        row, column = divmod(cell, cells)
        changed[rows[row] : rows[row + 1], columns[column] : columns[column + 1]] = 0
    return changed
