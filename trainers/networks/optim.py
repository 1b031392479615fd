"""Trainable weights, optimiser, and learning rate schedule."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from oof.errors import TrainingError
from trainers.networks.input_stem import SideInputs
from trainers.networks.residual import residual_factors, train_residuals
from trainers.networks.settings import NetworkSettings, OptimSettings
from trainers.networks.weights import head_parameters


def set_trainable(model: nn.Module, settings: NetworkSettings) -> None:
    """Make all weights trainable, or only the head, optionally with normalisation layers or residuals of attention.

    Tuning only the normalisation of a large pretrained encoder preserves its knowledge of images and
    generalises to unseen forgeries (GenD, arXiv 2508.06248).

    Raises:
        TrainingError: if the backbone has no normalisation layer with weights, or no attention with residuals.
    """
    if settings.trainable == "all":
        return
    wanted = set(head_parameters(model))
    if isinstance(model, SideInputs):
        wanted |= set(model.stem.parameters())
    if settings.trainable == "norm":
        norms = [
            parameter
            for module in model.modules()
            if "norm" in type(module).__name__.lower()
            for parameter in module.parameters(recurse=False)
        ]
        if not norms:
            raise TrainingError(
                f'{settings.backbone!r} has no normalisation layers to tune. Set trainable = "head" or "all".'
            )
        wanted |= set(norms)
    elif settings.trainable == "residual":
        wanted |= set(train_residuals(model, settings.residual_rank))
    for parameter in model.parameters():
        parameter.requires_grad_(parameter in wanted)


def make_optimizer(model: nn.Module, settings: OptimSettings, device: torch.device) -> torch.optim.AdamW:
    """Return AdamW over the trainable weights; each group has an `lr_scale`, a factor on the learning rate.

    Weight decay excludes biases, normalisation, residual factors (which are constrained otherwise) and parameters that
    the backbone excludes itself. Fused kernels are used, since they skip a step if `found_inf` is set, without waiting
    for the device.
    """
    backbone = _backbone(model)
    scales: dict[nn.Parameter, float] = {}
    if settings.layer_decay < 1:
        from timm.optim._param_groups import param_groups_layer_decay

        for group in param_groups_layer_decay(backbone, layer_decay=settings.layer_decay):
            scales.update(dict.fromkeys(group["params"], float(group["lr_scale"])))
    head = set(head_parameters(model))
    undecayed = set(backbone.no_weight_decay()) if hasattr(backbone, "no_weight_decay") else set()  # type: ignore[operator]
    names = {parameter: name for name, parameter in backbone.named_parameters()}
    factors = set(residual_factors(model))
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        scale = scales.get(parameter, 1.0) * (settings.head_lr if parameter in head else 1.0)
        decays = parameter.ndim > 1 and names.get(parameter) not in undecayed and parameter not in factors
        decay = settings.weight_decay if decays else 0.0
        groups.setdefault((decay, scale), []).append(parameter)
    on_cuda = device.type == "cuda"
    return torch.optim.AdamW(
        [
            {
                "params": found,
                "weight_decay": decay,
                "lr_scale": scale,
                # a tensor of its own: a CUDA graph reads it in each step
                "lr": torch.tensor(settings.lr, device=device) if on_cuda else settings.lr,
            }
            for (decay, scale), found in groups.items()
        ],
        fused=True,
        capturable=on_cuda,
    )


def set_lr(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step: `rate` times the `lr_scale` of each group."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * group["lr_scale"])
        else:
            group["lr"] = rate * group["lr_scale"]


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore a state, which may have been saved on another type of device."""
    own = [{name: group[name] for name in ("lr", "capturable")} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, values in zip(optimizer.param_groups, own, strict=True):
        group.update(values)


def lr_at(step: int, total: int, settings: OptimSettings) -> float:
    """Return the learning rate of a step (from 0): linear warm-up, then cosine decay to zero."""
    warm = round(settings.warmup * total)
    if step < warm:
        return settings.lr * (step + 1) / (warm + 1)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def _backbone(model: nn.Module) -> nn.Module:
    found = getattr(model, "backbone", model)
    assert isinstance(found, nn.Module)
    return found
