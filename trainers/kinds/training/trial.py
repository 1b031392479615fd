"""Try a network before training, in all kinds, so that impossible settings are found in the first seconds."""

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import timm
import torch
from torch import Tensor, nn
from torch._inductor import config as inductor_config

from oof.errors import TrainingError, examples
from oof.paths import resolve_path
from trainers.kinds.base import ModelContext
from trainers.kinds.training.outcome import device_of
from trainers.kinds.training_rows import row_count
from trainers.networks.backbone import HUB, check_backbone, enable_checkpointing
from trainers.networks.optim import set_trainable
from trainers.networks.settings import NetworkSettings
from trainers.networks.weights import first_line

_META = torch.device("meta")  # tensors without values: only shapes are computed
S = TypeVar("S", bound=NetworkSettings)
TryStep = Callable[[S, nn.Module, int], Tensor]  # settings, their network and a number of rows -> logits of the rows
_STRIDES = (32, 28, 24, 20, 16, 14)  # of networks, whose input is often a multiple of them, pixels
_TRIED = 4  # smaller sizes, and larger ones, that are tried for a message


def check_batch(context: ModelContext[Any]) -> None:
    """Check that the processes of a group can split a step evenly.

    Raises:
        TrainingError: if they cannot.
    """
    rows, processes = context.settings.step_rows, context.group.size
    if rows % processes:
        raise TrainingError(
            f"Model '{context.name}': batch_size = {rows} rows cannot be split evenly among {processes} processes. "
            f"Set a multiple of {processes}."
        )


def check_compile(context: ModelContext[Any]) -> None:
    """Check that torch finds its compiler if the settings ask for it: the first step would report it after minutes.

    Raises:
        TrainingError: if it does not.
    """
    if not context.settings.compile or context.elsewhere:
        return
    missing = _missing_compiler(device_of(context).type)
    if missing:
        raise TrainingError(
            f"Model '{context.name}': compile = true needs {missing}, which this machine does not have. Install it, or "
            f"set compile = false."
        )


def _missing_compiler(device_type: str) -> str:
    """Return what torch.compile needs for a type of device and does not find; "" if nothing."""
    if device_type == "cuda":
        return "" if importlib.util.find_spec("triton") else "Triton"
    compilers = [name for name in inductor_config.cpp.cxx if name]  # the one in CXX, otherwise g++ or clang++
    return "" if any(map(shutil.which, compilers)) else f"the C++ compiler {' or '.join(compilers)}"


def check_weights(
    context: ModelContext[Any], backbone: str, pretrained: bool | str, setting: str = "pretrained"
) -> None:
    """Check that pretrained weights exist; those on the hub are downloaded later.

    Args:
        context: context of the model.
        backbone: name of the network. pretrained: source of the weights. setting: name of that setting.

    Raises:
        TrainingError: if a file is missing, or timm has no such weights of the backbone.
    """
    if isinstance(pretrained, str):
        path = resolve_path(context.root, pretrained)
        if not path.is_file():
            raise TrainingError(
                f"Model '{context.name}': {setting} = {pretrained!r} is not a file ({path}). Correct the path, which "
                f"is relative to {context.root}, or set {setting} = false."
            )
    elif pretrained and not backbone.startswith(HUB):
        name = check_backbone(backbone)
        try:
            config = timm.get_pretrained_cfg(name, allow_unregistered=True)
        except RuntimeError as err:  # unknown tag, the part after the dot
            architecture = name.split(".")[0]
            tags = [known for known in timm.list_pretrained(f"{architecture}.*") if known.split(".")[0] == architecture]
            raise TrainingError(
                f"Model '{context.name}': backbone = {backbone!r} has no such weights in timm {timm.__version__}. "
                f"Known: {examples(tags) or architecture}."
            ) from err
        if config is not None and not config.has_weights:
            raise TrainingError(
                f"Model '{context.name}': timm has no pretrained weights for {backbone!r}. Set {setting} = false, or "
                f"choose a backbone that has them (python -c 'import timm; print(timm.list_pretrained())')."
            )


