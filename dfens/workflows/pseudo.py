"""Pseudo-labels from a stored blend: test probabilities, for each fold by models that have not seen its rows."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dfens.workspace.members import again_command, changed_inputs, check_readable
from dfens.workspace.paths import Workspace
from dfens.workspace.row_features import read_again
from ensemble.fold_safe import predict_without_fold
from ensemble.settings import BlendSettings
from oof.errors import BlendError, ConfigError, examples
from oof.predictions import train_command
from oof.progress import SILENT, Progress
from oof.store import ModelPredictions
from trainers.kinds.base import ModelSettings
from trainers.kinds.pseudo_labels import PseudoLabels
from trainers.kinds.repeats import repeats_of

_LEAK = (
    "Labels by models that have seen the held-out rows of a fold would carry the labels of these rows into the model "
    "that predicts them, and the OOF score would rise without any gain on the test rows."
)


def pseudo_labels(workspace: Workspace, blend: str, progress: Progress = SILENT) -> PseudoLabels:
    """Label the test rows for the training of each fold by a blend refitted without that fold.

    Raises:
        BlendError: if the blend is unknown or stale, or a member does not store test predictions per fold model.
    """
    store, blends = workspace.predictions, workspace.blends
    if blend not in blends:
        raise BlendError(_no_blend(blend, blends.list(), blend in store))
    stale, facts = changed_inputs(workspace, blend), blends.facts(blend)
    if stale:
        check_readable(workspace, stale)
        again = again_command(workspace, blend, workspace.config.blend)
        raise BlendError(f"The blend '{blend}' is stale: {examples(stale)} changed. Run {again}.")
    names = [member["name"] for member in facts["members"]]
    members = [_apart(workspace, name, blend) for name in names]
    known = {item.name for item in dataclasses.fields(BlendSettings)}
    recorded = {key: value for key, value in facts.get("settings", {}).items() if key in known}
    folds, features = store.folds, read_again(workspace, facts, progress)
    tests = [member.unmixed_test_by_fold for member in members]
    labels = predict_without_fold(
        np.stack([member.oof for member in members], axis=1),
        folds.target,
        folds.fold,
        np.stack([test for test in tests if test is not None], axis=2),
        BlendSettings(**(recorded | {"members": tuple(names)})),
        groups=folds.groups,
        features=None if features is None or features.test is None else (features.oof, features.test),
        progress=progress,
    )
    earlier = max(int(member.details.get("pseudo_labels", {}).get("round", 0)) for member in members)
    whole = labels.mean(axis=0, keepdims=True)  # for a refit, which has no held-out rows
    return PseudoLabels(np.concatenate([labels, whole]), {"blend": blend, "round": earlier + 1})


def pseudo_models(
    models: Mapping[str, ModelSettings], labels: PseudoLabels, known: Sequence[str]
) -> dict[str, ModelSettings]:
    """Return the models to train with pseudo-labels, each under a new name: NAME-pseudo1 in the first round.

    Args:
        models: selected models; those with `pseudo` in their settings take part.
        labels: pseudo-labels, which determine the round.
        known: names of all models in dfens.toml.

    Raises:
        ConfigError: if no model has `pseudo`, the maximum number of rounds is exceeded, or a name is taken.
    """
    taking = {name: settings for name, settings in models.items() if repeats_of(settings).pseudo is not None}
    if not taking:
        raise ConfigError(
            "No model in dfens.toml uses pseudo-labels. Add a line such as pseudo = { weight = 0.5, confidence = 0.9, "
            "rounds = 1 } to its section, or to [train] for all."
        )
    number = int(labels.source["round"])
    found: dict[str, ModelSettings] = {}
    for name, settings in taking.items():
        pseudo = repeats_of(settings).pseudo
        if pseudo is not None and number > pseudo.rounds:
            raise ConfigError(
                f"Model '{name}': the blend '{labels.source['blend']}' has members of round {number - 1} of "
                f"pseudo-labels, but rounds = {pseudo.rounds}. Name a blend without them, or increase rounds."
            )
        new = f"{name}-pseudo{number}"
        if new in known:
            raise ConfigError(f"[models.{new}] has the name that '{name}' gets with pseudo-labels. Rename it.")
        found[new] = settings
    return found


def _no_blend(name: str, blends: Sequence[str], is_model: bool) -> str:
    if is_model:
        return (
            f"'{name}' is a model, but pseudo-labels come from a blend, which is fitted again without each fold. Run "
            f"dfens blend --members {name} --name NAME, then dfens train --pseudo NAME."
        )
    if "/" in name or "." in name:
        return (
            f"--pseudo {name!r} is not a blend. A file has the same label for a test row in every fold. {_LEAK} "
            f"Name a blend; existing ones: {examples(blends, 10) or 'none'}."
        )
    known = examples(blends, 10) or "none"
    return f"There is no blend '{name}'; existing ones: {known}. Run dfens blend --name {name}."


def _apart(workspace: Workspace, name: str, blend: str) -> ModelPredictions:
    """Return a member of the blend, after checking that its test predictions are stored for each fold."""
    store = workspace.predictions
    if name not in store:
        raise BlendError(
            f"Member '{name}' of '{blend}' is a blend itself, whose test predictions are not stored by fold. {_LEAK} "
            f"Blend its members instead."
        )
    model = store.load(name)
    k = store.folds.k
    apart: Any = model.unmixed_test_by_fold
    if apart is None or len(model.test_folds) != k:
        raise BlendError(
            f"Member '{name}' of '{blend}' has test predictions of {len(model.test_folds)} of {k} fold models, "
            f"or only their mean (imported models). {_LEAK} Leave it out (dfens blend --members …), or train it here."
        )
    if np.isnan(model.oof).any():
        raise BlendError(
            f"Member '{name}' of '{blend}' lacks OOF predictions. Run {train_command(name, model.details)}."
        )
    return model
