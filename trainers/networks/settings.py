"""Settings of networks: the backbone, its optimisation, and prediction with it."""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from oof.errors import ConfigError
from trainers.runtime.settings import Precision, check_range

Inputs = Literal["rgb", "ycbcr", "srm", "dct", "phase"]
Loss = Literal["bce", "focal", "auc", "classes"]
FeatureNorm = Literal["backbone", "raw", "layer", "l2", "batch"]
Trainable = Literal["all", "norm", "head", "residual"]
Tta = Literal["none", "hflip", "flips", "d4", "ten_crop"]
Merge = Literal["mean", "gmean", "max"]
AUTO_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Settings of the network.

    backbone: name of a timm model. backbone_options: further arguments of `timm.create_model`
        (drop_rate, drop_path_rate, global_pool, img_size, ...).
    pretrained: true (weights from the hub), false (random weights), or the path of a file of weights
        (safetensors, or a PyTorch file that contains tensors only).
    trainable: which weights are trained: all, norm (normalisation layers and the head), head, or residual (the last
        singular directions of each attention weight, and the head; Effort).
    residual_rank: number of directions of each weight that "residual" trains.
    feature_norm: normalisation of the features before the head: backbone (that of the backbone), raw (without the
        last normalisation of the backbone), layer (layer normalisation without weights instead), l2 (to unit length),
        or batch (by mean and variance of the training rows).
    inputs: input channels, which are concatenated and reduced to three by a 1 x 1 convolution if there are more: rgb,
        ycbcr, srm (noise residuals), dct (cosine transform of blocks), phase (image of the phases).
    """

    backbone: str
    backbone_options: dict[str, Any] = field(default_factory=dict)
    pretrained: bool | str = True
    trainable: Trainable = "all"
    residual_rank: int = 1
    feature_norm: FeatureNorm = "backbone"
    inputs: tuple[Inputs, ...] = ("rgb",)

    def __post_init__(self) -> None:
        if not self.inputs or len(set(self.inputs)) < len(self.inputs):
            raise ConfigError(f"inputs = {list(self.inputs)} must name one input or more, each once.")
        check_range(self, 1, 1024, "residual_rank")


@dataclass(frozen=True, kw_only=True)
class OptimSettings:
    """Settings of the optimisation.

    epochs: passes over the training rows. batch_size: rows in one step, or "auto": 64, in as many parts as the memory
        requires.
    accumulate: number of parts into which a step is split to save memory.
    precision: auto (bfloat16 on a GPU that supports it, float16 on other GPUs, float32 on a CPU), or float32,
        bfloat16 or float16 (with a scaled loss) on any device.
    checkpointing: recompute activations to save memory. compile: use torch.compile (the first step takes minutes).
    lr: peak learning rate. weight_decay: of AdamW. warmup: fraction of all steps. grad_clip: largest norm of the
        gradient (0: no limit).
    layer_decay: factor on the learning rate from each block to the one before it, as in fine-tuning of transformers.
    head_lr: factor on the learning rate of the head.
    ema: decay of the averaged weights; 0 for none.
    loss: bce; focal (gamma 2); auc (logistic loss over pairs of a real and a fake in a step); classes (the mean
        over the reals plus the mean over the fakes).
    alignment, uniformity: weights of two further losses on features of unit length (feature_norm = "l2"), which pull
        rows of one class together and spread all rows uniformly. GenD uses 0.1 and 0.5.
    residual_penalty: weight of the constraints of trainable = "residual": orthogonal directions, and an unchanged norm
        of the weights.
    label_smoothing: 0 to 0.99. class_weight: "balanced" gives both classes equal weight.
    weight_column: a column of the training table with a weight for each row, or "".
    checkpoint: "last" predicts with the last epoch's weights; "best" with those of the epoch of the best validation
        AUC, which makes the OOF score optimistic, as is reported.
    seed: of weights, order and augmentation; a fold adds its index.
    """

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
    alignment: float = 0.0
    uniformity: float = 0.0
    residual_penalty: float = 1.0
    label_smoothing: float = 0.05
    class_weight: Literal["none", "balanced"] = "none"
    weight_column: str = ""
    checkpoint: Literal["last", "best"] = "last"
    seed: int = 0

    def __post_init__(self) -> None:
        check_range(self, 0, 0.99, "label_smoothing")  # 1 would make all targets 0.5
        check_range(self, 0, 1, "warmup")
        check_range(self, 0, 0.99999, "ema")
        check_range(self, 1, 1e9, "epochs", "accumulate")
        if self.batch_size != "auto":
            check_range(self, 1, 1e9, "batch_size")
            if self.accumulate > self.batch_size:
                raise ConfigError(
                    f"accumulate = {self.accumulate} is larger than batch_size = {self.batch_size}, the rows of a step."
                )
        check_range(self, 1e-12, 1e3, "lr")
        check_range(self, 0, 2**31, "seed")
        check_range(self, 0, 1e3, "weight_decay", "grad_clip", "head_lr", "alignment", "uniformity", "residual_penalty")
        check_range(self, 0.01, 1, "layer_decay")

    @property
    def step_rows(self) -> int:
        """Number of rows in one step of the optimiser."""
        return AUTO_BATCH if self.batch_size == "auto" else self.batch_size


@dataclass(frozen=True, kw_only=True)
class PredictionSettings:
    """Prediction with trained weights; changing these needs no new training.

    tta: views at prediction. tta_merge: how their probabilities are merged.
    """

    tta: Tta = "hflip"
    tta_merge: Merge = "mean"

    def __post_init__(self) -> None:
        """Accept every combination; the types restrict the values."""


PREDICTION_SETTINGS = frozenset(item.name for item in fields(PredictionSettings))
