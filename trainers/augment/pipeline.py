"""Augmentation of decoded images: parameters are drawn from (seed, epoch, id), then applied by OpenCV or on a device.

Sampling and applying are separate, so that CPU and device apply the same parameters in the same order: window and
mirror, RandAugment, colour, downscaling, blur, noise, cutout, compression, chain of degradations. Each operation has a
module with its version for one image on the CPU and its version for a batch on any device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from trainers.augment.arrays import change_rows
from trainers.augment.blur import blur, blur_batch, sample_sigma
from trainers.augment.color_jitter import NONE, Jitter, jitter_color, jitter_colors, sample_jitter
from trainers.augment.compression import sample_quality, through_jpeg, through_jpeg_batch, through_webp
from trainers.augment.degrade import Step, degrade, degrade_batch, sample_chain
from trainers.augment.downscale import downscale, downscale_batch, sample_scale
from trainers.augment.grid_cutout import cut_cells, cut_cells_batch, sample_cells
from trainers.augment.noise import Noise, add_noise, add_noise_batch, sample_noise
from trainers.augment.randaugment import randaugment
from trainers.augment.random_streams import ImageRandom
from trainers.augment.settings import AugmentSettings
from trainers.augment.window import Window, sample_place, take_window, take_windows
from trainers.media.arrays import Image

T = TypeVar("T")


@dataclass(frozen=True)
class AugmentParams:
    """The parameters of one image in one epoch; an operation that is not applied has a neutral value.

    window: visible pixels. jitter: contrast and offsets. scale: smaller size / size. sigma: blur, pixels.
    noise: standard deviation and seed. cells: cells of a 4 x 4 grid to paint grey, as bits. jpeg, webp: quality, 0 for
    none. operations, seed: parameters of RandAugment. chain: degradations, in order.
    """

    window: Window = field(default_factory=Window)
    operations: int = 0
    seed: int = 0
    jitter: Jitter = NONE
    scale: float = 1.0
    sigma: float = 0.0
    noise: Noise = field(default_factory=Noise)
    cells: int = 0
    jpeg: int = 0
    webp: int = 0
    chain: tuple[Step, ...] = ()

    @property
    def needs_host(self) -> bool:
        """Return whether an operation without a batched version is applied."""
        return bool(self.operations or self.webp) or any(step.needs_host for step in self.chain)

    @property
    def after_start(self) -> "AugmentParams":
        """Return the parameters of what follows `start_on_host`."""
        if self.needs_host:
            return NEUTRAL
        rest = replace(self, window=Window(), jitter=NONE)
        return NEUTRAL if rest == NEUTRAL else rest  # the same object is sent between processes at no cost


NEUTRAL = AugmentParams()


def sample_params(settings: AugmentSettings, stored_size: int, size: int, random: ImageRandom) -> AugmentParams:
    """Draw the parameters of an image of `stored_size` pixels, of which the network sees `size`.

    Each enabled operation draws from its own stream.
    """

    def draw(probability: float, sample: Callable[[float, np.random.Generator], T], name: str, none: T) -> T:
        return sample(probability, random.stream(name)) if probability else none

    top = left = border = 0
    if stored_size > size or settings.translate:
        top, left, border = sample_place(settings.translate, stored_size, size, random.stream("window"))
    jpeg = draw(settings.jpeg, sample_quality, "jpeg", 0)
    return AugmentParams(
        window=Window(top, left, border, bool(settings.hflip and random.stream("hflip").random() < settings.hflip)),
        operations=settings.randaugment,
        seed=int(random.stream("randaugment").integers(1 << 31)) if settings.randaugment else 0,
        jitter=draw(settings.color_jitter, sample_jitter, "color_jitter", NONE),
        scale=draw(settings.downscale, sample_scale, "downscale", 1.0),
        sigma=draw(settings.blur, sample_sigma, "blur", 0.0),
        noise=draw(settings.noise, sample_noise, "noise", Noise()),
        cells=draw(settings.grid_cutout, sample_cells, "grid_cutout", 0),
        jpeg=jpeg,
        webp=0 if jpeg else draw(settings.webp, sample_quality, "webp", 0),  # an image is compressed at most once
        chain=sample_chain(settings.degrade, random) if settings.degrade.probability else (),
    )


def augment_image(image: Image, params: AugmentParams, size: int) -> Image:
    """Apply the parameters with OpenCV.

    Args:
        image: RGB, shape (stored_size, stored_size, 3).
        size: pixels that the network sees.

    Returns:
        RGB, shape (size, size, 3); may share memory with `image`.
    """
    image = _cut_and_color(image, params, size)
    if params.scale != 1.0:
        image = downscale(image, params.scale)
    if params.sigma:
        image = blur(image, params.sigma)
    if params.noise.sigma:
        image = add_noise(image, params.noise)
    if params.cells:
        image = cut_cells(image, params.cells)
    if params.jpeg:
        image = through_jpeg(image, params.jpeg)
    if params.webp:
        image = through_webp(image, params.webp)
    return degrade(image, params.chain)


def _cut_and_color(image: Image, params: AugmentParams, size: int) -> Image:
    image = take_window(image, params.window, size)
    if params.operations:
        image = randaugment(image, params.operations, params.seed)
    return image if params.jitter == NONE else jitter_color(image, params.jitter)


def start_on_host(image: Image, params: AugmentParams, size: int) -> Image:
    """Apply with OpenCV what it does in little time, before a device continues with `params.after_start`.

    These are window and colour, and all operations if one of them has no batched version. Starting them on a GPU takes
    the thread that trains a tenth of a step.

    Returns:
        RGB, shape (size, size, 3); may share memory with `image`.
    """
    return augment_image(image, params, size) if params.needs_host else _cut_and_color(image, params, size)


def augment_batch(images: Tensor, params: Sequence[AugmentParams], size: int) -> Tensor:
    """Apply the parameters of each image on the device of the batch, without synchronisation.

    Window, colour and cutout give the same values as `augment_image`; downscaling and blur agree to one grey level,
    JPEG to one on average; noise has the same distribution but different values.

    Args:
        images: (batch, stored_size, stored_size, 3) uint8.
        params: parameters of each image; with operations that need the host, of `after_start`.

    Returns:
        RGB, uint8, shape (batch, size, size, 3); `images` themselves if nothing is to be changed.
    """
    windows, plain = [one.window for one in params], Window()
    if images.shape[1] != size or any(window != plain for window in windows):
        batch = take_windows(images, windows, size)
    elif all(one == NEUTRAL for one in params):
        return images
    else:
        batch = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)

    def change(batch: Tensor, function: Callable[[Tensor, list[T]], Tensor], values: list[T], none: T) -> Tensor:
        rows = [row for row, value in enumerate(values) if value != none]
        return change_rows(batch, rows, function, [values[row] for row in rows])

    jitters = [one.jitter for one in params]
    if any(jitter != NONE for jitter in jitters):
        batch = jitter_colors(batch, jitters)  # exact for NONE, and faster than choosing some of the images
    batch = change(batch, downscale_batch, [one.scale for one in params], 1.0)
    batch = change(batch, blur_batch, [one.sigma for one in params], 0.0)
    batch = change(batch, add_noise_batch, [one.noise for one in params], Noise())
    batch = change(batch, cut_cells_batch, [one.cells for one in params], 0)
    batch = change(batch, through_jpeg_batch, [one.jpeg for one in params], 0)
    batch = degrade_batch(batch, [one.chain for one in params])
    return batch.permute(0, 2, 3, 1).to(torch.uint8, memory_format=torch.contiguous_format)  # whole grey values
