"""Gather members from the store, fit a blend, and store it."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfens.workflows.after_blend import after_blend, complete_members
from dfens.workflows.selection import fold_text
from dfens.workspace.members import read_member
from dfens.workspace.paths import Workspace
from dfens.workspace.row_features import RowFeatures, read_features, sealed_fingerprints
from dfens.workspace.trainings import network_parameters
from ensemble.blend_store import BlendStore
from ensemble.fit import fit_blend
from ensemble.result import BlendResult
from ensemble.settings import BlendSettings
from oof.errors import BlendError, examples
from oof.ids import Ids
from oof.predictions import train_command
from oof.progress import SILENT, Progress
from oof.store import ModelSummary, PredictionStore

_REVEALS = (
    "Together with its own members, a blend's nested predictions reveal the labels of each fold, and the nested score "
    "would be too high. Use either the blend or its members."
)
_Predictions = tuple[NDArray[np.float32], NDArray[np.float32] | None]  # OOF and test of one member


@dataclass(frozen=True, eq=False)
class NewBlend:
    """A fitted and stored blend.

    notes: what was left out or dropped, and why. archived: new path of an earlier blend with that name.
    has_test: whether its members, and therefore the blend, have test predictions. next: the command to run.
    features: names of the columns that boosted trees read.
    """

    name: str
    path: Path
    result: BlendResult
    notes: tuple[str, ...]
    archived: Path | None
    has_test: bool
    next: str
    features: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the blend without predictions and distribution functions."""
        return {
            "name": self.name,
            "path": self.path,
            "has_test": self.has_test,
            "left_out": self.notes,
            "archived": self.archived,
            "next": self.next,
            "features": self.features,
        } | self.result.summary.to_json()


def blend(workspace: Workspace, name: str, changes: Mapping[str, Any], progress: Progress = SILENT) -> NewBlend:
    """Blend stored models with the settings in [blend], overridden by `changes`, and store the blend under a name."""
    if "boosted" not in changes.get("methods", ("boosted",)):  # features in dfens.toml belong to its own methods
        changes = {"features": (), **changes}
    settings = dataclasses.replace(workspace.config.blend, **changes)
    store, blends = workspace.predictions, workspace.blends
    blends.check_new(name)
    if name in store:
        raise BlendError(f"There is a model '{name}', and a blend cannot have the same name. Choose another --name.")
    members = gather_members(store, blends, settings.members, name)
    _check_parameters(workspace, members.names)
    features = read_features(workspace, settings.features, progress)
    result, test = blend_members(store, members, settings, features, progress)
    details = members.details(store, settings)
    if features is not None:
        sealed = sealed_fingerprints(workspace, features.facts)
        details["features"] = {**features.facts, **({"sealed": sealed} if sealed else {})}
    archived = blends.save(
        name,
        result,
        store.folds.ids,
        test_ids=None if test is None else store.test_ids,
        test=test,
        details=details,
    )
    return NewBlend(
        name,
        blends.path(name),
        result,
        (*members.notes, *(() if features is None else features.notes), *_dropped(result, settings)),
        archived,
        test is not None,
        _next(workspace, name, test is not None),
        () if features is None else tuple(features.names),
    )


def _next(workspace: Workspace, name: str, has_test: bool) -> str:
    """Return the command to run after blending; without a dfens.toml, also what a submission needs."""
    if workspace.config_path.exists():
        return after_blend(workspace, name)
    if not has_test:
        return complete_members(workspace, name)
    return "dfens report; to submit, run dfens init --recipe table and name the sample submission under [data]"


