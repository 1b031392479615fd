"""Settings of the kind `linear`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from trainers.features.settings import ExtractSettings
from trainers.kinds.repeats import RepeatSettings
from trainers.media.settings import Decode
from trainers.runtime.settings import check_range

Classifier = Literal["logistic", "svm", "extra_trees"]


@dataclass(frozen=True, kw_only=True)
class LinearSettings(RepeatSettings, ExtractSettings):
    """scikit-learn on small features: a baseline in seconds, without torch.

    For images: pixels, spectrum and noise residuals; for clips: statistics of sound and video, and their synchrony.

    classifier: "logistic" regression, "svm" (RBF kernel) or "extra_trees".
    image_size: height and width of the pixel features, pixels.
    decode: decoder of the images: area, scaled or pil (described in trainers/media/image.py).
    seed: seed of the trees.
    leaks: for clips, add properties of the file that do not depend on its content (silence at the ends, duration,
        rates, sizes): not a model to submit, but a way to measure such leaks.
    """

    is_baseline: ClassVar[bool] = True

    kind: Literal["linear"] = "linear"
    classifier: Classifier = "logistic"
    image_size: int = 24
    decode: Decode = "area"
    seed: int = 0
    leaks: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_repeats()
        check_range(self, 4, 256, "image_size")

    @property
    def extraction(self) -> ExtractSettings:
        """Settings of the features extracted from clips."""
        return ExtractSettings(**{name: getattr(self, name) for name in ExtractSettings.__dataclass_fields__})
