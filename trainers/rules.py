"""Rules of competitions on models: size and pretraining; which models of dfens.toml break them.

Parameters and data of presets are known from `trainers.presets`; those of other backbones are found with timm, which is
only imported for them.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oof.errors import ConfigError, DfensError
from trainers.kinds.base import ModelSettings
from trainers.kinds.clips.settings import RAW_BACKBONES
from trainers.networks.pretraining import pretraining_data
from trainers.presets import PRESETS


@dataclass(frozen=True)
class Rules:
    """Largest number of parameters of all models together, and the data that weights may be trained on before."""

    max_parameters: int
    pretraining: tuple[str, ...]


# facts from the organisers' text: one model of at most 200 M parameters in all, ImageNet-1K pretraining only
RULES: Mapping[str, Rules] = {
    "multi-ffdi": Rules(200_000_000, ("ImageNet-1K",)),
    "multi-ffdv": Rules(200_000_000, ("ImageNet-1K",)),
}


@dataclass(frozen=True)
class ModelFacts:
    """What rules are about.

    parameters: of the model, None where unknown. data: what its weights are known to be trained on before.
    unknown: why there may be more, "" where there is not.
    """

    parameters: int | None
    data: tuple[str, ...] = ()
    unknown: str = ""


def rules_by_name(name: str) -> Rules:
    """Return the rules of a competition.

    Raises:
        ConfigError: if there are none of that name.
    """
    if name not in RULES:
        raise ConfigError(f"[competition] rules = {name!r} is unknown. Known: {', '.join(RULES)}.")
    return RULES[name]


def broken_rules(models: Mapping[str, ModelSettings], name: str) -> list[str]:
    """Return a sentence for each rule that models break, or may break as far as their settings say.

    Args:
        models: settings by name.
        name: of the rules, in RULES.
    """
    rules = rules_by_name(name)
    allowed = " and ".join(rules.pretraining)
    found, counts = [], []
    for model, settings in models.items():
        facts = model_facts(settings)
        foreign = [data for data in facts.data if data not in rules.pretraining]
        if foreign:
            found.append(
                f"Model '{model}' begins from weights that were trained on {' and '.join(foreign)}; the rules of "
                f"{name} allow {allowed} alone. Name other weights, or set pretrained = false."
            )
        if facts.unknown:
            found.append(
                f"Model '{model}': {facts.unknown} what its weights were trained on; the rules of {name} allow "
                f"{allowed} alone. Find out before you submit."
            )
        if facts.parameters is None:
            continue
        counts.append(facts.parameters)
        if facts.parameters > rules.max_parameters:
            found.append(
                f"Model '{model}' has {facts.parameters:,} parameters; the rules of {name} allow "
                f"{rules.max_parameters:,} in all. Choose a smaller backbone."
            )
    if sum(counts) > rules.max_parameters >= max(counts):
        found.append(
            f"The models of dfens.toml have {sum(counts):,} parameters together; the rules of {name} allow "
            f"{rules.max_parameters:,} in all. Blend only some of them (dfens blend --members)."
        )
    return found


def model_facts(settings: ModelSettings) -> ModelFacts:
    """Return size and pretraining of a model; a model that is no network has neither parameters nor pretraining."""
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
    """Return size and pretraining of one backbone, which timm makes without values."""
    if backbone in RAW_BACKBONES:  # less than a million parameters, and there are no weights of them
        return ModelFacts(0)
    from trainers.networks.backbone import backbone_size, backbone_tag  # torch and timm take seconds to load

    parameters: int | None = None
    with contextlib.suppress(DfensError):  # of a repository on the hub, or a name that training refuses
        parameters = backbone_size(backbone, options)
    if pretrained is False:
        return ModelFacts(parameters)
    if isinstance(pretrained, str):
        return ModelFacts(parameters, (), f"the file {pretrained!r} does not say")
    tag = backbone_tag(backbone)
    data = None if tag is None else pretraining_data(tag)
    return ModelFacts(parameters, data or (), "" if data else f"the name {backbone!r} does not say")
