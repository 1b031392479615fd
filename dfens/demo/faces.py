"""Draw faces for the demo and for tests.

They resemble no actual person. A person is a set of proportions and colours; images of a
person vary in pose, light and background, so that they form a group.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trainers.media.arrays import Image

_DRAWN_PX = 192  # drawn large, then reduced, for smooth edges
_SKIN = np.array([[255, 224, 196], [241, 194, 150], [224, 172, 120], [180, 126, 84], [132, 86, 58], [92, 58, 42]])
_HAIR = np.array([[28, 22, 20], [70, 44, 28], [120, 78, 40], [190, 150, 90], [150, 60, 34], [160, 160, 160]])
_IRIS = np.array([[70, 48, 30], [60, 100, 140], [80, 120, 80], [110, 90, 60]])


@dataclass(frozen=True)
class Person:
    """Proportions (fractions of the image width) and colours (RGB 0-255) of one drawn person."""

    skin: NDArray[np.float64]
    hair: NDArray[np.float64]
    iris: NDArray[np.float64]
    width: float
    height: float
    eye_gap: float
    eye_size: float
    nose: float
    mouth: float
    brow: float
    fringe: float


def draw_person(rng: np.random.Generator) -> Person:
    """Draw a person from the generator."""

    def colour(palette: NDArray[np.int_]) -> NDArray[np.float64]:
        first, second = palette[rng.integers(len(palette), size=2)]
        share = rng.random()
        mixed: NDArray[np.float64] = np.clip(first * share + second * (1 - share) + rng.normal(0, 6, 3), 0, 255)
        return mixed

    return Person(
        skin=colour(_SKIN),
        hair=colour(_HAIR),
        iris=colour(_IRIS),
        width=rng.uniform(0.24, 0.31),
        height=rng.uniform(0.33, 0.40),
        eye_gap=rng.uniform(0.10, 0.135),
        eye_size=rng.uniform(0.030, 0.045),
        nose=rng.uniform(0.06, 0.11),
        mouth=rng.uniform(0.07, 0.12),
        brow=rng.uniform(0.05, 0.075),
        fringe=rng.uniform(0.35, 0.75),
    )


def draw_face(person: Person, rng: np.random.Generator, size: int = 64, mouth: float | None = None) -> Image:
    """Draw one image of a person.

    Args:
        person: the person.
        rng: random number generator for pose, expression, light, background and sensor noise.
        size: size in pixels.
        mouth: how far the mouth is open, 0 to 1; None for random. Nothing else in the image depends on it.

    Returns:
        RGB, shape (size, size, 3).
    """
    px = _DRAWN_PX
    canvas = _background(rng, px)
    centre = np.array([0.5 + rng.normal(0, 0.015), 0.53 + rng.normal(0, 0.015)]) * px
    tilt = rng.normal(0, 5)
    turn = rng.normal(0, 0.02) * px
    skin = person.skin * rng.uniform(0.9, 1.1)

    def ellipse(
        at: NDArray[np.float64], axes: tuple[float, float], colour: NDArray[np.float64], turned: float = 0.0
    ) -> None:
        point = (round(float(at[0])), round(float(at[1])))
        size_px = (max(1, round(axes[0])), max(1, round(axes[1])))
        cv2.ellipse(canvas, point, size_px, tilt + turned, 0, 360, np.clip(colour, 0, 255).tolist(), -1, cv2.LINE_AA)

    radians = np.deg2rad(tilt)
    rotation = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])

    def place(right: float, down: float) -> NDArray[np.float64]:
        moved: NDArray[np.float64] = centre + rotation @ np.array([right * px + turn, down * px])
        return moved

    width, height = person.width * px, person.height * px
    ellipse(place(0, 0.42), (0.36 * px, 0.20 * px), np.array(rng.uniform(30, 220, 3)))  # shoulders
    ellipse(place(0, 0.28), (0.11 * px, 0.16 * px), skin * 0.82)  # neck
    ellipse(place(0, -0.06), (width * 1.16, height * 1.10), person.hair)
    ellipse(place(0, 0), (width, height), skin)
    ellipse(place(0, -person.fringe * person.height - 0.11), (width * 0.95, height * 0.38), person.hair)
    for side in (-1, 1):
        eye = place(side * person.eye_gap, -0.04 + rng.normal(0, 0.002))
        look = rng.normal(0, 0.006, 2) * px
        ellipse(eye, (person.eye_size * px, person.eye_size * 0.6 * px), np.array([245.0, 245.0, 242.0]))
        ellipse(eye + look, (person.eye_size * 0.5 * px, person.eye_size * 0.5 * px), person.iris)
        ellipse(eye + look, (person.eye_size * 0.22 * px, person.eye_size * 0.22 * px), np.zeros(3))
        ellipse(
            place(side * person.eye_gap, -0.115),
            (person.brow * px, 0.012 * px),
            person.hair * 0.8,
            side * rng.normal(6, 3),
        )
        ellipse(place(side * person.eye_gap * 1.1, 0.09), (0.05 * px, 0.035 * px), skin * [1.04, 0.94, 0.92])  # cheeks
    ellipse(place(0, 0.5 * person.nose), (0.018 * px, person.nose * 0.6 * px), skin * 0.92)
    ellipse(place(0, person.nose), (0.032 * px, 0.016 * px), skin * 0.84)
    drawn = 0.012 + 0.02 * rng.random()
    ellipse(place(0, 0.17), (person.mouth * px, (drawn if mouth is None else 0.012) * px), skin * [0.86, 0.55, 0.55])
    if mouth:
        dark = np.array([60.0, 20.0, 24.0])
        ellipse(place(0, 0.185), (person.mouth * 0.8 * px, 0.07 * mouth * px), dark)
    return _photograph(canvas, rng, size)


def _background(rng: np.random.Generator, px: int) -> Image:
    """Draw a soft gradient with large blurred spots."""
    tone = rng.uniform(60, 190, 3)
    corners = (tone + rng.normal(0, 35, (2, 2, 3))).astype(np.float32)
    smooth = cv2.resize(corners, (px, px), interpolation=cv2.INTER_LINEAR)
    spots = cv2.resize(rng.normal(0, 14, (6, 6, 3)).astype(np.float32), (px, px), interpolation=cv2.INTER_CUBIC)
    canvas: Image = np.clip(smooth + spots, 0, 255).astype(np.uint8)
    return canvas


def _photograph(canvas: Image, rng: np.random.Generator, size: int) -> Image:
    """Add light from one side, a skin-like texture and sensor noise, and reduce the image."""
    px = len(canvas)
    across = np.linspace(-1, 1, px, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + rng.uniform(0.05, 0.25) * (np.cos(angle) * across[None, :] + np.sin(angle) * across[:, None])
    grain = cv2.GaussianBlur(rng.normal(0, 14, (px, px, 1)).astype(np.float32), (0, 0), 1.2)
    picture = canvas.astype(np.float32) * light[..., None] + grain[..., None] * 2.0
    small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    small += rng.normal(0, 2.5, small.shape).astype(np.float32)
    finished: Image = np.clip(small, 0, 255).astype(np.uint8)
    return finished