def _check_parameters(workspace: Workspace, names: Sequence[str]) -> None:
    """Check the size of all members together against the limit of the competition."""
    most = workspace.config.competition.max_parameters
    if most is None:
        return
    store, blends = workspace.predictions, workspace.blends
    models = set[str]().union(*({name} if name in store else blends.models_of(name) for name in names))
    sizes = {model: network_parameters(workspace, model, range(store.folds.k)) for model in models}
    if sum(sizes.values()) > most:
        largest = sorted(sizes, key=lambda model: (-sizes[model], model))
        raise BlendError(
            f"The members have {sum(sizes.values()):,} parameters together; the competition allows {most:,} "
            f"([competition] max_parameters). Choose fewer with --members. Their sizes: "
            f"{', '.join(f'{model} {sizes[model]:,}' for model in largest if sizes[model])}."
        )


def _dropped(result: BlendResult, settings: BlendSettings) -> list[str]:
    """Return a note that lists the members without a weight if members were selected."""
    names = [name for name, weight in zip(result.names, result.weights, strict=True) if weight == 0]
    if not names or not settings.prune:
        return []
    return [f"Dropped, since without them the blend loses at most one standard error: {', '.join(names)}."]


@dataclass(frozen=True, eq=False)
class Members:
    """The members of a blend, in the row order of the store.

    oof: (n_rows, n_models), NaN for no prediction. test: (n_parts, n_test, n_models), one part per
    fold model, or None. averaged: (n_models,) whether test predictions are means over fold models, equal in all parts.
    fingerprints: fingerprint of each member's predictions. contains: fingerprint of the OOF predictions of each,
    and of what blends among them were made of. notes: what was left out or is incomplete, and why.
    """

    names: tuple[str, ...]
    oof: NDArray[np.float32]
    test: NDArray[np.float32] | None
    averaged: NDArray[np.bool_]
    fingerprints: tuple[str, ...]
    contains: Mapping[str, str]
    notes: tuple[str, ...]

    def details(self, store: PredictionStore, settings: BlendSettings) -> dict[str, Any]:
        """Return the provenance for blend.json."""
        return {
            "folds": store.folds.fingerprint,
            "fingerprints": dict(zip(self.names, self.fingerprints, strict=True)),
            "contains": dict(self.contains),
            "settings": dataclasses.asdict(settings),
            "left_out": list(self.notes),
        }


def gather_members(store: PredictionStore, blends: BlendStore, wanted: Sequence[str], own_name: str) -> Members:
    """Read the requested members, or all models.

    Training rows that an imported model lacks are filled in from the other members, and with each member's median where
    no member predicts the row; test rows are never missing (`PredictionStore.save_test` refuses that). A model that is
    not yet trained on all folds is left out with a note, unless it was requested by name.
    An earlier blend is used with its nested predictions, since its fitted predictions depend on the labels.
    """
    summaries = {summary.name: summary for summary in store.list()}
    if wanted:
        names, notes = list(dict.fromkeys(wanted)), list[str]()
        _check_wanted(names, summaries, blends, own_name)
    else:
        names, notes = _complete_models(summaries.values())
    if wanted:
        found = [read_member(store, blends, name) for name in names]
    else:
        read = store.each(lambda name: (name, read_member(store, blends, name)), names)
        names, found = [name for name, _ in read], [predictions for _, predictions in read]
        if not found:
            _complete_models(())
    notes += _caveats(store, {name: summaries[name] for name in names if name in summaries})
    names, found, more = _with_test(names, found, summaries, must=bool(wanted))
    notes += _missing_rows(store.folds.ids, names, np.stack([oof for oof, _ in found], axis=1))
    tests = [test for _, test in found if test is not None]
    parts = max((len(test) for test in tests), default=0)
    made_of = {name: blends.models_of(name) for name in names if name not in summaries}
    own = {name: store.fingerprint_of(oof, None) for name, (oof, _) in zip(names, found, strict=True)}
    _refuse_copies(own, made_of)
    return Members(
        tuple(names),
        np.stack([oof for oof, _ in found], axis=1),
        np.stack([spread_parts(test, parts) for test in tests], axis=2) if tests else None,
        np.array([len(test) < parts for test in tests], bool),
        tuple(store.fingerprint_of(*predictions) for predictions in found),
        own | {name: value for contained in made_of.values() for name, value in contained.items()},
        (*notes, *more),
    )


