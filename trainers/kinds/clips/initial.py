"""Encoders that start from the fold models of another model: `pretrained = "model:NAME"`.

A fold model has seen the rows of all other folds. So fold 0 of the new model starts from fold 0 of the other one, which
has not seen the rows that the new one is scored on, and no label leaks into an out-of-fold score.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oof.errors import TrainingError
from oof.files import file_sha256
from oof.ids import is_name
from trainers.kinds.base import WEIGHTS_FILE, ModelContext, run_label, settings_record
from trainers.kinds.clips.moments import AnyClipSettings
from trainers.kinds.clips.network import make_clip_network
from trainers.kinds.clips.settings import OTHER_MODEL, AudioSettings, AvSettings, FramesSettings
from trainers.kinds.records import check_own_weights, read_history, read_record
from trainers.networks.backbone import create_model
from trainers.networks.clip_network import ClipNetwork
from trainers.networks.weights import load_fold_weights

_MEL = ("sample_rate", "n_fft", "hop", "bands", "fmin", "fmax")
_PICTURE_KINDS, _SOUND_KINDS = ("frames", "av"), ("audio", "av")


@dataclass(frozen=True)
class Start:
    """Where one encoder of a model starts: encoder is "picture" or "sound", model the name of the other one."""

    setting: str
    encoder: str
    model: str


def starts(settings: AnyClipSettings) -> Iterator[Start]:
    """Yield the encoders of a model that start from another model."""
    named = [("pretrained", "sound" if isinstance(settings, AudioSettings) else "picture", settings.pretrained)]
    if isinstance(settings, AvSettings):
        named.append(("sound_pretrained", "sound", settings.sound_pretrained))
    for setting, encoder, value in named:
        if isinstance(value, str) and value.startswith(OTHER_MODEL):
            yield Start(setting, encoder, value.removeprefix(OTHER_MODEL))


def check_starts(context: ModelContext[AnyClipSettings]) -> None:
    """Check that each model from which encoders start is trained or will be, and has the same encoder.

    Raises:
        TrainingError: naming the setting and what to set instead.
    """
    for start in starts(context.settings):
        where = _where(context, start)
        if not is_name(start.model):
            raise TrainingError(
                f'{where}: expected "{OTHER_MODEL}NAME", where NAME is another model in dfens.toml: {_others(context)}.'
            )
        if context.name in _chain(context, start.model):
            raise TrainingError(f"{where} starts from itself. Name a model that is trained before it.")
        other = _settings_of(context, start.model)
        if other is None:
            raise TrainingError(
                f"{where} names a model that has no trained folds and is not trained by this command. Run dfens "
                f"train --model {start.model} first, or name one of {_others(context)}."
            )
        _check_same(where, start, other, context.settings)
        if context.settings.refit and not other.get("refit", False):
            raise TrainingError(
                f"{where} has no refit, but the refit of '{context.name}' would start from it. Set refit = true for "
                f"both or for neither."
            )


def make_fold_network(context: ModelContext[AnyClipSettings], fold: int) -> ClipNetwork:
    """Return the network of a fold at the start of its training.

    Raises:
        TrainingError: a model to start from that is not trained on this fold, or on other folds, or with other
            settings; and as in `make_clip_network`.
    """
    network = make_clip_network(without_starts(context.settings), context.root)
    for start in starts(context.settings):
        folder = _check_trained(context, start, fold)
        prefix = f"{start.encoder}."
        load_fold_weights(network.get_submodule(start.encoder), folder / WEIGHTS_FILE, prefix)
    return network


def start_record(context: ModelContext[AnyClipSettings], fold: int) -> dict[str, Any]:
    """Return what the encoders of a fold start from, by encoder: the model and the SHA-256 of its weights."""
    return {
        start.encoder: {
            "model": start.model,
            "sha256": file_sha256(_folder(context, start, fold) / WEIGHTS_FILE),
        }
        for start in starts(context.settings)
    }


def _check_trained(context: ModelContext[AnyClipSettings], start: Start, fold: int) -> Path:
    """Return the folder of the fold that an encoder starts from."""
    where, folder = _where(context, start), _folder(context, start, fold)
    record = read_history(folder / "history.json")
    if record is None or not (folder / WEIGHTS_FILE).exists():
        raise TrainingError(
            f"{where} has no weights of fold {fold}. Run dfens train --model {start.model} --fold {fold} first."
        )
    if record.get("folds") != context.folds.fingerprint:
        raise TrainingError(
            f"{where} was trained on other folds, so its fold {fold} has seen rows that this model is scored on. Run "
            f"dfens train --model {start.model} --force first."
        )
    _check_same(where, start, record.get("settings", {}), context.settings)
    check_own_weights(folder)
    return folder


def without_starts(settings: AnyClipSettings) -> AnyClipSettings:
    """Return the settings with random weights for the encoders whose weights come from another model."""
    named = {start.setting for start in starts(settings)}
    if "pretrained" in named:
        settings = replace(settings, pretrained=False)
    if "sound_pretrained" in named:
        assert isinstance(settings, AvSettings)
        settings = replace(settings, sound_pretrained=False)
    return settings


def _folder(context: ModelContext[AnyClipSettings], start: Start, fold: int) -> Path:
    return context.work_dir / start.model / run_label(fold, context.folds.k)


def _where(context: ModelContext[AnyClipSettings], start: Start) -> str:
    return f"Model '{context.name}': {start.setting} = \"{OTHER_MODEL}{start.model}\""


def _others(context: ModelContext[AnyClipSettings]) -> str:
    return ", ".join(sorted(set(context.models) - {context.name})) or "–"


def _settings_of(context: ModelContext[AnyClipSettings], name: str) -> Mapping[str, Any] | None:
    """Return the settings with which this job trains a model, otherwise those with which it was trained."""
    if name in context.models:
        return settings_record(context.models[name])
    return (read_record(context.work_dir / name / "settings.json") or {}).get("settings")


def _chain(context: ModelContext[AnyClipSettings], name: str) -> set[str]:
    """Return a model and all models from which it starts, as far as this job trains them."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        name = waiting.pop()
        settings = context.models.get(name)
        if name not in seen and isinstance(settings, FramesSettings | AudioSettings | AvSettings):
            waiting += [start.model for start in starts(settings)]
        seen.add(name)
    return seen


