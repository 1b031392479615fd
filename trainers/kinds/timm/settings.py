"""Settings of the kind `timm`."""

from dataclasses import dataclass
from typing import Literal

from oof.errors import ConfigError
from trainers.augment.settings import ON_HOST, AugmentSettings
from trainers.kinds.repeats import RepeatSettings
from trainers.media.settings import ImageSettings
from trainers.networks.settings import NetworkSettings, OptimSettings, PredictionSettings
from trainers.runtime.settings import check_types

_GROUPS = (NetworkSettings, ImageSettings, OptimSettings, AugmentSettings, PredictionSettings)


@dataclass(frozen=True, kw_only=True)
class TimmSettings(RepeatSettings, PredictionSettings, AugmentSettings, OptimSettings, ImageSettings, NetworkSettings):
    """A convolutional network or transformer from timm, trained on images.

    preset: name of a preset whose values are used for all settings not given (listed in trainers/presets.py).
    """

    kind: Literal["timm"] = "timm"
    preset: str = ""

    def __post_init__(self) -> None:
        check_types(self)
        for group in _GROUPS:
            group.__post_init__(self)
        self.check_repeats()
        on_host = [name for name in ON_HOST if getattr(self, name)]
        on_host += ["webp in degrade.operations"] if self.degrade.needs_host else []
        if self.decode == "gpu" and on_host:
            raise ConfigError(
                f'decode = "gpu" keeps images off the CPU, and there is no GPU version of {", ".join(on_host)}. '
                'Set decode = "area".'
            )
        if self.loss == "auc" and (self.mixup or self.cutmix):
            raise ConfigError('loss = "auc" compares reals with fakes, but mixup and cutmix mix them. Set these to 0.')
        if (self.alignment or self.uniformity) and self.feature_norm != "l2":
            raise ConfigError(
                'alignment and uniformity are losses on features of unit length. Set feature_norm = "l2", or both to 0.'
            )
        if self.tta == "ten_crop" and self.stored_size <= self.image_size:
            raise ConfigError(
                f'tta = "ten_crop" needs images larger than image_size = {self.image_size}. Set crop to '
                f"more than {self.image_size}, or use another tta."
            )

    @property
    def ignored(self) -> frozenset[str]:
        """Return the settings that have no effect with the others: a single view is not merged."""
        return frozenset({"tta_merge"} if self.tta == "none" else ())
