"""Gaussian noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainers.augment.arrays import column, round_grey, to_grey
from trainers.media.arrays import Image


@dataclass(frozen=True)
class Noise:
    """Standard deviation in grey levels, 0 for none, and the seed of the noise."""

    sigma: float = 0.0
    seed: int = 0


def sample_noise(probability: float, rng: np.random.Generator) -> Noise:
    """Draw a standard deviation of 1 to 8 grey levels, and a seed."""
    chance, amount = rng.random(2)
    return Noise(float(1 + 7 * amount), int(rng.integers(1 << 31))) if chance < probability else Noise()


def add_noise(image: Image, noise: Noise) -> Image:
    """Add noise to an image (height, width, 3)."""
    field = np.random.default_rng(noise.seed).standard_normal(image.shape, np.float32)
    return to_grey(image + field * np.float32(noise.sigma))


def add_noise_batch(batch: Tensor, noises: Sequence[Noise]) -> Tensor:
    """Add noise to grey values (batch, 3, height, width); all images must have noise.

    The noise comes from the device's own generator, seeded for each image: it differs from that of
    `add_noise` but has the same distribution, and it is reproduced when a training resumes.
    """
    generator = torch.Generator(batch.device)
    field = torch.empty_like(batch)
    for row, noise in enumerate(noises):
        field[row].normal_(generator=generator.manual_seed(noise.seed))
    return round_grey(batch + field * column([noise.sigma for noise in noises], batch))
