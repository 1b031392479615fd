"""Networks by timm name, with weights from the hub, from a file, or none."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from oof.errors import TrainingError, examples
from trainers.settings import TimmSettings


def create_model(settings: TimmSettings, root: Path = Path()) -> nn.Module:
    """The network with one output (the logit of "fake"), its weights loaded.

    Args:
        settings: backbone, its options, and where its weights come from.
        root: what a path of weights is relative to.

    Raises:
        TrainingError: an unknown backbone (the nearest names are offered), an option that it does not take,
            weights that cannot be fetched or do not fit.
    """
    known = timm.list_models(pretrained=False)
    architecture = settings.backbone.split(".")[0]
    if architecture not in known:
        close = get_close_matches(architecture, known, n=3, cutoff=0.4)
        raise TrainingError(
            f"backbone = {settings.backbone!r} is no model of timm {timm.__version__}. "
            f"Nearest: {', '.join(close) or 'none'}. python -c 'import timm; print(timm.list_models())' shows all."
        )
    from_hub = settings.pretrained is True
    try:
        model: nn.Module = timm.create_model(
            settings.backbone, pretrained=from_hub, num_classes=1, **settings.backbone_options
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
    if isinstance(settings.pretrained, str):
        load_weights(model, root / settings.pretrained)
    return model


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a file of weights into a network; a head for other classes is left out.

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
    for key in ("state_dict", "model"):
        if isinstance(found.get(key), dict):
            found = found[key]
    wanted = model.state_dict()
    fitting = {name: value for name, value in found.items() if name in wanted and _shape(value) == wanted[name].shape}
    missing = [name for name in wanted if name not in fitting]
    if len(fitting) < 0.5 * len(wanted):
        raise TrainingError(
            f"pretrained = '{path}' fits {len(fitting)} of {len(wanted)} tensors; missing {examples(missing)}. "
            f"It belongs to another backbone."
        )
    model.load_state_dict(fitting, strict=False)


def parameter_count(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def _shape(value: Any) -> object:
    return value.shape if isinstance(value, Tensor) else None


def _first_line(err: Exception) -> str:
    return (str(err).strip().splitlines() or [type(err).__name__])[0][:200]
