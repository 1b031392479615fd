"""Mixtures of a real image with the fake made of it."""

import numpy as np
from numpy.typing import NDArray

from oof.errors import DataError

Image = NDArray[np.uint8]
MEAN_SHARE = 0.5  # of the fake, over many draws: Beta(alpha, alpha) is symmetric


def mix_pair(real: Image, fake: Image, rng: np.random.Generator, *, alpha: float = 0.5) -> tuple[Image, float]:
    """Mix a real image with the fake that was made of it; the label is the share of the fake.

    Aligned, so that only the traces of the forgery are mixed and the face stays one face (third
    place of the Deepfake Detection Challenge, 2020).

    Args:
        real, fake: RGB of one shape, the same face at the same place.
        rng: of the share.
        alpha: of the Beta(alpha, alpha) that it is drawn from; small ones stay near 0 and 1.

    Returns:
        The mixture and its label, 0 (real) to 1 (fake).

    Raises:
        DataError: images of two shapes.
    """
    if real.shape != fake.shape:
        raise DataError(
            f"Aligned mixing needs a pair of one size; found {real.shape} and {fake.shape}. Resize both alike first."
        )
    share = mix_share(rng, alpha=alpha)
    mixed = real.astype(np.float32) * (1 - share) + fake.astype(np.float32) * share
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8), share


def mix_share(rng: np.random.Generator, *, alpha: float = 0.5) -> float:
    """The label that `mix_pair` gives with a generator in this state."""
    return float(rng.beta(alpha, alpha))
