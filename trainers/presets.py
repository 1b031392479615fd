"""Ready settings for the families of backbones that have won: `preset = "convnext"` in a section [models.NAME]."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from oof.errors import ConfigError

# Rates, decay by layer and drop path follow each family's own fine-tuning recipe, scaled to steps of 64 images
# and to a decay from block to block (0.93 over the 36 blocks of ConvNeXt is 0.8 over the 12 groups of its paper).
# A starting point to ablate from, tuned on no competition. Sizes are those of the weights.
PRESETS: dict[str, dict[str, Any]] = {
    # Liu et al., A ConvNet for the 2020s, CVPR 2022; weights from CLIP on LAION-2B, fine-tuned on ImageNet-12k and 1k
    "convnext": {
        "backbone": "convnext_base.clip_laion2b_augreg_ft_in12k_in1k",
        "backbone_options": {"drop_path_rate": 0.2},
        "image_size": 256,
        "lr": 1e-4,
        "layer_decay": 0.93,
        "head_lr": 5.0,
        "ema": 0.999,
    },
    # Woo et al., ConvNeXt V2, CVPR 2023
    "convnextv2": {
        "backbone": "convnextv2_base.fcmae_ft_in22k_in1k_384",
        "backbone_options": {"drop_path_rate": 0.2},
        "image_size": 384,
        "lr": 1e-4,
        "layer_decay": 0.9,
        "head_lr": 5.0,
        "ema": 0.999,
    },
    # Xie et al., Noisy Student, CVPR 2020; its B7 won DFDC (github.com/selimsef/dfdc_deepfake_challenge)
    "efficientnet-ns": {
        "backbone": "tf_efficientnet_b4.ns_jft_in1k",
        "backbone_options": {"drop_rate": 0.4, "drop_path_rate": 0.2},
        "image_size": 380,
        "lr": 3e-4,
        "weight_decay": 0.01,
        "ema": 0.999,
    },
    # Chollet, Xception, CVPR 2017; the baseline of FaceForensics++ (Roessler et al., ICCV 2019)
    "xception": {
        "backbone": "legacy_xception.tf_in1k",
        "backbone_options": {"drop_rate": 0.3},
        "image_size": 299,
        "lr": 2e-4,
        "weight_decay": 0.01,
        "ema": 0.999,
    },
    # Liu et al., Swin Transformer V2, CVPR 2022
    "swin": {
        "backbone": "swinv2_base_window12to16_192to256.ms_in22k_ft_in1k",
        "backbone_options": {"drop_path_rate": 0.2},
        "image_size": 256,
        "lr": 1e-4,
        "layer_decay": 0.9,
        "head_lr": 5.0,
        "grad_clip": 5.0,
        "ema": 0.999,
    },
    # Fang et al., EVA-02, 2023, weights of its CLIP; only normalisation and head learn, as in GenD (arXiv 2508.06248)
    "eva": {
        "backbone": "eva02_base_patch16_clip_224.merged2b",
        "trainable": "norm",
        "image_size": 224,
        "lr": 3e-4,
        "weight_decay": 0.0,
        "grad_clip": 1.0,
    },
    # Radford et al., CLIP, ICML 2021 (made with the fast form of GELU)
    "clip": {
        "backbone": "vit_base_patch16_clip_quickgelu_224.openai",
        "trainable": "norm",
        "image_size": 224,
        "lr": 3e-4,
        "weight_decay": 0.0,
        "grad_clip": 1.0,
    },
    # the same, 304 million parameters: above the rule of multi-ffdi
    "clip-large": {
        "backbone": "vit_large_patch14_clip_quickgelu_224.openai",
        "trainable": "norm",
        "image_size": 224,
        "lr": 3e-4,
        "weight_decay": 0.0,
        "grad_clip": 1.0,
    },
}


def with_preset(own: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings of a model: what it gives itself, over its preset, over the defaults of all models.

    A dictionary of options is replaced as a whole.

    Raises:
        ConfigError: no such preset; the nearest is named.
    """
    name = own.get("preset") or (defaults or {}).get("preset") or ""
    if name and name not in PRESETS:
        close = get_close_matches(str(name), PRESETS, n=1)
        nearest = f"; did you mean {close[0]!r}?" if close else "."
        raise ConfigError(f"preset = {name!r} is unknown{nearest} Known: {', '.join(PRESETS)}")
    return {**(defaults or {}), **PRESETS.get(name, {}), **own}
