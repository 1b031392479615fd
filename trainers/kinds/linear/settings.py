"""Settings of the kind `linear`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from trainers.features.settings import ExtractSettings
from trainers.media.settings import Decode
from trainers.runtime.settings import check_range

Classifier = Literal["logistic", "svm", "extra_trees"]


@dataclass(frozen=True, kw_only=True)
class LinearSettings(ExtractSettings):
    """scikit-learn on small features: a baseline in seconds, without torch.

    Of images pixels, spectrum and noise residual; of clips statistics of sound and picture, and their synchrony.

    classifier: "logistic" regression, "svm" (support vectors, radial kernel) or "extra_trees".
    image_size: height and width in pixels of the pixel features.
    decode: how images are read: area, scaled or pil (described in trainers/media/image.py).
    seed: of the trees.
    leaks: of clips also what a file gives away before anyone looks at its content (silence at the ends, duration,
        rates, sizes): not a model to submit, but a way to see how far such leaks carry.
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
        check_range(self, 4, 256, "image_size")

    @property
    def extraction(self) -> ExtractSettings:
        """What is extracted from clips for this model."""
        return ExtractSettings(**{name: getattr(self, name) for name in ExtractSettings.__dataclass_fields__})
