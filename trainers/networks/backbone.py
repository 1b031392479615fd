"""Create networks by timm name, with weights from the hub, from a file, or randomly initialised."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub.errors import HfHubHTTPError
from timm.models import _registry
from torch import nn

from oof.errors import TrainingError
from oof.paths import resolve_path
from trainers.networks.feature_head import normalise_features
from trainers.networks.hub import check_hub, without_passwords
from trainers.networks.input_stem import SideInputs
from trainers.networks.normalise import grey_mean_and_std
from trainers.networks.residual import factor_count
from trainers.networks.settings import NetworkSettings
from trainers.networks.weights import first_line, load_weights

HUB = ("hf-hub:", "hf_hub:")
# arguments of timm.create_model that choose weights, or the shape of the output; other settings determine them
_NOT_OPTIONS = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "num_classes")


def check_backbone(name: str, setting: str = "backbone") -> str:
    """Return the current timm name of a backbone; `setting` names it in messages.

    timm renamed about 200 models in 2023 (xception is now legacy_xception, tf_efficientnet_b4_ns is
    tf_efficientnet_b4.ns_jft_in1k); the old names, common in papers and notebooks, are accepted. Names of repositories
    on the hub ("hf-hub:…") are returned unchanged.

    Raises:
        TrainingError: if the name is unknown or timm has removed the model; similar names are suggested.
    """
    if name.startswith(HUB):
        return name
    architecture, _, tag = name.partition(".")
    renamed = deprecated_models()
    if not tag and renamed.get(architecture):
        return str(renamed[architecture])
    known = timm.list_models(pretrained=False)
    if architecture not in known:
        close = get_close_matches(architecture.lower(), known, n=3, cutoff=0.4)
        dropped = " any more" if architecture in renamed else ""
        raise TrainingError(
            f"{setting} = {name!r} is not a model of timm {timm.__version__}{dropped}. "
            f"Nearest: {', '.join(close) or 'none'}. python -c 'import timm; print(timm.list_models())' shows all."
        )
    return name


def check_download(name: str, setting: str = "pretrained") -> None:
    """Check that the files of a backbone are in the local cache of the hub, or that the hub answers.

    Its client would try again for a minute, in each fold. `setting` asks for the weights, for the message.

    Raises:
        TrainingError: if neither is the case, or as in `check_backbone`.
    """
    if name.startswith(HUB):
        check_hub(
            name.partition(":")[2],
            "Choose a model of timm with a file of weights instead, or bring the cache of the hub (HF_HOME) here.",
        )
        return
    config = timm.get_pretrained_cfg(check_backbone(name), allow_unregistered=True)
    if config is not None and config.hf_hub_id:  # the weights of some models are on other servers
        check_hub(str(config.hf_hub_id), _from_a_file(setting))


def _from_a_file(setting: str) -> str:
    return f'Set {setting} = "path/to/weights.safetensors" to a file brought from elsewhere, or {setting} = false.'


def deprecated_models() -> Mapping[str, str | None]:
    """Return timm's former model names with their current names, or None for removed models."""
    found: Mapping[str, str | None] = getattr(_registry, "_deprecated_models", {})
    return found


def create_model(settings: NetworkSettings, image_size: int, root: Path = Path()) -> nn.Module:
    """Create a network with one output (the logit of "fake") and load its weights.

    Args:
        settings: backbone, its options, its inputs, and the source of its weights.
        image_size: height and width of its input, in pixels.
        root: folder that paths of weights are relative to.

    Raises:
        TrainingError: if the backbone is unknown (similar names are suggested), does not accept an option, or its
            weights cannot be downloaded or do not fit.
    """
    name = check_backbone(settings.backbone)
    from_hub = settings.pretrained is True
    refused = [option for option in _NOT_OPTIONS if option in settings.backbone_options]
    if refused:
        raise TrainingError(
            f"{settings.backbone!r} has the option {', '.join(refused)}, which dfens sets itself. Remove it from "
            f'[models] in dfens.toml; pretrained = "path/to/weights.safetensors" loads weights from a file.'
        )
    if settings.backbone_options.get("features_only"):
        raise TrainingError(
            f"{settings.backbone!r} with features_only = true returns maps of features instead of one output. Remove "
            f"features_only from [models] in dfens.toml."
        )
    if from_hub or name.startswith(HUB):  # for the latter, the architecture is on the hub, too
        check_download(name)
    try:
        model: nn.Module = timm.create_model(
            name, pretrained=from_hub, num_classes=1, **_options(settings, name, image_size)
        )
    except (OSError, HfHubHTTPError) as err:
        reason = without_passwords(first_line(err))
        raise TrainingError(
            f"{settings.backbone!r} could not be fetched from the hub ({reason}). {_from_a_file('pretrained')}"
        ) from err
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as err:
        raise TrainingError(
            f"{settings.backbone!r} cannot be made with backbone_options = {settings.backbone_options}, image_size = "
            f"{image_size} and pretrained = {settings.pretrained!r}: {first_line(err).rstrip('.')}. Correct [models] "
            f"in dfens.toml."
        ) from err
    if settings.inputs != ("rgb",):
        model = SideInputs(model, settings.inputs, *grey_mean_and_std(model))
    if isinstance(settings.pretrained, str):
        load_weights(model, resolve_path(root, settings.pretrained))
    normalise_features(getattr(model, "backbone", model), settings.feature_norm)
    return model


def backbone_size(name: str, options: Mapping[str, Any]) -> int:
    """Return the number of parameters of a timm backbone with one output, without allocating them.

    Raises:
        TrainingError: if the backbone is unknown, is on the hub, or does not accept the options.
    """
    settings = NetworkSettings(backbone=name, backbone_options=dict(options), pretrained=False)
    if name.startswith(HUB):
        raise TrainingError(f"The size of {name!r} is only known once it is fetched from the hub.")
    with torch.device("meta"):
        return parameter_count(create_model(settings, 224))


def backbone_tag(name: str) -> str | None:
    """Return the tag of the weights that timm loads for a name; None if there are none."""
    if name.startswith(HUB):
        return None
    try:
        config = timm.get_pretrained_cfg(check_backbone(name), allow_unregistered=True)
    except (RuntimeError, TrainingError):
        return None
    return None if config is None or not config.tag else str(config.tag)


def enable_checkpointing(model: nn.Module) -> None:
    """Enable gradient checkpointing, which saves memory.

    Raises:
        TrainingError: if the network does not support it.
    """
    backbone: Any = getattr(model, "backbone", model)
    if not hasattr(backbone, "set_grad_checkpointing"):
        raise TrainingError(
            f"{type(backbone).__name__} cannot compute its activations twice. Set checkpointing = false."
        )
    backbone.set_grad_checkpointing(True)


def _options(settings: NetworkSettings, name: str, image_size: int) -> dict[str, Any]:
    """Return the backbone's options; a fixed image size becomes `image_size` (position embeddings are resized)."""
    options = dict(settings.backbone_options)
    config = None if name.startswith(HUB) else timm.get_pretrained_cfg(name, allow_unregistered=True)
    edge = config.input_size[-1] if config is not None and config.input_size else image_size
    if "img_size" not in options and config is not None and config.fixed_input_size and edge != image_size:
        options["img_size"] = image_size
    return options


def parameter_count(model: nn.Module) -> int:
    """Return the number of parameters of the network used for prediction."""
    return sum(parameter.numel() for parameter in model.parameters()) + factor_count(model)
