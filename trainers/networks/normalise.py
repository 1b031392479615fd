"""Normalisation of images for a backbone, on the device."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def grey_mean_and_std(backbone: nn.Module) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation expected by a backbone, in grey values 0 to 255, (1, 3, 1, 1) each."""
    config: Mapping[str, Any] = getattr(backbone, "pretrained_cfg", None) or _IMAGENET
    mean, std = (torch.tensor(config[name]).view(1, 3, 1, 1) * 255 for name in ("mean", "std"))
    return mean, std


class Normalise:
    """Move uint8 images to the device and convert them there to normalised floats, channels last."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        backbone = getattr(model, "backbone", model)
        assert isinstance(backbone, nn.Module)
        mean, std = grey_mean_and_std(backbone)
        self._device = device
        self._scale = (1 / std).to(device)
        self._shift = (-mean / std).to(device)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise uint8 images (batch, edge, edge, 3) to (batch, 3, edge, edge)."""
        batch = images.to(self._device, non_blocking=True).permute(0, 3, 1, 2)  # the memory is channels-last already
        values = batch.to(torch.float32)
        torch.addcmul(self._shift, values, self._scale, out=values)
        return values.contiguous(memory_format=torch.channels_last)