def _check_same(where: str, start: Start, other: Mapping[str, Any], settings: AnyClipSettings) -> None:
    """Check that the other model has the same encoder with the same input."""
    kinds = _PICTURE_KINDS if start.encoder == "picture" else _SOUND_KINDS
    if other.get("kind") not in kinds:
        raise TrainingError(
            f"{where} is of the kind {other.get('kind')}, which has no {start.encoder} encoder. Name a model of the "
            f"kind {' or '.join(kinds)}."
        )
    own = settings_record(settings)
    differing = [
        f"{mine} = {own[mine]!r} here and {other.get(its)!r} there"
        for mine, its in zip(_keys(own, start.encoder), _keys(other, start.encoder), strict=True)
        if own[mine] != other.get(its)
    ]
    if differing:
        raise TrainingError(f"{where} has another encoder: {'; '.join(differing)}. Set the same values in both.")
    if start.encoder == "picture":
        _check_size(where, other, settings)


def _check_size(where: str, other: Mapping[str, Any], settings: AnyClipSettings) -> None:
    """Check that the weights of a picture encoder do not depend on the size of the frames, or that it is the same."""
    here, there = (found.get("image_size") or found["frame_size"] for found in (settings_record(settings), other))
    if here == there:
        return
    random = replace(settings, pretrained=False)
    shapes = [
        {name: value.shape for name, value in create_model(random, size).state_dict().items()} for size in (here, there)
    ]
    if shapes[0] != shapes[1]:
        raise TrainingError(
            f"{where} has frames of {there} px, and this model of {here} px, on which the weights of "
            f"{settings.backbone} depend. Set the same image_size in both."
        )


def _keys(record: Mapping[str, Any], encoder: str) -> list[str]:
    """Return the settings that an encoder and its inputs depend on."""
    if encoder == "picture":
        return ["backbone", "backbone_options", "inputs"]
    own = ["sound_backbone", "sound_options"] if record["kind"] == "av" else ["backbone", "backbone_options"]
    return [*own, *_MEL]
