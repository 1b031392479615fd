"""Try a model on clips before training, so that impossible settings are found in a second instead of after hours."""

import json
from dataclasses import replace

import torch
from torch import Tensor, nn

from trainers.kinds.base import ModelContext, settings_record
from trainers.kinds.clips.clips import check_extraction
from trainers.kinds.clips.initial import without_starts
from trainers.kinds.clips.moments import AnyClipSettings, MomentReader
from trainers.kinds.clips.network import make_clip_network
from trainers.kinds.clips.settings import RAW_BACKBONES, AudioSettings, AvSettings
from trainers.kinds.training.outcome import check_parameters
from trainers.kinds.training.trial import check_batch, check_compile, check_weights, smallest_part, try_network
from trainers.kinds.training_rows import training_rows
from trainers.networks.backbone import check_backbone, check_download, parameter_count
from trainers.networks.output import as_output

_passed: dict[str, int] = {}  # number of parameters of models that have passed in this process


def try_clip_model(context: ModelContext[AnyClipSettings]) -> None:
    """Run one training step and one prediction without values, and check what the settings refer to.

    Raises:
        TrainingError: if a backbone is unknown or refuses the sizes or the batch, weights are missing or belong to
            another backbone, there are too many parameters, a column or a compiler is missing, or the processes cannot
            split a batch.
    """
    settings = without_starts(context.settings)  # those are checked by `check_starts`
    check_batch(context)
    check_compile(context)
    check_extraction(context)
    for fold in context.trainings:
        training_rows(context, fold)
    sources: dict[str, tuple[str, bool | str]] = {}  # setting -> backbone of timm, source of its weights
    if not (isinstance(settings, AudioSettings) and settings.backbone in RAW_BACKBONES):
        check_backbone(settings.backbone)
        check_weights(context, settings.backbone, settings.pretrained)
        sources["pretrained"] = settings.backbone, settings.pretrained
    if isinstance(settings, AvSettings) and settings.sound_backbone not in RAW_BACKBONES:
        check_backbone(settings.sound_backbone, "sound_backbone")
        check_weights(context, settings.sound_backbone, settings.sound_pretrained, "sound_pretrained")
        sources["sound_pretrained"] = settings.sound_backbone, settings.sound_pretrained
    if any(isinstance(pretrained, str) for _, pretrained in sources.values()):  # whether they fit
        make_clip_network(only_files(settings), context.root)
    key = json.dumps([settings_record(settings), smallest_part(context)])
    if key not in _passed:

        def describe(rows: int) -> str:
            reader = MomentReader(settings)
            frames = f"frames of {reader.size} px, " if reader.size else ""
            windows = f"window_s = {reader.samples / settings.sample_rate:g}, " if reader.samples else ""
            if isinstance(settings, AvSettings):
                windows = f"sound_backbone = {settings.sound_backbone!r}, {windows}"
            part = f"{rows} clip{'s' * (rows > 1)} in the smallest part of a step"
            return f"{frames}{windows}moments = {settings.moments} and {part}"

        _passed[key] = parameter_count(
            try_network(context, without_weights(settings), make_clip_network, _step_and_prediction, describe)
        )
    check_parameters(context, _passed[key])
    for setting, (backbone, pretrained) in sources.items():
        if pretrained is True and not context.elsewhere:
            check_download(backbone, setting)


def without_weights(settings: AnyClipSettings) -> AnyClipSettings:
    """Return the settings of the same network with random weights."""
    settings = replace(settings, pretrained=False)
    return replace(settings, sound_pretrained=False) if isinstance(settings, AvSettings) else settings


def only_files(settings: AnyClipSettings) -> AnyClipSettings:
    """Return the settings of the same network with the weights of files; those of the hub are left out."""
    found = replace(settings, pretrained=settings.pretrained if isinstance(settings.pretrained, str) else False)
    if isinstance(found, AvSettings) and found.sound_pretrained is True:
        found = replace(found, sound_pretrained=False)
    return found


def _step_and_prediction(settings: AnyClipSettings, network: nn.Module, rows: int) -> Tensor:
    """Return the logits of a step on the device of the network, after a backward pass and a prediction."""
    device, reader = next(network.parameters()).device, MomentReader(settings)
    there = torch.ones(rows, settings.moments, device=device)
    frames = torch.zeros(rows, settings.moments, 3, reader.size, reader.size, device=device)
    sound = torch.zeros(rows, settings.moments, reader.samples, device=device)
    logits = as_output(network.train()(frames, there, sound, there)).logits
    logits.float().sum().backward()  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        network.eval()(frames[:1], there[:1], sound[:1], there[:1])
    return logits