def smallest_part(context: ModelContext[Any]) -> int:
    """Return the number of rows in the smallest part of any step of any training."""
    settings, processes = context.settings, context.group.size
    found: list[int] = []
    for fold in context.trainings:
        train_rows = row_count(context, fold)
        rows = min(settings.step_rows, max(1, train_rows // processes) * processes) // processes
        part = -(-rows // settings.accumulate)
        found.append(rows % part or part)
    return min(found)


def try_network(
    context: ModelContext[Any],
    settings: S,
    make: Callable[[S], nn.Module],
    try_step: TryStep[S],
    describe: Callable[[int], str],
) -> nn.Module:
    """Run a step and a prediction with the smallest part of a step, and return the network (without values).

    Args:
        context: context of the model.
        settings: its settings, with random weights.
        make: creates the network of such settings.
        try_step: runs a forward and backward pass of a number of rows and a prediction of one row; returns the logits.
        describe: describes the inputs for a number of rows, with the settings to change, for the message.

    Raises:
        TrainingError: if the network refuses these shapes, or does not return one number for each row. The nearest
            image sizes with which it runs are named.
    """
    rows = smallest_part(context)
    try:
        return _tried(context, settings, make, try_step, describe, rows)
    except TrainingError as err:
        runs = _what_runs(settings, make, try_step, rows)
        if not runs:
            raise
        raise TrainingError(f"{err} It runs with {runs}.") from err


def _options(settings: NetworkSettings) -> str:
    """Return the options of all backbones as settings."""
    names = ("backbone_options", "sound_options")
    return " or ".join(f"{name} = {getattr(settings, name)}" for name in names if hasattr(settings, name))


def _what_runs(settings: S, make: Callable[[S], nn.Module], try_step: TryStep[S], rows: int) -> str:
    """Return with what a network runs, as far as shapes show it: two rows, or the nearest smaller and larger inputs."""
    name = next((name for name in ("image_size", "frame_size") if getattr(settings, name, 0)), "")

    def fits(rows: int, **changes: int) -> bool:
        try:
            changed = replace(settings, **changes)  # type: ignore[arg-type]
            network = _made(changed, make)
            with _META:
                return try_step(changed, network, rows).numel() == rows
        except Exception:  # as in `_tried`
            return False

    if rows == 1 and fits(2):  # one row cannot be normalised if a channel has one value
        return "2 rows in the smallest part of a step"
    if not name:  # sound
        return ""
    size = int(getattr(settings, name))
    below = {size - 1 - (size - 1) % stride for stride in _STRIDES} - {0}
    above = {size + stride - size % stride for stride in _STRIDES}
    near = sorted(below, reverse=True)[:_TRIED], sorted(above)[:_TRIED]
    found = [next((size for size in sizes if fits(rows, **{name: size})), 0) for sizes in near]
    return " or ".join(f"{name} = {size}" for size in found if size)


def _made(settings: Any, make: Callable[[Any], nn.Module]) -> nn.Module:
    """Return the network of settings as it is trained, without values."""
    with _META:
        network = make(settings)
    set_trainable(network, settings)
    if settings.checkpointing:
        enable_checkpointing(network)
    return network


def _tried(
    context: ModelContext[Any],
    settings: S,
    make: Callable[[S], nn.Module],
    try_step: TryStep[S],
    describe: Callable[[int], str],
    rows: int,
) -> nn.Module:
    network = _made(settings, make)
    try:
        logits = try_step(settings, network, rows)
    # from the network, or from an operation that does not support meta tensors: only real values show which
    except Exception:
        rows = min(rows, 2)
        with torch.random.fork_rng(devices=[]):
            try:
                logits = try_step(settings, make(settings), rows)
            except Exception as err:
                raise TrainingError(
                    f"Model '{context.name}': {context.settings.backbone!r} does not run with {describe(rows)}: "
                    f"{first_line(err).rstrip('.')}. Change one of these (batch_size and accumulate set the part), or "
                    f"{_options(context.settings)}."
                ) from err
    if logits.numel() != rows:
        raise TrainingError(
            f"Model '{context.name}': {context.settings.backbone!r} returns {tuple(logits.shape)} for {rows} rows "
            f"instead of one number each. Correct {_options(context.settings)}."
        )
    return network
