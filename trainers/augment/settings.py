"""Settings of augmentation."""

from dataclasses import dataclass, field
from typing import Literal

from oof.errors import ConfigError
from trainers.runtime.settings import check_leaves_reals, check_range

_PROBABILITIES = (
    "hflip translate color_jitter jpeg webp blur noise downscale grid_cutout self_blend face_cutout pair_mix mix_share"
).split()
# applied to single images on the CPU, regardless of the device
ON_HOST = ("self_blend", "face_cutout", "pair_mix", "webp", "randaugment")


Degradation = Literal["jpeg", "webp", "double_jpeg", "resize", "blur", "noise", "quantize"]
_DEGRADATIONS: tuple[Degradation, ...] = ("jpeg", "webp", "double_jpeg", "resize", "blur", "noise", "quantize")


@dataclass(frozen=True, kw_only=True)
class DegradeSettings:
    """Chains of degradations, as images undergo them on platforms and in messengers.

    probability: probability of a chain, 0 for none. operations: possible operations, each at most once in a chain.
    length: maximum number of operations in a chain; the number is drawn uniformly from 1 to length.
    """

    probability: float = 0.0
    operations: tuple[Degradation, ...] = _DEGRADATIONS
    length: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"degrade.probability = {self.probability} is out of range; it must be from 0 to 1.")
        if not self.operations or len(set(self.operations)) < len(self.operations):
            raise ConfigError(
                f"degrade.operations = {list(self.operations)} must name one operation or more, each once."
            )
        if not 1 <= self.length <= len(_DEGRADATIONS):
            raise ConfigError(
                f"degrade.length = {self.length} is out of range; it must be from 1 to {len(_DEGRADATIONS)}."
            )

    @property
    def needs_host(self) -> bool:
        """Whether chains may contain an operation without a batched version."""
        return bool(self.probability) and "webp" in self.operations


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """Random changes of training images, drawn for every image and epoch.

    hflip, translate, color_jitter, jpeg, webp, blur, noise, downscale (to a smaller size and back), grid_cutout:
        probabilities, 0 to 1.
    randaugment: number of random operations of RandAugment per image.
    degrade: chains of jpeg, webp, double_jpeg (with a shifted block grid), resize (any filter, and back), blur, noise
        and quantize (fewer colours), in random order and strength: {probability, operations, length}, where length is
        the maximum number of operations in a chain.
    self_blend: probability that a real becomes a fake by blending it with a modified copy of itself.
    reals_only: train only on reals, from which self_blend makes the fakes; held-out fakes are predicted and scored
        as usual.
    face_cutout: probability of blackening a part of the face (eyes, nose, mouth or a half) at its position in an
        aligned crop; only for face crops.
    pair_mix: probability that a fake is mixed with the real from which it was made.
    pair_column: column of the training table with the id of that real.
    mixup, cutmix: parameter alpha of the Beta distribution of the mixing weight, 0 for none.
    mix_share: fraction of the steps whose images are mixed.
    """

    hflip: float = 0.5
    translate: float = 0.5
    color_jitter: float = 0.5
    jpeg: float = 0.0
    webp: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    downscale: float = 0.0
    grid_cutout: float = 0.0
    randaugment: int = 0
    degrade: DegradeSettings = field(default_factory=DegradeSettings)
    self_blend: float = 0.0
    reals_only: bool = False
    face_cutout: float = 0.0
    pair_mix: float = 0.0
    pair_column: str = ""
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_share: float = 0.5

    def __post_init__(self) -> None:
        check_range(self, 0, 1, *_PROBABILITIES)
        check_range(self, 0, 1e3, "mixup", "cutmix")
        check_range(self, 0, 8, "randaugment")
        if bool(self.pair_mix) != bool(self.pair_column):
            raise ConfigError(
                "pair_mix and pair_column must be set together: the probability, and the column of the originals."
            )
        if self.reals_only and not 0 < self.self_blend < 1:
            raise ConfigError(
                f"reals_only = true trains on reals and on fakes that self_blend makes of them, so both need a share: "
                f"self_blend = {self.self_blend:g} must be above 0 and below 1. Set self_blend = 0.5."
            )
        check_leaves_reals(self, "self_blend")
        if self.reals_only and self.pair_mix:
            raise ConfigError("reals_only = true leaves no fakes that pair_mix could mix with reals. Set pair_mix = 0.")
