"""The kinds `frames`, `audio` and `av`: networks on clips."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from oof.errors import StoreError
from oof.files import read_json_if_any, write_json
from trainers.features.settings import ExtractSettings
from trainers.kinds.base import (
    WEIGHTS_FILE,
    FoldModels,
    FoldOutcome,
    ModelContext,
    ModelKind,
    Probabilities,
    Resources,
)
from trainers.kinds.clips.clips import ClipSource, prepare_clips
from trainers.kinds.clips.deciding import DECIDING_FILE, deciding_moments, moment_places, save_deciding
from trainers.kinds.clips.fold import ClipFoldData
from trainers.kinds.clips.initial import check_starts, make_fold_network, start_record, starts
from trainers.kinds.clips.moments import AnyClipSettings
from trainers.kinds.clips.network import make_clip_network
from trainers.kinds.clips.pooling import RULES, pool_nested
from trainers.kinds.clips.predict import ClipModels, Kept
from trainers.kinds.clips.trial import try_clip_model, without_weights
from trainers.kinds.prediction import predict_rows
from trainers.kinds.training.outcome import device_of, fold_seed, train_network
from trainers.kinds.training_rows import training_rows
from trainers.networks.settings import PREDICTION_SETTINGS
from trainers.networks.weights import load_fold_weights

if TYPE_CHECKING:
    import pandas as pd

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

    def starts_from(self, settings: AnyClipSettings) -> tuple[str, ...]:
        return tuple(dict.fromkeys(start.model for start in starts(settings)))

    def only_predicts(self, setting: str, before: object, now: object) -> bool:
        is_learned = "attention" in (before, now)
        return setting in PREDICTION_SETTINGS | {"time_views"} or (setting == "pooling" and not is_learned)

    def check(self, context: Context) -> None:
        check_starts(context)
        try_clip_model(context)

    def prepare(self, context: Context) -> None:
        prepare_clips(context)

    def train_fold(self, context: Context, fold: int) -> FoldOutcome:
        settings = context.settings
        held_out = context.split(fold)[1]
        data = ClipFoldData(
            settings,
            training_rows(context, fold),
            held_out,
            ClipSource(context),
            seed=fold_seed(settings, fold),
            device=device_of(context),
            make_network=partial(make_fold_network, context, fold),
            threads=context.threads,
        )
        outcome = train_network(context, fold, data)
        if starting := start_record(context, fold):
            outcome = replace(outcome, history={**outcome.history, "starts_from": starting})
        if fold == context.folds.refit:
            return replace(outcome, history={**outcome.history, **_history(settings)})
        return _finished(settings, outcome, data.moments, held_out)

    def predict_held_out(self, context: Context, fold: int, on_batch: Callable[[int], None]) -> FoldOutcome:
        held_out, moments = context.split(fold)[1], Kept()
        models = _load(context, [fold], keep=moments.add)
        oof = predict_rows(models, held_out, context.group, on_batch=on_batch)[0]
        return _finished(context.settings, FoldOutcome(oof=oof), moments, held_out)

    def load(self, context: Context, folds: Sequence[int], *, tta: bool = True) -> FoldModels:
        return _load(context, folds, tta=tta)


def _load(
    context: Context,
    folds: Sequence[int],
    *,
    tta: bool = True,
    keep: Callable[[Probabilities, Probabilities], None] | None = None,
) -> ClipModels:
    """Load fold models; `keep` is called with the probabilities and weights of the moments by the first one."""
    settings, device = context.settings, device_of(context)
    scratch = without_weights(settings)
    networks = []
    for fold in folds:
        network = make_clip_network(scratch)
        load_fold_weights(network, context.fold_folder(fold) / WEIGHTS_FILE)
        networks.append(network.to(device=device, memory_format=torch.channels_last))  # type: ignore[call-overload]
    rules = [_pooling_rule(context, fold, has_chosen=keep is None) for fold in folds]
    return ClipModels(settings, networks, rules, ClipSource(context), device, context.threads, tta=tta, keep=keep)


def _pooling_rule(context: Context, fold: int, *, has_chosen: bool) -> str:
    """Return the rule by which a training pools the moments of rows that were not held out.

    A fold that has not chosen a rule yet, since its held-out rows are being predicted, takes the mean.
    """
    pooling = context.settings.pooling
    if pooling == "auto" and not has_chosen:
        return "mean"
    if pooling == "auto":
        return _rule_of_folds(context) if fold == context.folds.refit else _rule_of_fold(context, fold)
    return "mean" if pooling == "attention" else pooling


def _rule_of_fold(context: Context, fold: int) -> str:
    """Return the rule that a fold chose by its held-out rows."""
    path = context.fold_folder(fold) / POOLING_FILE
    rule = (read_json_if_any(path) or {}).get("rule")
    if not (isinstance(rule, str) and rule in RULES):
        raise StoreError(
            f"{path} is missing or has no known pooling rule: it was deleted or edited by hand. Restore it, or remove "
            f"it and the predictions of the fold in work/oof/models; dfens train then predicts the fold again."
        )
    return rule


def _rule_of_folds(context: Context) -> str:
    """Return the rule of most folds, for a refit, which has no held-out rows to choose one by.

    It is not stored: other views change the rules of the folds without a new training.
    """
    rules = [_rule_of_fold(context, fold) for fold in range(context.folds.k)]
    return max(rules, key=lambda name: (rules.count(name), name == "mean"))


def _finished(settings: AnyClipSettings, outcome: FoldOutcome, moments: Kept, held_out: "pd.DataFrame") -> FoldOutcome:
    """Add the cost of prediction and the deciding moments; with pooling = "auto", pool by rules of other rows."""
    outcome = replace(outcome, history={**outcome.history, **_history(settings)})
    if settings.pooling == "auto":
        outcome = _with_nested_rule(settings, outcome, moments, held_out)
    return _with_deciding_moments(settings, outcome, moments, held_out)


def _history(settings: AnyClipSettings) -> dict[str, Any]:
    """Return the cost of prediction, and how moments are pooled; rules of an earlier prediction no longer apply."""
    return {
        "views": settings.views, "pooling": settings.pooling, "pooling_rule": None, "pooling_rules_of_halves": None
    }  # fmt: skip


def _with_nested_rule(
    settings: AnyClipSettings, outcome: FoldOutcome, moments: Kept, held_out: "pd.DataFrame"
) -> FoldOutcome:
    """Pool the held-out rows again, with rules that were chosen without them."""
    probabilities, weight = moments.joined()
    target = held_out["target"].to_numpy(np.int8)
    oof, rule, rules = pool_nested(probabilities, weight, target, settings.seed)

    def save_rule(path: Path) -> None:
        write_json(path, {"version": 1, "rule": rule})

    history = {**outcome.history, "pooling_rule": rule, "pooling_rules_of_halves": list(rules)}
    return replace(outcome, oof=oof, files={**outcome.files, POOLING_FILE: save_rule}, history=history)


def _with_deciding_moments(
    settings: AnyClipSettings, outcome: FoldOutcome, moments: Kept, held_out: "pd.DataFrame"
) -> FoldOutcome:
    """Add the moments that decided the predictions of the held-out clips, for people to look at."""
    probabilities, weight = moments.joined()
    if len(probabilities) != len(outcome.oof):  # each process of a group has predicted only a part of them
        return outcome
    places = moment_places(settings)
    chosen = deciding_moments(probabilities, weight, outcome.oof)
    ids, rows = held_out["id"].to_numpy(object), np.arange(len(chosen))

    def save(path: Path) -> None:
        save_deciding(path, ids, places[chosen], probabilities[rows, chosen])

    return replace(outcome, files={**outcome.files, DECIDING_FILE: save})
