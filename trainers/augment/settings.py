"""Settings of augmentation: which changes training images go through, and how often."""

from dataclasses import dataclass

from oof.errors import ConfigError
from trainers.runtime.settings import check_range

_PROBABILITIES = (
    "hflip translate color_jitter jpeg webp blur noise downscale grid_cutout self_blend face_cutout pair_mix mix_share"
).split()
# applied to single images on the CPU, whatever the device
ON_HOST = ("self_blend", "face_cutout", "pair_mix", "webp", "randaugment")


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """Random changes of training images; each is drawn anew for every image and epoch.

    hflip, translate, color_jitter, jpeg, webp, blur, noise, downscale (to a smaller size and back), grid_cutout:
        probabilities, 0 to 1.
    randaugment: number of random operations of RandAugment for each image.
    self_blend: probability that a real becomes a fake, blended with a changed copy of itself.
    face_cutout: probability that a part of the face is blackened (eyes, nose, mouth or a half), where a crop that is
        aligned to the face has it; for crops of faces only.
    pair_mix: probability that a fake is mixed with the real that it was made from.
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
    self_blend: float = 0.0
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
            raise ConfigError("pair_mix and pair_column belong together: how often, and the column of the originals.")
