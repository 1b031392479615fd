"""Settings of the kind `linear`."""

from dataclasses import dataclass
from typing import Literal

from trainers.media.settings import Decode
from trainers.runtime.settings import check_range

Classifier = Literal["logistic", "svm", "extra_trees"]


@dataclass(frozen=True, kw_only=True)
class LinearSettings:
    """scikit-learn on small features (pixels, spectrum, noise residual): a baseline in seconds, without torch.

    classifier: "logistic" regression, "svm" (support vectors, radial kernel) or "extra_trees".
    image_size: height and width in pixels of the pixel features.
    decode: how images are read: area, scaled or pil (described in trainers/media/image.py).
    seed: of the trees.
    """

    kind: Literal["linear"] = "linear"
    classifier: Classifier = "logistic"
    image_size: int = 24
    decode: Decode = "area"
    seed: int = 0

    def __post_init__(self) -> None:
        check_range(self, 4, 256, "image_size")
