"""Try a model before training, so that impossible settings are found in a second instead of after hours."""

import json
from dataclasses import replace

import timm
import torch
from torch import Tensor, nn

from oof.errors import TrainingError, examples
from oof.paths import resolve_path
from trainers.augment.pseudo_fakes import pair_partners
from trainers.kinds.base import ModelContext, settings_record
from trainers.kinds.images import originals
from trainers.kinds.timm.settings import TimmSettings
from trainers.kinds.training.outcome import check_parameters
from trainers.kinds.training_rows import labelled_rows, training_rows
from trainers.networks.backbone import HUB, check_backbone, create_model, enable_checkpointing, parameter_count
from trainers.networks.optim import set_trainable
from trainers.networks.output import as_output
from trainers.networks.tta import predict
from trainers.networks.weights import first_line

_META = torch.device("meta")  # tensors without values: only shapes are computed
_passed: dict[str, int] = {}  # number of parameters of models that have passed in this process


def try_model(context: ModelContext[TimmSettings]) -> None:
    """Run one training step and one prediction without values, and check what the settings refer to.

    Raises:
        TrainingError: if the backbone is unknown or refuses the image size, batch or views, weights are missing or
            belong to another backbone, there are too many parameters, a column is missing, or the processes cannot
            split a batch.
        DataError: if pairs do not consist of a fake and a real.
    """
    settings = context.settings
    _check_batch(context)
    for fold in range(context.folds.k):
        training_rows(context, fold)
    pairs = originals(context, context.train, settings.pair_column)
    if pairs is not None:
        pair_partners(context.folds.ids, context.folds.target, pairs)
    name = check_backbone(settings.backbone)
    if name != settings.backbone:
        context.progress.note(f"Model '{context.name}': the current timm name of {settings.backbone!r} is {name!r}.")
    _check_weights(context)
    key = json.dumps([settings_record(settings), smallest_part(context)])
    if key not in _passed:
        with _META:
            network = create_model(replace(settings, pretrained=False), settings.image_size)
        set_trainable(network, settings)
        if settings.checkpointing:
            enable_checkpointing(network)
        _try_step(context, network)
        _passed[key] = parameter_count(network)
    check_parameters(context, _passed[key])


def _check_batch(context: ModelContext[TimmSettings]) -> None:
    settings, processes = context.settings, context.group.size
    if settings.step_rows % processes:
        raise TrainingError(
            f"Model '{context.name}': batch_size = {settings.step_rows} rows cannot be split evenly among {processes} "
            f"processes. Set a multiple of {processes}."
        )


def _check_weights(context: ModelContext[TimmSettings]) -> None:
    """Check that pretrained weights exist; those on the hub are downloaded later."""
    settings = context.settings
    if isinstance(settings.pretrained, str):
        path = resolve_path(context.root, settings.pretrained)
        if not path.is_file():
            raise TrainingError(
                f"Model '{context.name}': pretrained = {settings.pretrained!r} is not a file ({path}). Correct the "
                f"path, which is relative to {context.root}, or set pretrained = false."
            )
        create_model(settings, settings.image_size, context.root)
    elif settings.pretrained and not settings.backbone.startswith(HUB):
        name = check_backbone(settings.backbone)
        try:
            config = timm.get_pretrained_cfg(name, allow_unregistered=True)
        except RuntimeError as err:  # unknown tag, the part after the dot
            architecture = name.split(".")[0]
            tags = [known for known in timm.list_pretrained(f"{architecture}.*") if known.split(".")[0] == architecture]
            raise TrainingError(
                f"Model '{context.name}': backbone = {settings.backbone!r} has no such weights in timm "
                f"{timm.__version__}. Known: {examples(tags) or architecture}."
            ) from err
        if config is not None and not config.has_weights:
            raise TrainingError(
                f"Model '{context.name}': timm has no pretrained weights for {settings.backbone!r}. Set pretrained = "
                f"false, or choose a backbone that has them (python -c 'import timm; print(timm.list_pretrained())')."
            )


def _try_step(context: ModelContext[TimmSettings], network: nn.Module) -> None:
    """Run forward, backward and prediction with the smallest parts of a step and of a prediction."""
    settings, rows = context.settings, smallest_part(context)
    try:
        logits = _step_and_prediction(settings, network, rows)
    # from the network, or from an operation that does not support meta tensors: only real values show which
    except Exception:
        rows = min(rows, 2)
        with torch.random.fork_rng(devices=[]):
            network = create_model(replace(settings, pretrained=False), settings.image_size)
            try:
                logits = _step_and_prediction(settings, network, rows)
            except Exception as err:
                raise TrainingError(
                    f"Model '{context.name}': {settings.backbone!r} cannot be trained and predict with image_size = "
                    f"{settings.image_size}, {rows} image{'s' * (rows > 1)} in the smallest part of a step, and tta = "
                    f"{settings.tta!r}: {first_line(err)} Change one of these (batch_size and accumulate set the "
                    f"part), or backbone_options = {settings.backbone_options}."
                ) from err
    if logits.numel() != rows:
        raise TrainingError(
            f"Model '{context.name}': {settings.backbone!r} returns {tuple(logits.shape)} for {rows} images instead "
            f"of one number each. Correct backbone_options = {settings.backbone_options}."
        )


def _step_and_prediction(settings: TimmSettings, network: nn.Module, rows: int) -> Tensor:
    """Return the logits of a step on the device of the network, after a backward pass and a prediction."""
    size, stored, device = settings.image_size, settings.stored_size, next(network.parameters()).device
    logits = as_output(network.train()(torch.zeros(rows, 3, size, size, device=device))).logits
    logits.float().sum().backward()  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        predict(
            network.eval(), torch.zeros(1, 3, stored, stored, device=device), settings.tta, settings.tta_merge, size
        )
    return logits


def smallest_part(context: ModelContext[TimmSettings]) -> int:
    """Return the number of rows in the smallest part of any step of any fold."""
    settings, processes = context.settings, context.group.size
    train_rows = min(int(labelled_rows(context, fold).sum()) for fold in range(context.folds.k))
    rows = min(settings.step_rows, max(1, train_rows // processes) * processes) // processes
    part = -(-rows // settings.accumulate)
    return rows % part or part
