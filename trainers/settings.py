"""What a model may be told: the sections [train] and [models.NAME] of dfens.toml."""

from dataclasses import dataclass, field
from typing import Any, Literal

from oof.errors import ConfigError

Tta = Literal["none", "hflip", "flips", "d4", "ten_crop"]
Merge = Literal["mean", "gmean", "max"]
Decode = Literal["area", "scaled", "pil"]


@dataclass(frozen=True, kw_only=True)
class TimmSettings:
    """A convolutional network or transformer of timm, trained on images.

    backbone: a name that timm knows. backbone_options: further arguments of `timm.create_model`.
    pretrained: true (weights from the hub), false (from scratch), or the path of a file of weights
        (safetensors, or a PyTorch file that holds tensors alone).
    image_size: edge in pixels that the network sees; crop: edge in pixels to which images are reduced first, of
        which training takes random windows of image_size and prediction the middle one (0: image_size, no window).
    decode: how images are read: area, scaled or pil (trainers/decode.py tells what each does).
    epochs, batch_size, lr (peak rate), weight_decay, warmup (share of all steps), ema (decay of the averaged
        weights; 0 for none), label_smoothing (0 to 1), class_weight ("balanced" gives both classes equal say).
    keep: "last" predicts with the last epoch's weights; "best" with those of the epoch of the best validation
        AUC, which makes the OOF score optimistic, and says so.
    hflip, shift, colour, jpeg, blur: probabilities of the augmentations, 0 to 1.
    tta: views at prediction; tta_merge: how their probabilities become one.
    seed: of weights, order and augmentation; a fold adds its index.
    """

    kind: Literal["timm"] = "timm"
    backbone: str
    backbone_options: dict[str, Any] = field(default_factory=dict)
    pretrained: bool | str = True
    image_size: int = 224
    crop: int = 0
    decode: Decode = "area"
    epochs: int = 10
    batch_size: int = 32
    lr: float = 3e-4
    weight_decay: float = 0.05
    warmup: float = 0.1
    ema: float = 0.99
    label_smoothing: float = 0.05
    class_weight: Literal["none", "balanced"] = "none"
    keep: Literal["last", "best"] = "last"
    hflip: float = 0.5
    shift: float = 0.5
    colour: float = 0.5
    jpeg: float = 0.0
    blur: float = 0.0
    tta: Tta = "hflip"
    tta_merge: Merge = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hflip", "shift", "colour", "jpeg", "blur", "label_smoothing", "warmup"):
            _within(self, name, 0, 1)
        _within(self, "ema", 0, 0.99999)
        for name in ("image_size", "epochs", "batch_size"):
            _within(self, name, 1, 1e9)
        _within(self, "lr", 1e-12, 1e3)
        _within(self, "weight_decay", 0, 1e3)
        if self.crop and self.crop < self.image_size:
            raise ConfigError(f"crop = {self.crop} is smaller than image_size = {self.image_size}; it must hold it.")


@dataclass(frozen=True, kw_only=True)
class LinearSettings:
    """scikit-learn on small features (pixels, spectrum, noise residual): a floor in seconds, without torch.

    classifier: "logistic" regression or "extra_trees". image_size: edge in pixels of the pixel features.
    decode: as of TimmSettings. seed: of the trees.
    """

    kind: Literal["linear"] = "linear"
    classifier: Literal["logistic", "extra_trees"] = "logistic"
    image_size: int = 24
    decode: Decode = "area"
    seed: int = 0

    def __post_init__(self) -> None:
        _within(self, "image_size", 4, 256)


ModelSettings = TimmSettings | LinearSettings


def _within(settings: object, name: str, low: float, high: float) -> None:
    value = getattr(settings, name)
    if not low <= value <= high:
        raise ConfigError(f"{name} = {value} is out of range; it must be from {low:g} to {high:g}.")
