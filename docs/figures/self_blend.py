"""Draw docs/figures/self_blend.png: a fake made from a single real face, step by step.

Run it from the root of the project: `python -m docs.figures.self_blend [FILE.png]`.
"""

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dfens.demo.faces import draw_face, draw_person
from trainers.augment.self_blend import self_blend

_SEED = 5  # a face and a blend whose traces are visible in print


def steps(seed: int = _SEED, size: int = 256) -> dict[str, NDArray[Any]]:
    """Return the pictures by title: RGB (size, size, 3) or one channel (size, size)."""
    rng = np.random.default_rng(seed)
    real = draw_face(draw_person(rng), rng, size)
    fake, mask = self_blend(real, rng)
    change = fake.astype(np.float32) - real
    return {
        "1  a real face": real,
        "2  the mask m": mask,
        "3  the fake": fake,
        "4  colour: fake - real, x 4": np.clip(128 + 4 * cv2.GaussianBlur(change, (0, 0), 3), 0, 255).astype(np.uint8),
        "5  the seam: 4 m (1 - m)": 4 * mask * (1 - mask),
        "6  noise residual of the fake": _residual_strength(fake),
    }


def _residual_strength(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the local noise level around each pixel: the magnitude of the image minus a smoothed copy."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    residual = np.abs(grey.astype(np.float32) - cv2.medianBlur(grey, 3))
    return np.asarray(np.minimum(cv2.GaussianBlur(residual, (0, 0), 2.5), 8), np.float32)


def draw(path: Path) -> None:
    """Draw all steps into one PNG."""
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    for axes, (title, picture) in zip(figure.subplots(2, 3).flat, steps().items(), strict=True):
        axes.imshow(picture, cmap="gray")
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".png"))
