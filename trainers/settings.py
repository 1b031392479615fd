"""What a model may be told: the sections [train] and [models.NAME] of dfens.toml."""

from dataclasses import dataclass, field
from typing import Any, Literal

from oof.errors import ConfigError

Tta = Literal["none", "hflip", "flips", "d4", "ten_crop"]
Merge = Literal["mean", "gmean", "max"]
Decode = Literal["area", "scaled", "pil"]
DeviceDecode = Literal["area", "scaled", "pil", "gpu"]
Loss = Literal["bce", "focal", "auc", "classes"]
Precision = Literal["auto", "float32", "bfloat16"]
Classifier = Literal["logistic", "svm", "extra_trees"]
Inputs = Literal["rgb", "ycbcr", "srm", "dct", "phase"]

_SHARES = (
    "hflip translate color_jitter jpeg webp blur noise downscale grid_cutout self_blend face_cutout pair_mix mix_share "
    "label_smoothing warmup"
).split()


@dataclass(frozen=True, kw_only=True)
class TimmSettings:
    """A convolutional network or transformer of timm, trained on images.

    Network
        backbone: a name that timm knows. backbone_options: further arguments of `timm.create_model`
            (drop_rate, drop_path_rate, global_pool, img_size, ...).
        preset: values of a well-tried recipe for all settings not given here (trainers/presets.py lists them).
        pretrained: true (weights from the hub), false (from scratch), or the path of a file of weights
            (safetensors, or a PyTorch file that holds tensors alone).
        trainable: which weights learn: all, norm (normalisation layers and the head), or head.
        inputs: what the network sees, side by side, brought to three channels by a 1 x 1 convolution where there
            are more: rgb, ycbcr, srm (noise residuals), dct (cosine transform of blocks), phase (image of the phases).

    Images
        image_size: edge in pixels that the network sees; crop: edge in pixels to which images are reduced first,
            of which training takes random windows of image_size and prediction the middle one (0: image_size).
        decode: how images are read: area, scaled or pil (trainers/media/image.py tells what each does), or gpu (by
            nvJPEG on a CUDA device; not with self_blend, face_cutout or pair_mix, which work on the CPU).

    Training
        epochs; batch_size: images in one step, or "auto": 64, in as many parts as the memory asks for.
        accumulate: parts of a step that are worked one after the other, to save memory.
        precision: auto (bf16 on a GPU that has it, else fp16 there, float32 on a CPU), float32, or bfloat16 anywhere.
        checkpointing: compute activations twice to save memory. compile: by torch.compile (minutes at first).
        lr (peak rate), weight_decay, warmup (share of all steps), grad_clip (most norm of the gradient; 0: any).
        layer_decay: factor on the rate from each block to the one before it, as fine-tuned transformers like it.
        head_lr: factor on the rate of the head.
        ema: decay of the averaged weights; 0 for none.
        loss: bce; focal (gamma 2); auc (logistic loss over pairs of a real and a fake in a step); classes (the mean
            over the reals plus the mean over the fakes).
        label_smoothing: 0 to 1. class_weight: "balanced" gives both classes equal say.
        weight_column: a column of the training table with a weight for each row, or "".
        checkpoint: "last" predicts with the last epoch's weights; "best" with those of the epoch of the best validation
            AUC, which makes the OOF score optimistic, and says so.
        seed: of weights, order and augmentation; a fold adds its index.

    Augmentation
        hflip, translate, color_jitter, jpeg, webp, blur, noise, downscale (down and back), grid_cutout:
            probabilities, 0 to 1.
        randaugment: how many random operations of RandAugment each image gets.
        self_blend: probability that a real becomes a fake, blended with a changed copy of itself. face_cutout:
            that a part of a face is blackened. pair_mix: that a fake is mixed with the real it was made of, which
            pair_column, a column of the training table, names by id.
        mixup, cutmix: parameter alpha of the Beta distribution of the share, 0 for none; mix_share: how many of
            the steps are mixed.

    Prediction
        tta: views at prediction; tta_merge: how their probabilities become one.
    """

    kind: Literal["timm"] = "timm"
    preset: str = ""
    backbone: str
    backbone_options: dict[str, Any] = field(default_factory=dict)
    pretrained: bool | str = True
    trainable: Literal["all", "norm", "head"] = "all"
    inputs: tuple[Inputs, ...] = ("rgb",)
    image_size: int = 224
    crop: int = 0
    decode: DeviceDecode = "area"
    epochs: int = 10
    batch_size: int | Literal["auto"] = 32
    accumulate: int = 1
    precision: Precision = "auto"
    checkpointing: bool = False
    compile: bool = False
    lr: float = 3e-4
    weight_decay: float = 0.05
    warmup: float = 0.1
    grad_clip: float = 0.0
    layer_decay: float = 1.0
    head_lr: float = 1.0
    ema: float = 0.99
    loss: Loss = "bce"
    label_smoothing: float = 0.05
    class_weight: Literal["none", "balanced"] = "none"
    weight_column: str = ""
    checkpoint: Literal["last", "best"] = "last"
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
    tta: Tta = "hflip"
    tta_merge: Merge = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in _SHARES:
            _within(self, name, 0, 1)
        _within(self, "ema", 0, 0.99999)
        for name in ("image_size", "epochs", "accumulate"):
            _within(self, name, 1, 1e9)
        if self.batch_size != "auto":
            _within(self, "batch_size", 1, 1e9)
        _within(self, "lr", 1e-12, 1e3)
        _within(self, "seed", 0, 2**31)
        for name in ("weight_decay", "grad_clip", "head_lr", "mixup", "cutmix"):
            _within(self, name, 0, 1e3)
        _within(self, "layer_decay", 0.01, 1)
        _within(self, "randaugment", 0, 8)
        if self.crop and self.crop < self.image_size:
            raise ConfigError(f"crop = {self.crop} is smaller than image_size = {self.image_size}; it must hold it.")
        if self.batch_size != "auto" and self.accumulate > self.batch_size:
            raise ConfigError(f"accumulate = {self.accumulate} is more than the batch_size = {self.batch_size} images.")
        if not self.inputs or len(set(self.inputs)) < len(self.inputs):
            raise ConfigError(f"inputs = {list(self.inputs)} must name one input or more, each once.")
        if bool(self.pair_mix) != bool(self.pair_column):
            raise ConfigError("pair_mix and pair_column belong together: how often, and the column of the originals.")
        if self.decode == "gpu" and (self.self_blend or self.face_cutout or self.pair_mix):
            raise ConfigError(
                'decode = "gpu" leaves no image on the CPU, where self_blend, face_cutout and pair_mix work. '
                'Set decode = "area".'
            )
        if self.loss == "auc" and (self.mixup or self.cutmix):
            raise ConfigError(
                'loss = "auc" compares reals with fakes, and mixup and cutmix leave neither. Set one of them to 0.'
            )

    @property
    def host_decode(self) -> Decode:
        """How single images are read on the CPU."""
        return "area" if self.decode == "gpu" else self.decode

    @property
    def step_images(self) -> int:
        """Images in one step of the optimiser."""
        return 64 if self.batch_size == "auto" else self.batch_size


@dataclass(frozen=True, kw_only=True)
class LinearSettings:
    """scikit-learn on small features (pixels, spectrum, noise residual): a floor in seconds, without torch.

    classifier: "logistic" regression, "svm" (support vectors, radial kernel) or "extra_trees".
    image_size: edge in pixels of the pixel features.
    decode: as of TimmSettings. seed: of the trees.
    """

    kind: Literal["linear"] = "linear"
    classifier: Classifier = "logistic"
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
