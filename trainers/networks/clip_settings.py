"""Settings of networks on clips."""

from dataclasses import dataclass
from typing import Literal

from oof.errors import ConfigError
from trainers.runtime.settings import check_range

Pooling = Literal["mean", "top_k", "confidence", "dfdc", "attention", "auto"]
Temporal = Literal["none", "conv", "transformer"]
Fusion = Literal["gated", "cross_attention"]


@dataclass(frozen=True, kw_only=True)
class ClipNetworkSettings:
    """Combination of the moments of a clip (frames, windows of sound) into its prediction.

    moments: number of frames or windows of a clip that the network sees at once. time_views: number of times that
        prediction sees a clip, each time at other moments; the cost of prediction is a multiple of it. Changing it
        needs no new training.
    pooling: how predictions of moments are combined: mean; top_k (mean of the upper third); confidence (weighted by the
        distance from 0.5); dfdc (rule of the winner of the Deepfake Detection Challenge); attention (learned weights);
        auto (the first four compared on held-out rows, each half with the rule that is best on the other half).
        Changing one for another needs no new training, except to or from attention.
    temporal: a head over the features of the moments: none, conv or transformer.
    """

    moments: int = 8
    time_views: int = 2
    pooling: Pooling = "mean"
    temporal: Temporal = "none"

    def __post_init__(self) -> None:
        check_range(self, 1, 1e4, "moments", "time_views")
        if self.temporal != "none" and self.pooling not in ("mean", "attention"):
            raise ConfigError(
                f'pooling = "{self.pooling}" combines predictions of single moments, but temporal = "{self.temporal}" '
                f'processes all together. Set pooling = "mean" or "attention", or temporal = "none".'
            )


@dataclass(frozen=True, kw_only=True)
class FusionSettings:
    """Fusion of video and sound.

    fusion: gated or cross_attention. modality_dropout: share of the clips with both whose video or sound is hidden
        in training. modality_loss: weight of the losses on video alone and on sound alone.
    """

    fusion: Fusion = "gated"
    modality_dropout: float = 0.2
    modality_loss: float = 0.3

    def __post_init__(self) -> None:
        check_range(self, 0, 1, "modality_dropout")
        check_range(self, 0, 1e3, "modality_loss")