def _missing_rows(ids: Ids, names: Sequence[str], oof: NDArray[np.float32]) -> list[str]:
    """Return notes on training rows without the prediction of one member, or of all; oof is (n_rows, n_models)."""
    gaps = np.isnan(oof)
    nowhere = gaps.all(axis=1)
    notes = []
    for name, missing in zip(names, gaps.T, strict=True):
        if missing.any():
            filled = int((missing & ~nowhere).sum())
            rest = f"; {filled} are filled in from the other members" if filled else ""
            notes.append(f"{name} predicts {int((~missing).sum())} of {len(ids)} training rows{rest}.")
    if nowhere.any():
        notes.append(
            f"No member predicts {int(nowhere.sum())} of {len(ids)} training rows ({examples(list(ids[nowhere]))}): "
            f"each counts in the scores with the members' median predictions, which lowers them. Test rows are not "
            f"affected."
        )
    return notes


def _complete_models(summaries: Iterable[ModelSummary]) -> tuple[list[str], list[str]]:
    """Return the names of complete models and of partial imports, and notes on the models left out.

    Raises:
        BlendError: if there are none.
    """
    names, notes = list[str](), list[str]()
    for summary in summaries:
        missing = _missing(summary)
        if missing and (not summary.imported or not summary.oof_rows):
            notes.append(f"Left out: {summary.name} ({missing}).")
        else:
            names.append(summary.name)
    if not names:
        raise BlendError(
            " ".join(["No model is complete yet.", *notes])
            + " Run dfens train --fold all, or dfens oof import NAME --oof FILE, then dfens status."
        )
    return names, notes


def _caveats(store: PredictionStore, models: Mapping[str, ModelSummary]) -> list[str]:
    """Return notes on members with a refit, and on those whose OOF scores are optimistic."""
    notes = []
    refits = [name for name, summary in models.items() if summary.refit_weight]
    if refits:
        notes.append(
            f"Test predictions of {examples(refits)} are in part those of a refit on all rows; all scores are those of "
            f"the fold models."
        )
    optimistic = [model.name for model in store.each(store.load, models) if model.is_optimistic]
    if optimistic:
        notes.append(
            f"OOF scores are a little optimistic, and so may be their weights, since the best epoch was chosen on the "
            f'same rows (checkpoint = "best"): {", ".join(optimistic)}.'
        )
    return notes


def _with_test(
    names: list[str], found: list[_Predictions], summaries: Mapping[str, ModelSummary], *, must: bool
) -> tuple[list[str], list[_Predictions], list[str]]:
    """Return the members that have test predictions, if some have, and notes on the others."""
    without = [name for name, (_, test) in zip(names, found, strict=True) if test is None]
    if not without or len(without) == len(names):
        return names, found, []
    commands = [_test_command(name, summaries.get(name)) for name in without]
    if must:
        raise BlendError(
            f"These members have no test predictions, but the others do: {examples(without)}. "
            f"Run {examples(commands)}, or leave them out of --members."
        )
    notes = [
        f"Left out: {name} (no test predictions, but other models have them; {command})."
        for name, command in zip(without, commands, strict=True)
    ]
    kept = [(name, item) for name, item in zip(names, found, strict=True) if name not in without]
    return [name for name, _ in kept], [item for _, item in kept], notes


def _test_command(name: str, summary: ModelSummary | None) -> str:
    """Return the command that adds test predictions to a member: a model, or an earlier blend (no summary)."""
    if summary is None:
        return f"dfens blend --name {name}"
    if summary.imported:
        return f"dfens oof import {name} --oof FILE --test FILE"
    return train_command(name, summary.details)


def spread_parts(test: NDArray[np.float32], parts: int) -> NDArray[np.float32]:
    """Return test predictions with one part per fold model; if the number of parts differs, their mean in each part."""
    if len(test) == parts:
        return test
    return np.broadcast_to(test.mean(axis=0, keepdims=True), (parts, test.shape[1]))


