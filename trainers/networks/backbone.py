"""Networks by timm name, with weights from the hub, from a file, or none."""

import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from oof.errors import TrainingError, examples
from oof.paths import resolve_path
from trainers.networks.input_stem import SideInputs
from trainers.networks.normalise import grey_mean_and_std
from trainers.networks.settings import NetworkSettings

_PREFIXES = ("module.", "_orig_mod.", "backbone.")


def check_backbone(name: str) -> str:
    """The architecture of a backbone's name, which timm must know.

    Raises:
        TrainingError: an unknown one; the nearest names are offered.
    """
    known = timm.list_models(pretrained=False)
    architecture = name.split(".")[0]
    if architecture not in known:
        close = get_close_matches(architecture, known, n=3, cutoff=0.4)
        raise TrainingError(
            f"backbone = {name!r} is no model of timm {timm.__version__}. "
            f"Nearest: {', '.join(close) or 'none'}. python -c 'import timm; print(timm.list_models())' shows all."
        )
    return architecture


def create_model(settings: NetworkSettings, image_size: int, root: Path = Path()) -> nn.Module:
    """The network with one output (the logit of "fake"), its weights loaded.

    Args:
        settings: backbone, its options, its inputs, and where its weights come from.
        image_size: height and width in pixels of what it sees.
        root: what a path of weights is relative to.

    Raises:
        TrainingError: an unknown backbone (the nearest names are offered), an option that it does not take,
            weights that cannot be fetched or do not fit.
    """
    check_backbone(settings.backbone)
    from_hub = settings.pretrained is True
    try:
        model: nn.Module = timm.create_model(
            settings.backbone, pretrained=from_hub, num_classes=1, **_options(settings, image_size)
        )
    except (OSError, ConnectionError) as err:
        raise TrainingError(
            f"The weights of {settings.backbone!r} could not be fetched from the hub ({_first_line(err)}). "
            f'Set pretrained = "path/to/weights.safetensors" to a file brought from elsewhere, or pretrained = false.'
        ) from err
    except (TypeError, RuntimeError, ValueError) as err:
        reason = _first_line(err)
        raise TrainingError(
            f"{settings.backbone!r} cannot be made with backbone_options = {settings.backbone_options} and "
            f"pretrained = {settings.pretrained!r}: {reason}. Correct [models] in dfens.toml."
        ) from err
    if settings.inputs != ("rgb",):
        model = SideInputs(model, settings.inputs, *grey_mean_and_std(model))
    if isinstance(settings.pretrained, str):
        load_weights(model, resolve_path(root, settings.pretrained))
    return model


def enable_checkpointing(model: nn.Module) -> None:
    """Let a network compute its activations twice, which saves memory.

    Raises:
        TrainingError: if it cannot.
    """
    backbone: Any = getattr(model, "backbone", model)
    if not hasattr(backbone, "set_grad_checkpointing"):
        raise TrainingError(
            f"{type(backbone).__name__} cannot compute its activations twice. Set checkpointing = false."
        )
    backbone.set_grad_checkpointing(True)


def _options(settings: NetworkSettings, image_size: int) -> dict[str, Any]:
    """Options of the backbone; one of a fixed image size is made for image_size (its positions are resized)."""
    options = dict(settings.backbone_options)
    config = timm.get_pretrained_cfg(settings.backbone, allow_unregistered=True)
    edge = config.input_size[-1] if config is not None and config.input_size else image_size
    if "img_size" not in options and config is not None and config.fixed_input_size and edge != image_size:
        options["img_size"] = image_size
    return options


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a file of weights into a network; a head for other classes is left out, positions are resized.

    The file is safetensors, or a PyTorch file, which is read as tensors alone: code in it never runs.

    Raises:
        TrainingError: if it is missing, no such file, or its tensors do not fit.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: dict[str, Any] = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # each library has its own kinds of errors for a broken file
        raise TrainingError(
            f"pretrained = '{path}' cannot be read as weights ({_first_line(err)}). "
            f"It must be a .safetensors file, or a PyTorch file that holds tensors alone."
        ) from err
    for key in ("state_dict_ema", "model_ema", "state_dict", "model"):
        if isinstance(found.get(key), dict):
            found = found[key]
    own = _fitting(model, found)
    if len(own) < len(model.state_dict()):  # not a file that dfens itself wrote for this model
        backbone = getattr(model, "backbone", model)
        fitting = _fitting(backbone, _converted(backbone, {_bare(name): value for name, value in found.items()}))
        wanted = backbone.state_dict()
        if len(fitting) < 0.5 * len(wanted):
            missing = [name for name in wanted if name not in fitting]
            raise TrainingError(
                f"pretrained = '{path}' fits {len(fitting)} of {len(wanted)} tensors; missing {examples(missing)}. "
                f"It belongs to another backbone."
            )
        backbone.load_state_dict(fitting, strict=False)
        return
    model.load_state_dict(own)


def _fitting(model: nn.Module, found: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors that a model has by that name and shape."""
    wanted = model.state_dict()
    return {
        name: value
        for name, value in found.items()
        if name in wanted and isinstance(value, Tensor) and value.shape == wanted[name].shape
    }


def _converted(backbone: nn.Module, found: dict[str, Any]) -> dict[str, Any]:
    """What timm makes of a file for this kind of backbone: names of the original authors, resized positions."""
    convert = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return found
    try:
        converted: dict[str, Any] = convert(dict(found), backbone)
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError):  # a file of another backbone: told above
        return found
    return converted


def _bare(name: str) -> str:
    """The name of a tensor without what wrappers put before it."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def parameter_count(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def _first_line(err: Exception) -> str:
    return (str(err).strip().splitlines() or [type(err).__name__])[0][:200]
