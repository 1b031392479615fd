"""Competition rules on the size and pretraining of models, and the models of dfens.toml that break them.

Parameters and pretraining data of presets are listed in `trainers.presets`; those of other backbones are looked up in
timm, which is imported only then.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oof.errors import ConfigError, DfensError
from trainers.kinds.base import ModelSettings
from trainers.kinds.clips.settings import RAW_BACKBONES
from trainers.kinds.repeats import repeats_of
from trainers.networks.pretraining import pretraining_data
from trainers.presets import PRESETS


@dataclass(frozen=True)
class Rules:
    """Maximum number of parameters of all models together, and the permitted pretraining data."""

    max_parameters: int
    pretraining: tuple[str, ...]


# from the organisers' rules: at most 200 M parameters in total, pretraining on ImageNet-1K only
RULES: Mapping[str, Rules] = {
    "multi-ffdi": Rules(200_000_000, ("ImageNet-1K",)),
    "multi-ffdv": Rules(200_000_000, ("ImageNet-1K",)),
}


@dataclass(frozen=True)
class ModelFacts:
    """Properties of a model that rules refer to.

    parameters: number of parameters, None if unknown. data: known pretraining data. unknown: why there may be other
    pretraining data, or "".
    """

    parameters: int | None
    data: tuple[str, ...] = ()
    unknown: str = ""


def rules_by_name(name: str) -> Rules:
    """Return the rules of a competition.

    Raises:
        ConfigError: if there are no rules of that name.
    """
    if name not in RULES:
        raise ConfigError(f"[competition] rules = {name!r} is unknown. Known: {', '.join(RULES)}.")
    return RULES[name]


def broken_rules(models: Mapping[str, ModelSettings], name: str) -> list[str]:
    """Return a sentence for each rule that models break, or may break according to their settings.

    Args:
        models: settings by name.
        name: name of the rules, in RULES.
    """
    rules = rules_by_name(name)
    allowed = " and ".join(rules.pretraining)
    found, counts = [], []
    for model, settings in models.items():
        facts = model_facts(settings)
        foreign = [data for data in facts.data if data not in rules.pretraining]
        if foreign:
            found.append(
                f"Model '{model}' starts from weights trained on {' and '.join(foreign)}; the rules of {name} allow "
                f"only {allowed}. Choose other weights, or set pretrained = false."
            )
        if facts.unknown:
            found.append(
                f"Model '{model}': {facts.unknown} what its weights were trained on; the rules of {name} allow only "
                f"{allowed}. Check this before you submit."
            )
        if facts.parameters is None:
            continue
        seeds = repeats_of(settings).seeds
        counts.append(facts.parameters * seeds)
        if counts[-1] > rules.max_parameters:
            several, advice = (f" with {seeds} seeds", " or fewer seeds") if seeds > 1 else ("", "")
            found.append(
                f"Model '{model}' has {counts[-1]:,} parameters{several}; the rules of {name} allow "
                f"{rules.max_parameters:,} in total. Choose a smaller backbone{advice}."
            )
    if sum(counts) > rules.max_parameters >= max(counts):
        found.append(
            f"The models of dfens.toml have {sum(counts):,} parameters together; the rules of {name} allow "
            f"{rules.max_parameters:,} in total. Blend only some of them (dfens blend --members)."
        )
    return found


def model_facts(settings: ModelSettings) -> ModelFacts:
    """Return size and pretraining of a model; models that are not networks have no parameters and no pretraining."""
    values: Any = settings
    if not getattr(settings, "backbone", ""):
        return ModelFacts(0)
    preset = PRESETS.get(getattr(settings, "preset", ""))
    if preset is not None and values.backbone == preset.settings["backbone"] and values.pretrained is True:
        return ModelFacts(preset.parameters, preset.pretraining)
    parts = [_backbone_facts(values.backbone, values.backbone_options, values.pretrained)]
    if getattr(settings, "sound_backbone", ""):
        parts.append(_backbone_facts(values.sound_backbone, values.sound_options, values.sound_pretrained))
    counts = [part.parameters for part in parts if part.parameters is not None]
    return ModelFacts(
        sum(counts) if len(counts) == len(parts) else None,
        tuple(dict.fromkeys(data for part in parts for data in part.data)),
        " and ".join(part.unknown for part in parts if part.unknown),
    )


def _backbone_facts(backbone: str, options: Mapping[str, Any], pretrained: bool | str) -> ModelFacts:
    """Return size and pretraining of one backbone, which timm creates without allocating parameters."""
    if backbone in RAW_BACKBONES:  # less than a million parameters, and no pretrained weights
        return ModelFacts(0)
    from trainers.networks.backbone import backbone_size, backbone_tag  # importing torch and timm takes seconds

    parameters: int | None = None
    with contextlib.suppress(DfensError):  # a repository on the hub, or a name that training rejects
        parameters = backbone_size(backbone, options)
    if pretrained is False:
        return ModelFacts(parameters)
    if isinstance(pretrained, str):
        return ModelFacts(parameters, (), f"the file {pretrained!r} does not specify")
    tag = backbone_tag(backbone)
    data = None if tag is None else pretraining_data(tag)
    return ModelFacts(parameters, data or (), "" if data else f"the name {backbone!r} does not specify")
