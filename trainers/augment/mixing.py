"""MixUp and CutMix: mix the images of a step and their weights."""

import numpy as np
from torch import Tensor

from trainers.augment.settings import AugmentSettings


def mix(images: Tensor, weights: Tensor, settings: AugmentSettings, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mix each image with a partner from the same step, or return the step unchanged, at random.

    MixUp (Zhang et al., ICLR 2018) takes a weighted sum of two images; CutMix (Yun et al., ICCV 2019) pastes a
    rectangle of one into the other. If both are set, they are equally likely. Weights are mixed by the same shares, so
    row weights also apply within mixtures: a row with weight 0 has no effect.

    Args:
        images: (batch, channels, size, size), any unit.
        weights: (batch, 2), weight of each image as a real and as a fake.

    Returns:
        Mixed images and weights; the inputs are not modified.
    """
    chance, coin = rng.random(2)
    if not (settings.mixup or settings.cutmix) or chance >= settings.mix_share or len(weights) < 2:
        return images, weights
    cut = settings.cutmix > 0 and (settings.mixup == 0 or coin < 0.5)
    alpha = settings.cutmix if cut else settings.mixup
    share = float(rng.beta(alpha, alpha))
    partners, partner_weights = images.roll(1, 0), weights.roll(1, 0)  # rows are in random order
    if not cut:
        return images * share + partners * (1 - share), weights * share + partner_weights * (1 - share)
    size = images.shape[2]
    half = np.sqrt(1 - share) * size / 2
    middle = rng.random(2) * size
    (top, left), (bottom, right) = (
        np.clip(np.rint(middle + sign * half), 0, size).astype(int).tolist() for sign in (-1, 1)
    )
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / size**2
    return mixed, weights * kept + partner_weights * (1 - kept)
