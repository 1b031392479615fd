"""SpecAugment: mask frequency bands and time ranges of a spectrogram."""

import torch
from torch import Tensor


def spec_augment(mel: Tensor, frequency: float, time: float, count: int = 2) -> Tensor:
    """Return spectrograms with some ranges set to their mean.

    Park et al., SpecAugment, Interspeech 2019 (without time warping, which the authors found least important).
    Positions and lengths are drawn for each row from torch's generator.

    Args:
        mel: (rows, bands, columns).
        frequency, time: maximum masked range, as a fraction of bands and of columns; 0 for none.
        count: number of ranges along each axis.
    """
    rows, bands, columns = mel.shape
    hidden = torch.zeros(rows, bands, columns, dtype=torch.bool, device=mel.device)
    for axis, size, share in ((1, bands, frequency), (2, columns, time)):
        if not share:
            continue
        at = torch.arange(size, device=mel.device)
        for _ in range(count):
            length = torch.rand(rows, 1, device=mel.device) * share * size
            start = torch.rand(rows, 1, device=mel.device) * (size - length)
            inside = (at >= start) & (at < start + length)  # (rows, size)
            hidden |= inside[:, :, None] if axis == 1 else inside[:, None, :]
    return torch.where(hidden, mel.mean((1, 2), keepdim=True), mel)
