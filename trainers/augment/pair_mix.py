"""Mix a real image with the fake made from it."""

import numpy as np

from oof.errors import DataError
from trainers.media.arrays import Image

MEAN_SHARE = 0.5  # mean share of the fake: Beta(alpha, alpha) is symmetric


def mix_pair(real: Image, fake: Image, rng: np.random.Generator, *, alpha: float = 0.5) -> tuple[Image, float]:
    """Mix a real image with the fake made from it; the label is the share of the fake.

    Since the images are aligned, only the traces of the forgery are mixed and the face stays intact (third
    place of the Deepfake Detection Challenge, 2020).

    Args:
        real, fake: RGB images of equal shape, with the same face at the same position.
        rng: random number generator.
        alpha: parameter of Beta(alpha, alpha), from which the share is drawn; small values give shares near 0 and 1.

    Returns:
        The mixture and its label, 0 (real) to 1 (fake).

    Raises:
        DataError: if the images have different shapes.
    """
    if real.shape != fake.shape:
        raise DataError(
            f"Aligned mixing needs two images of equal size; found {real.shape} and {fake.shape}. Resize them first."
        )
    share = mix_share(rng, alpha=alpha)
    mixed = real.astype(np.float32) * (1 - share) + fake.astype(np.float32) * share
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8), share


def mix_share(rng: np.random.Generator, *, alpha: float = 0.5) -> float:
    """Return the label that `mix_pair` returns for a generator in this state."""
    return float(rng.beta(alpha, alpha))
