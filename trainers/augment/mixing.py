"""MixUp and CutMix: images of one step mixed with each other, and their targets with them."""

import numpy as np
from torch import Tensor

from trainers.augment.settings import AugmentSettings


def mix(images: Tensor, target: Tensor, settings: AugmentSettings, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mix each image with a partner of the same step, or leave the step as it is, as drawn.

    MixUp (Zhang et al., ICLR 2018) adds two images by shares; CutMix (Yun et al., ICCV 2019) puts a
    rectangle of one into the other. With both set, each is as likely.

    Args:
        images: (batch, channels, edge, edge), any unit.
        target: (batch,).

    Returns:
        Mixed images and targets; the inputs stay as they were.
    """
    chance, coin = rng.random(2)
    if not (settings.mixup or settings.cutmix) or chance >= settings.mix_share or len(target) < 2:
        return images, target
    cut = settings.cutmix > 0 and (settings.mixup == 0 or coin < 0.5)
    alpha = settings.cutmix if cut else settings.mixup
    share = float(rng.beta(alpha, alpha))
    images_of, target_of = images.roll(1, 0), target.roll(1, 0)  # rows come in a random order
    if not cut:
        return images * share + images_of * (1 - share), target * share + target_of * (1 - share)
    edge = images.shape[2]
    half = np.sqrt(1 - share) * edge / 2
    middle = rng.random(2) * edge
    (top, left), (bottom, right) = (
        np.clip(np.rint(middle + sign * half), 0, edge).astype(int).tolist() for sign in (-1, 1)
    )
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images_of[:, :, top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / edge**2
    return mixed, target * kept + target_of * (1 - kept)
