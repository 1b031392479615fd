"""Try a model on images before training, so that impossible settings are found in a second instead of after hours."""

import json
from dataclasses import replace

import torch
from torch import Tensor, nn

from trainers.augment.pseudo_fakes import pair_partners
from trainers.kinds.base import ModelContext, settings_record
from trainers.kinds.images import originals
from trainers.kinds.timm.settings import TimmSettings
from trainers.kinds.training.outcome import check_parameters
from trainers.kinds.training.trial import check_batch, check_compile, check_weights, smallest_part, try_network
from trainers.kinds.training_rows import training_rows
from trainers.networks.backbone import check_backbone, check_download, create_model, parameter_count
from trainers.networks.output import as_output
from trainers.networks.tta import predict

_passed: dict[str, int] = {}  # number of parameters of models that have passed in this process


def try_model(context: ModelContext[TimmSettings]) -> None:
    """Run one training step and one prediction without values, and check what the settings refer to.

    Raises:
        TrainingError: if the backbone is unknown or refuses the image size, batch or views, weights are missing or
            belong to another backbone, there are too many parameters, a column or a compiler is missing, or the
            processes cannot split a batch.
        DataError: if pairs do not consist of a fake and a real.
    """
    settings = context.settings
    check_batch(context)
    check_compile(context)
    for fold in context.trainings:
        training_rows(context, fold)
    pairs = originals(context, context.train, settings.pair_column)
    if pairs is not None:
        pair_partners(context.folds.ids, context.folds.target, pairs)
    name = check_backbone(settings.backbone)
    if name != settings.backbone:
        context.progress.note(f"Model '{context.name}': the current timm name of {settings.backbone!r} is {name!r}.")
    check_weights(context, settings.backbone, settings.pretrained)
    if isinstance(settings.pretrained, str):  # whether they fit
        create_model(settings, settings.image_size, context.root)
    key = json.dumps([settings_record(settings), smallest_part(context)])
    if key not in _passed:

        def describe(rows: int) -> str:
            return (
                f"image_size = {settings.image_size}, {rows} image{'s' * (rows > 1)} in the smallest part of a step, "
                f"and tta = {settings.tta!r}"
            )

        _passed[key] = parameter_count(
            try_network(context, replace(settings, pretrained=False), _make, _step_and_prediction, describe)
        )
    check_parameters(context, _passed[key])
    if settings.pretrained is True and not context.elsewhere:
        check_download(settings.backbone)


def _make(settings: TimmSettings) -> nn.Module:
    return create_model(settings, settings.image_size)


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
