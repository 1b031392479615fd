"""The kinds `frames`, `audio` and `av`: networks on clips."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oof.errors import TrainingError
from oof.files import read_json, write_json
from trainers.features.settings import ExtractSettings
from trainers.kinds.base import WEIGHTS_FILE, FoldModels, FoldOutcome, ModelContext, ModelKind, Resources
from trainers.kinds.clips.clips import ClipSource, prepare_clips
from trainers.kinds.clips.deciding import DECIDING_FILE, deciding_moments, moment_places, save_deciding
from trainers.kinds.clips.fold import ClipFoldData
from trainers.kinds.clips.moments import AnyClipSettings
from trainers.kinds.clips.network import make_clip_network
from trainers.kinds.clips.pooling import pool_nested
from trainers.kinds.clips.predict import ClipModels
from trainers.kinds.clips.settings import RAW_BACKBONES, AudioSettings, AvSettings
from trainers.kinds.training.outcome import device_of, fold_seed, train_network
from trainers.kinds.training_rows import training_rows
from trainers.networks.backbone import check_backbone
from trainers.networks.weights import load_weights

POOLING_FILE = "pooling.json"

Context = ModelContext[AnyClipSettings]


class ClipKind(ModelKind[AnyClipSettings]):
    """Networks on moments of clips: frames, windows of sound, or both, depending on the settings.

    folder of a fold/
    ├── weights.safetensors
    ├── deciding.parquet    the moment that decided each held-out prediction; absent if processes share a fold
    └── pooling.json        with pooling = "auto": the rule for rows that were not held out
    """

    soft_labels = True

    def resources(self, settings: AnyClipSettings) -> Resources:
        return Resources(gpu=True, joint=settings.pooling != "auto")

    def modalities(self, settings: AnyClipSettings) -> tuple[str, ...]:
        found = (("picture", settings.reads_picture), ("sound", settings.reads_sound))
        return tuple(name for name, is_read in found if is_read)

    def extraction(self, settings: AnyClipSettings) -> ExtractSettings | None:
        return settings.extraction

    def check(self, context: Context) -> None:
        settings, processes = context.settings, context.group.size
        if settings.step_rows % processes:
            raise TrainingError(
                f"Model '{context.name}': batch_size = {settings.step_rows} rows cannot be split evenly among "
                f"{processes} processes. Set a multiple of {processes}."
            )
        names = [settings.backbone, *([settings.sound_backbone] if isinstance(settings, AvSettings) else [])]
        for position, name in enumerate(names):
            hears = isinstance(settings, AudioSettings) or position == 1
            if not (hears and name in RAW_BACKBONES):
                check_backbone(name)

    def prepare(self, context: Context) -> None:
        prepare_clips(context)

    def train_fold(self, context: Context, fold: int) -> FoldOutcome:
        settings = context.settings
        data = ClipFoldData(
            settings,
            training_rows(context, fold),
            context.split(fold)[1],
            ClipSource(context),
            seed=fold_seed(settings, fold),
            device=device_of(context),
            root=context.root,
            threads=context.threads,
        )
        outcome = train_network(context, fold, data)
        outcome = replace(outcome, history={**outcome.history, "views": settings.views, "pooling": settings.pooling})
        if settings.pooling == "auto" and fold == context.folds.refit:
            rule = _rule_of_folds(context)
            outcome = _with_rule(outcome, rule, {"pooling_rule": rule})
        elif settings.pooling == "auto":
            outcome = _with_nested_rule(settings, outcome, data)
        return _with_deciding_moments(settings, outcome, data)

    def load(self, context: Context, folds: Sequence[int], *, tta: bool = True) -> FoldModels:
        settings, device = context.settings, device_of(context)
        scratch = replace(settings, pretrained=False)
        if isinstance(scratch, AvSettings):
            scratch = replace(scratch, sound_pretrained=False)
        networks, rules = [], []
        for fold in folds:
            network = make_clip_network(scratch)
            load_weights(network, context.fold_folder(fold) / WEIGHTS_FILE)
            networks.append(network.to(device=device, memory_format=torch.channels_last))  # type: ignore[call-overload]
            found = context.fold_folder(fold) / POOLING_FILE
            rules.append(read_json(found, "rule")["rule"] if found.exists() else settings.pooling)
        rules = ["mean" if rule in ("auto", "attention") else rule for rule in rules]
        return ClipModels(settings, networks, rules, ClipSource(context), device, context.threads, tta=tta)


def _with_nested_rule(settings: AnyClipSettings, outcome: FoldOutcome, data: ClipFoldData) -> FoldOutcome:
    """Pool the held-out rows again, with rules that were chosen without them."""
    probabilities, weight = data.held_out_moments()
    target = data.held_out["target"].to_numpy(np.int8)
    oof, rule, rules = pool_nested(probabilities, weight, target, settings.seed)
    found = _with_rule(outcome, rule, {"pooling_rule": rule, "pooling_rules_of_halves": list(rules)})
    return replace(found, oof=oof)


def _rule_of_folds(context: Context) -> str:
    """Return the rule of most folds, for a refit, which has no held-out rows to choose one by."""
    rules = [read_json(context.fold_folder(fold) / POOLING_FILE)["rule"] for fold in range(context.folds.k)]
    return str(max(rules, key=lambda name: (rules.count(name), name == "mean")))


def _with_rule(outcome: FoldOutcome, rule: str, history: Mapping[str, Any]) -> FoldOutcome:
    """Add the rule by which rows that were not held out are pooled."""

    def save_rule(path: Path) -> None:
        write_json(path, {"version": 1, "rule": rule})

    files: dict[str, Callable[[Path], None]] = {**outcome.files, POOLING_FILE: save_rule}
    return replace(outcome, files=files, history={**outcome.history, **history})


def _with_deciding_moments(settings: AnyClipSettings, outcome: FoldOutcome, data: ClipFoldData) -> FoldOutcome:
    """Add the moments that decided the predictions of the held-out clips, for people to look at."""
    if not len(outcome.oof):  # a refit holds out no row
        return outcome
    probabilities, weight = data.held_out_moments()
    if len(probabilities) != len(outcome.oof):  # each process of a group has predicted only a part of them
        return outcome
    places = moment_places(settings)
    chosen = deciding_moments(probabilities, weight, outcome.oof)
    ids, rows = data.held_out["id"].to_numpy(object), np.arange(len(chosen))

    def save(path: Path) -> None:
        save_deciding(path, ids, places[chosen], probabilities[rows, chosen])

    return replace(outcome, files={**outcome.files, DECIDING_FILE: save})