def _missing(summary: ModelSummary) -> str:
    """Return what a model lacks, with the command that adds it, or an empty string."""
    if summary.oof_rows < summary.rows:
        missing = [fold for fold in range(summary.k) if fold not in summary.oof_folds]
        rows = f"{summary.oof_rows} of {summary.rows} training rows predicted"
        command = train_command(summary.name, summary.details, f"--fold {fold_text(missing)}")
        return rows if summary.imported else f"{rows}; {command}"
    if summary.has_test and not summary.complete:
        missing = [fold for fold in range(summary.k) if fold not in summary.test_folds]
        lacking = f"no test predictions of fold {fold_text(missing)}" if missing else "no refit on all rows yet"
        return f"{lacking}; {train_command(summary.name, summary.details)}"
    return ""


def _check_wanted(
    names: Sequence[str], summaries: Mapping[str, ModelSummary], blends: BlendStore, own_name: str
) -> None:
    """Refuse members that are unknown, empty, or contained in each other."""
    made_of: dict[str, Mapping[str, str]] = {}
    for name in names:
        if name in summaries:
            if not summaries[name].oof_rows:
                raise BlendError(f"Member '{name}' has no OOF predictions: {_missing(summaries[name])}.")
        elif name not in blends:
            known = [*summaries, *blends.list()]
            raise BlendError(
                f"There is no model or blend '{name}'; existing ones: {examples(known, 10) or 'none'}. "
                f"Correct --members, or run dfens oof list."
            )
        elif name == own_name:
            raise BlendError(f"The blend '{own_name}' cannot be a member of itself. Choose another --name.")
        else:
            made_of[name] = blends.models_of(name)
    for name, models in made_of.items():
        others = set(names).union(*(made_of[other] for other in made_of if other != name)) - {name}
        shared = sorted(models.keys() & others)
        if shared:
            raise BlendError(
                f"The blend '{name}' contains {examples(shared)}, which are also in this blend, by name or in "
                f"another blend. {_REVEALS}"
            )


def _refuse_copies(own: Mapping[str, str], made_of: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse members whose predictions are those of a model in a blend among them, under another name.

    Args:
        own: fingerprint of each member. made_of: for each blend among them, the fingerprints of what it contains.
    """
    for blend_name, contained in made_of.items():
        others = dict(own) | {
            name: value for other, found in made_of.items() if other != blend_name for name, value in found.items()
        }
        name_of = {value: name for name, value in contained.items() if value}
        copies = [
            f"{name} = {name_of[value]}" for name, value in others.items() if name != blend_name and value in name_of
        ]
        if copies:
            raise BlendError(
                f"The blend '{blend_name}' contains predictions that are also in this blend under another name: "
                f"{examples(copies)}. {_REVEALS}"
            )


def blend_members(
    store: PredictionStore,
    members: Members,
    settings: BlendSettings,
    features: RowFeatures | None = None,
    progress: Progress = SILENT,
) -> tuple[BlendResult, NDArray[np.float64] | None]:
    """Fit the blend, and blend the test predictions if there are any."""
    if settings.importance_weighting and members.test is None:
        raise BlendError(
            "--importance-weighting needs test predictions, but the members have none. Leave it out, or set "
            "--no-importance-weighting if dfens.toml switches it on."
        )
    folds = store.folds
    result = fit_blend(
        members.oof,
        folds.target,
        folds=folds.fold,
        groups=folds.groups,
        optimize=settings.optimize,
        transform=settings.transform,
        seed=settings.seed,
        names=members.names,
        max_members=settings.max_members,
        prune=settings.prune,
        calibrate=settings.calibrate,
        methods=settings.methods,
        features=None if features is None else features.oof,
        test=members.test,
        importance_weighting=settings.importance_weighting,
        progress=progress,
    )
    if members.test is None:
        return result, None
    of_test = None if features is None else features.test
    return result, result.predict(members.test, averaged=members.averaged, features=of_test)
