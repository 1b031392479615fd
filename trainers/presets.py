"""Presets for families of backbones that won competitions: `preset = "convnext"` in a section [models.NAME]."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from oof.errors import ConfigError


@dataclass(frozen=True)
class Preset:
    """Settings of a backbone, and the facts that competition rules refer to.

    parameters: number of parameters with one output. pretraining: data that its weights were pretrained on.
    """

    parameters: int
    pretraining: tuple[str, ...]
    settings: Mapping[str, Any]


# Learning rates, layer decay and drop path follow the fine-tuning recipe of each family, scaled to batches of 64 images
# and to a decay per block (0.93 over the 36 blocks of ConvNeXt equals 0.8 over the 12 groups in the paper). They are a
# starting point for ablations and not tuned on any competition. Image sizes are those of the pretrained weights.
PRESETS: dict[str, Preset] = {
    # Liu et al., A ConvNet for the 2020s, CVPR 2022; weights from CLIP on LAION-2B, fine-tuned on ImageNet-12k and 1k
    "convnext": Preset(
        parameters=87_567_489,
        pretraining=("LAION", "ImageNet-12K", "ImageNet-1K"),
        settings={
            "backbone": "convnext_base.clip_laion2b_augreg_ft_in12k_in1k",
            "backbone_options": {"drop_path_rate": 0.2},
            "image_size": 256,
            "lr": 1e-4,
            "layer_decay": 0.93,
            "head_lr": 5.0,
            "ema": 0.999,
        },
    ),
    # Woo et al., ConvNeXt V2, CVPR 2023
    "convnextv2": Preset(
        parameters=87_693_825,
        pretraining=("ImageNet-22K", "ImageNet-1K"),
        settings={
            "backbone": "convnextv2_base.fcmae_ft_in22k_in1k_384",
            "backbone_options": {"drop_path_rate": 0.2},
            "image_size": 384,
            "lr": 1e-4,
            "layer_decay": 0.9,
            "head_lr": 5.0,
            "ema": 0.999,
        },
    ),
    # Xie et al., Noisy Student, CVPR 2020; its B7 won DFDC (github.com/selimsef/dfdc_deepfake_challenge)
    "efficientnet-ns": Preset(
        parameters=17_550_409,
        pretraining=("JFT-300M", "ImageNet-1K"),
        settings={
            "backbone": "tf_efficientnet_b4.ns_jft_in1k",
            "backbone_options": {"drop_rate": 0.4, "drop_path_rate": 0.2},
            "image_size": 380,
            "lr": 3e-4,
            "weight_decay": 0.01,
            "ema": 0.999,
        },
    ),
    # Chollet, Xception, CVPR 2017; the baseline of FaceForensics++ (Roessler et al., ICCV 2019)
    "xception": Preset(
        parameters=20_809_001,
        pretraining=("ImageNet-1K",),
        settings={
            "backbone": "legacy_xception.tf_in1k",
            "backbone_options": {"drop_rate": 0.3},
            "image_size": 299,
            "lr": 2e-4,
            "weight_decay": 0.01,
            "ema": 0.999,
        },
    ),
    # Liu et al., Swin Transformer V2, CVPR 2022
    "swin": Preset(
        parameters=86_894_841,
        pretraining=("ImageNet-22K", "ImageNet-1K"),
        settings={
            "backbone": "swinv2_base_window12to16_192to256.ms_in22k_ft_in1k",
            "backbone_options": {"drop_path_rate": 0.2},
            "image_size": 256,
            "lr": 1e-4,
            "layer_decay": 0.9,
            "head_lr": 5.0,
            "grad_clip": 5.0,
            "ema": 0.999,
        },
    ),
    # Fang et al., EVA-02, 2023, CLIP weights; only normalisation and head are trained, as in GenD (arXiv 2508.06248)
    "eva": Preset(
        parameters=85_870_081,
        pretraining=("Merged-2B (EVA)",),
        settings={
            "backbone": "eva02_base_patch16_clip_224.merged2b",
            "trainable": "norm",
            "image_size": 224,
            "lr": 3e-4,
            "weight_decay": 0.0,
            "grad_clip": 1.0,
        },
    ),
    # Radford et al., CLIP, ICML 2021 (trained with QuickGELU)
    "clip": Preset(
        parameters=85_800_193,
        pretraining=("WIT-400M (CLIP)",),
        settings={
            "backbone": "vit_base_patch16_clip_quickgelu_224.openai",
            "trainable": "norm",
            "image_size": 224,
            "lr": 3e-4,
            "weight_decay": 0.0,
            "grad_clip": 1.0,
        },
    ),
    # the same; exceeds the limit of the multi-ffdi rules
    "clip-large": Preset(
        parameters=303_180_801,
        pretraining=("WIT-400M (CLIP)",),
        settings={
            "backbone": "vit_large_patch14_clip_quickgelu_224.openai",
            "trainable": "norm",
            "image_size": 224,
            "lr": 3e-4,
            "weight_decay": 0.0,
            "grad_clip": 1.0,
        },
    ),
    # Siméoni et al., DINOv3, 2025: a ConvNeXt distilled from the largest model, as a frozen probe (arXiv 2603.26387)
    "dinov3-convnext": Preset(
        parameters=27_820_897,
        pretraining=("LVD-1689M (DINOv3)",),
        settings={
            "backbone": "convnext_tiny.dinov3_lvd1689m",
            "trainable": "head",
            "image_size": 224,
            "lr": 1e-3,
            "weight_decay": 0.0,
        },
    ),
    # the small DINOv3 vision transformer; normalisation and head are trained
    "dinov3-vit": Preset(
        parameters=21_587_329,
        pretraining=("LVD-1689M (DINOv3)",),
        settings={
            "backbone": "vit_small_patch16_dinov3.lvd1689m",
            "trainable": "norm",
            "image_size": 256,
            "lr": 3e-4,
            "weight_decay": 0.0,
            "grad_clip": 1.0,
        },
    ),
    # Steiner et al., How to train your ViT?, TMLR 2022: the small vision transformer trained on ImageNet-1K only
    "vit-small": Preset(
        parameters=21_666_049,
        pretraining=("ImageNet-1K",),
        settings={
            "backbone": "vit_small_patch16_224.augreg_in1k",
            "backbone_options": {"drop_path_rate": 0.1},
            "image_size": 224,
            "lr": 3e-4,
            "layer_decay": 0.75,
            "head_lr": 5.0,
            "grad_clip": 1.0,
            "ema": 0.999,
        },
    ),
}


def with_preset(own: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the settings of a model: its own override its preset, which overrides the defaults of all models.

    A dictionary of options is replaced, not merged.

    Raises:
        ConfigError: if the preset does not exist; a similar name is suggested.
    """
    name = own.get("preset") or (defaults or {}).get("preset") or ""
    if name and (not isinstance(name, str) or name not in PRESETS):
        close = get_close_matches(str(name), PRESETS, n=1)
        nearest = f"; did you mean {close[0]!r}?" if close else "."
        raise ConfigError(f"preset = {name!r} is unknown{nearest} Known: {', '.join(PRESETS)}")
    preset = PRESETS[name].settings if name else {}
    return {**(defaults or {}), **preset, **own}
