"""Mixtures of a real image with the fake made of it, and the warning where one class alone is changed."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from oof.errors import DataError

Image = NDArray[np.uint8]


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


def shortcut_warnings(real: Mapping[str, float], fake: Mapping[str, float], *, most: float = 0.1) -> list[str]:
    """Warn of augmentations that one class gets more often: a model may learn them instead of forgeries.

    JPEG on fakes alone has won prizes where the real images were compressed already; elsewhere it
    teaches that compressed means fake.

    Args:
        real, fake: probability of each augmentation for each class, by name.
        most: difference of probabilities that is passed over.

    >>> shortcut_warnings({"jpeg": 0.0}, {"jpeg": 0.5})[0][:57]
    'jpeg changes fakes with probability 0.5 and reals with 0.'
    """
    found = []
    for name in sorted(real.keys() | fake.keys()):
        of_real, of_fake = real.get(name, 0.0), fake.get(name, 0.0)
        if abs(of_real - of_fake) <= most:
            continue
        often = "fake" if of_fake > of_real else "real"
        found.append(
            f"{name} changes fakes with probability {of_fake:g} and reals with {of_real:g}: a model may learn that "
            f"{name} means {often}. Compare with the same probability for both (dfens ablate), also under harm "
            f"(dfens compare --robustness)."
        )
    return found
