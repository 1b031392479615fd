"""An encoder of sound: a timm backbone on log-mel spectrograms."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

# log-mel levels of speech have mean -12 and standard deviation 5; one scale for all clips preserves their loudness
_LEVEL, _SPREAD = -12.0, 5.0


class MelEncoder(nn.Module):
    """Map waveforms (n, n_samples) to features (n, num_features) by a backbone on the spectrogram as a grey image.

    Args:
        mel: module that maps waveforms to log-mel spectrograms, (n, bands, columns).
        backbone: network without classifier, for images with one channel.
        hide: augmentation of spectrograms in training (SpecAugment), or None.
    """

    def __init__(self, mel: nn.Module, backbone: nn.Module, hide: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.mel, self.backbone, self.hide = mel, backbone, hide
        self.num_features = int(backbone.num_features)  # type: ignore[arg-type]

    def forward(self, waveform: Tensor) -> Tensor:
        with torch.autocast(waveform.device.type, enabled=False):  # 16 bits are too few for power spectra
            mel = (self.mel(waveform) - _LEVEL) / _SPREAD
        if self.training and self.hide is not None:
            mel = self.hide(mel)
        features: Tensor = self.backbone(mel[:, None])
        return features


def without_classifier(model: nn.Module) -> nn.Module:
    """Return a timm model that outputs its pooled features; also supports models inside a stem for several inputs."""
    inner: Any = getattr(model, "backbone", model)
    inner.reset_classifier(0)
    # some classifiers have a hidden layer that remains and determines the number of features
    width = getattr(inner, "head_hidden_size", None) or inner.num_features
    model.num_features = int(width)  # type: ignore[assignment]
    return model
