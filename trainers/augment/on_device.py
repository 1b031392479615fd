"""The augmentation of pipeline.py for a whole batch on its device, each image with its own parameters."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from trainers.augment.pipeline import AugmentParams, apply, cut_mask
from trainers.augment.settings import AugmentSettings

# ITU-T T.81, tables K.1 and K.2: brightness and colour
_TABLES = (
    (16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29,
     51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120,
     101, 72, 92, 95, 98, 112, 100, 103, 99),
    (17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99,
     99, 99, 99, 99, *(99,) * 32),
)  # fmt: skip
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def apply_on_device(images: Tensor, drawn: Sequence[AugmentParams], settings: AugmentSettings, size: int) -> Tensor:
    """Do what was drawn for each image.

    Grey values agree with OpenCV's to about one step, after compression to a few. Noise comes from the
    device's own generator. WebP and RandAugment, which have no form for batches, are left to OpenCV.

    Args:
        images: (batch, edge, edge, 3) uint8.
        drawn: one for each image. size: height and width in pixels of the windows that the network sees.

    Returns:
        Grey values (batch, 3, size, size), float32, whole numbers from 0 to 255.
    """
    device = images.device
    slow = [row for row, one in enumerate(drawn) if settings.randaugment or one.webp]
    by_hand = [torch.from_numpy(apply(images[row].cpu().numpy(), drawn[row], settings, size).copy()) for row in slow]
    batch = _windows(images, drawn, size).float()

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1, 1)

    flip = column([one.flip for one in drawn]) > 0
    batch = torch.where(flip, batch.flip(3), batch)
    contrast = column([one.contrast for one in drawn])
    offset = torch.tensor([one.offset for one in drawn], device=device, dtype=torch.float32).view(-1, 3, 1, 1)
    batch = _whole((batch - 128) * contrast + 128 + offset)
    for row, one in enumerate(drawn):
        if one.scale != 1.0:
            batch[row] = _resized(batch[row : row + 1], max(8, round(size * one.scale)), size)[0]
    if any(one.sigma for one in drawn):
        batch = _blurred(batch, [one.sigma for one in drawn])
    if any(one.noise for one in drawn):
        noise = column([one.noise for one in drawn])
        batch = torch.where(noise > 0, _whole(batch + torch.randn_like(batch) * noise), batch)
    for row, one in enumerate(drawn):
        if one.cut:
            batch[row].masked_fill_(torch.from_numpy(cut_mask(one.cut, size)).to(device), 128.0)
    coded = [row for row, one in enumerate(drawn) if one.jpeg]
    if coded:
        chosen = torch.tensor(coded, device=device)
        batch[chosen] = _through_jpeg(batch[chosen], [drawn[row].jpeg for row in coded])
    for row, image in zip(slow, by_hand, strict=True):
        batch[row] = image.to(device).permute(2, 0, 1).float()
    return batch


def _windows(images: Tensor, drawn: Sequence[AugmentParams], size: int) -> Tensor:
    """Each image's own window, (batch, 3, size, size), mirrored at the edges."""
    batch, edge = images.permute(0, 3, 1, 2), images.shape[1]
    places = torch.arange(size, device=images.device)

    def indices(starts: Sequence[int]) -> Tensor:
        found = torch.tensor(starts, device=images.device)[:, None] + places  # (batch, size)
        mirrored = found.abs()
        return torch.where(mirrored >= edge, 2 * (edge - 1) - mirrored, mirrored)

    rows, columns = indices([one.top - one.border for one in drawn]), indices([one.left - one.border for one in drawn])
    every = torch.arange(len(batch), device=images.device)[:, None, None, None]
    plane = torch.arange(3, device=images.device)[None, :, None, None]
    return batch[every, plane, rows[:, None, :, None], columns[:, None, None, :]]


def _whole(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255)


def _resized(image: Tensor, small: int, size: int) -> Tensor:
    reduced = _whole(interpolate(image, (small, small), mode="area"))
    return _whole(interpolate(reduced, (size, size), mode="bicubic"))


def _blurred(batch: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Each image with its own Gaussian, one axis after the other; images are laid side by side as channels."""
    half = max(1, math.ceil(4 * max(sigmas)))
    places = torch.arange(-half, half + 1, device=batch.device, dtype=torch.float32)
    sigma = torch.tensor(sigmas, device=batch.device)[:, None].clamp(min=1e-3)
    kernel = torch.exp(-(places**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)  # (batch * 3, taps)
    planes = batch.reshape(1, -1, *batch.shape[2:])
    planes = pad(planes, (half, half, half, half), mode="reflect")
    planes = conv2d(planes, kernel[:, None, None, :], groups=len(kernel))
    planes = conv2d(planes, kernel[:, None, :, None], groups=len(kernel))
    return _whole(planes.view_as(batch))


def _through_jpeg(batch: Tensor, qualities: Sequence[int]) -> Tensor:
    """What JPEG leaves of the images: colour at half size, 8 x 8 cosine transform, rounded coefficients, and back."""
    device, size = batch.device, batch.shape[2]
    quality = torch.tensor(qualities, device=device, dtype=torch.float32)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).floor().view(-1, 1, 1)
    tables = [
        ((torch.tensor(table, device=device, dtype=torch.float32).view(8, 8) * scale + 50) / 100).floor().clamp(1, 255)
        for table in _TABLES
    ]  # each (batch, 8, 8)
    to_ycc = torch.tensor(_TO_YCC, device=device)
    ycc = conv2d(batch, to_ycc.view(3, 3, 1, 1))
    ycc = _whole(
        pad(ycc, (0, -size % 16, 0, -size % 16), mode="replicate") + ycc.new_tensor([0, 128, 128]).view(3, 1, 1)
    )
    colour = _whole(interpolate(ycc[:, 1:], scale_factor=0.5, mode="area"))
    planes = [_rounded_blocks(ycc[:, 0], tables[0])]
    planes += [_rounded_blocks(colour[:, plane], tables[1]) for plane in (0, 1)]
    # libjpeg's "fancy" up-sampling is linear between the middles of the coarse pixels
    wide = interpolate(torch.stack(planes[1:], 1), scale_factor=2, mode="bilinear")
    full = torch.cat([planes[0][:, None], _whole(wide)], 1)[:, :, :size, :size]
    shifted = full - full.new_tensor([0, 128, 128]).view(3, 1, 1)
    return _whole(conv2d(shifted, torch.linalg.inv(to_ycc).view(3, 3, 1, 1)))


def _rounded_blocks(plane: Tensor, table: Tensor) -> Tensor:
    """A plane (batch, height, width) with the coefficients of its blocks rounded to multiples of the table's."""
    places = torch.arange(8, device=plane.device, dtype=torch.float32)
    basis = torch.cos(math.pi * (2 * places[None, :] + 1) * places[:, None] / 16) / 2
    basis[0] /= math.sqrt(2)
    batch, height, width = plane.shape
    blocks = (plane - 128).view(batch, height // 8, 8, width // 8, 8).transpose(2, 3)  # (..., 8, 8)
    step = table[:, None, None]
    coefficients = (basis @ blocks @ basis.T / step).round() * step
    restored = basis.T @ coefficients @ basis
    return _whole(restored.transpose(2, 3).reshape(batch, height, width) + 128)
