"""Chains of degradations in random order, as images undergo them between the camera and the test set.

Robust detectors of 2026 are trained on compound chains of compression, blur, noise and resizing in random order and
strength (NTIRE 2026 challenge on robust detection, arXiv 2604.24163); Zhang et al., Designing a Practical Degradation
Model for Deep Blind Image Super-Resolution, ICCV 2021, shuffle their order in the same way.

WebP has no batched version. An image whose chain contains WebP is augmented entirely on the CPU, even if the network is
on a GPU, so that the order of its operations is kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from trainers.augment.arrays import change_rows
from trainers.augment.blur import blur, blur_batch
from trainers.augment.compression import (
    sample_double,
    through_double_jpeg,
    through_double_jpeg_batch,
    through_jpeg,
    through_jpeg_batch,
    through_webp,
)
from trainers.augment.noise import Noise, add_noise, add_noise_batch
from trainers.augment.quantize import quantize, quantize_batch, sample_levels
from trainers.augment.random_streams import ImageRandom
from trainers.augment.resample import resample, resample_batch, sample_resampling
from trainers.augment.settings import Degradation, DegradeSettings
from trainers.media.arrays import Image

_QUALITY = (30, 95)
_SIGMA = (0.4, 2.0)  # standard deviation of the blur, pixels
_NOISE = (1.0, 12.0)  # standard deviation, grey levels


@dataclass(frozen=True)
class _Operation:
    """An operation: how its strength is drawn, and its versions for one image and for a batch (None: CPU only)."""

    sample: Callable[[np.random.Generator], Any]
    change: Callable[[Image, Any], Image]
    change_batch: Callable[[Tensor, Sequence[Any]], Tensor] | None


def _quality(rng: np.random.Generator) -> int:
    return int(rng.integers(_QUALITY[0], _QUALITY[1] + 1))


_OPERATIONS: dict[Degradation, _Operation] = {
    "jpeg": _Operation(_quality, through_jpeg, through_jpeg_batch),
    "webp": _Operation(_quality, through_webp, None),
    "double_jpeg": _Operation(
        lambda rng: sample_double(*_QUALITY, rng), through_double_jpeg, through_double_jpeg_batch
    ),
    "resize": _Operation(sample_resampling, resample, resample_batch),
    "blur": _Operation(lambda rng: float(rng.uniform(*_SIGMA)), blur, blur_batch),
    "noise": _Operation(
        lambda rng: Noise(float(rng.uniform(*_NOISE)), int(rng.integers(1 << 31))), add_noise, add_noise_batch
    ),
    "quantize": _Operation(sample_levels, quantize, quantize_batch),
}


@dataclass(frozen=True)
class Step:
    """One operation of a chain with its strength, whose type depends on the operation."""

    operation: Degradation
    strength: Any

    @property
    def needs_host(self) -> bool:
        """Whether the operation has no batched version."""
        return _OPERATIONS[self.operation].change_batch is None


def sample_chain(settings: DegradeSettings, random: ImageRandom) -> tuple[Step, ...]:
    """Draw the chain of an image: its operations, their order and their strengths; it may be empty.

    Every operation has a position in the order, including those that are not in the settings, and draws its strength
    from its own stream. Changing the list of operations therefore preserves the strengths and relative order of the
    operations in both lists.
    """
    rng = random.stream("degrade")
    chance, length = rng.random(2)
    if chance >= settings.probability:
        return ()
    places = dict(zip(_OPERATIONS, rng.random(len(_OPERATIONS)).tolist(), strict=True))
    count = 1 + int(length * min(settings.length, len(settings.operations)))
    chosen = sorted(settings.operations, key=places.__getitem__)[:count]
    return tuple(Step(name, _OPERATIONS[name].sample(random.stream(f"degrade {name}"))) for name in chosen)


def degrade(image: Image, chain: Sequence[Step]) -> Image:
    """Apply a chain to a square image (size, size, 3)."""
    for step in chain:
        image = _OPERATIONS[step.operation].change(image, step.strength)
    return image


def degrade_batch(batch: Tensor, chains: Sequence[Sequence[Step]]) -> Tensor:
    """Apply the chain of each image to grey values (batch, 3, size, size), without waiting for the device.

    The first steps of all images are applied together, operation by operation, then the second steps, and so on. How
    closely each operation agrees with its version for one image is documented in its module.
    """
    for at in range(max(map(len, chains), default=0)):
        steps = {row: chain[at] for row, chain in enumerate(chains) if at < len(chain)}
        for name in dict.fromkeys(step.operation for step in steps.values()):
            change_batch = _OPERATIONS[name].change_batch
            assert change_batch is not None  # the caller applies chains with such a step with `degrade`
            rows = [row for row, step in steps.items() if step.operation == name]
            batch = change_rows(batch, rows, change_batch, [steps[row].strength for row in rows])
    return batch
