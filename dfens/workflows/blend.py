"""Gather members from the store, fit a blend, and store it."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfens.workspace.members import read_member
from dfens.workspace.paths import Workspace
from ensemble.blend_store import BlendStore
from ensemble.diversity import prune_members
from ensemble.fit import fit_blend
from ensemble.result import BlendResult
from ensemble.settings import BlendSettings
from oof.errors import BlendError, examples
from oof.progress import SILENT, Progress
from oof.store import ModelSummary, PredictionStore


@dataclass(frozen=True, eq=False)
class NewBlend:
    """A blend as it was fitted and stored.

    notes: what was left out or dropped, and why. archived: where an earlier blend of that name was moved.
    has_test: whether its members, and so the blend, have test predictions.
    """

    name: str
    path: Path
    result: BlendResult
    notes: tuple[str, ...]
    archived: Path | None
    has_test: bool

    def as_json(self) -> dict[str, Any]:
        """The blend's facts, without predictions and distribution functions."""
        return {
            "name": self.name,
            "path": self.path,
            "has_test": self.has_test,
            "left_out": self.notes,
            "archived": self.archived,
        } | self.result.facts()


def blend(workspace: Workspace, name: str, changes: Mapping[str, Any], progress: Progress = SILENT) -> NewBlend:
    """Blend stored models by the settings of [blend], with `changes` to them, and store the blend under a name."""
    settings = dataclasses.replace(workspace.config.blend, **changes)
    store, blends = workspace.predictions, workspace.blends
    members = gather_members(store, blends, settings.members, name)
    if settings.prune:
        members = drop_redundant(store, members, settings, progress)
    result, test = blend_members(store, members, settings, progress)
    archived = blends.save(
        name,
        result,
        store.folds.ids,
        test_ids=None if test is None else store.test_ids,
        test=test,
        details=members.details(store, settings),
    )
    return NewBlend(name, blends.path(name), result, members.notes, archived, test is not None)


@dataclass(frozen=True, eq=False)
class Members:
    """What goes into a blend, in the row order of the store.

    oof: (n_rows, n_models). test: (n_parts, n_test, n_models), one part for each fold model, or None.
    fingerprints: of each member's predictions. notes: what was left out, and why.
    """

    names: tuple[str, ...]
    oof: NDArray[np.float32]
    test: NDArray[np.float32] | None
    fingerprints: tuple[str, ...]
    notes: tuple[str, ...]

    def only(self, columns: Sequence[int]) -> "Members":
        """Some of the members."""
        chosen = list(columns)
        return Members(
            tuple(self.names[column] for column in chosen),
            self.oof[:, chosen],
            None if self.test is None else self.test[:, :, chosen],
            tuple(self.fingerprints[column] for column in chosen),
            self.notes,
        )

    def details(self, store: PredictionStore, settings: BlendSettings) -> dict[str, Any]:
        """Provenance for blend.json."""
        return {
            "folds": store.folds.fingerprint,
            "fingerprints": dict(zip(self.names, self.fingerprints, strict=True)),
            "settings": dataclasses.asdict(settings),
            "left_out": list(self.notes),
        }


def gather_members(store: PredictionStore, blends: BlendStore, wanted: Sequence[str], own_name: str) -> Members:
    """Read the members asked for, or all complete models.

    A model that lacks training rows is left out with a note, and an error where it was asked for by name.
    An earlier blend serves as a member with its nested predictions, since the others were fitted on the labels.
    """
    summaries = {summary.name: summary for summary in store.list()}
    notes: list[str] = []
    if wanted:
        if own_name in wanted and own_name not in summaries:
            raise BlendError(f"The blend '{own_name}' cannot be a member of itself. Choose another --name.")
        names = list(dict.fromkeys(wanted))
        for name in names:
            _must_serve(name, summaries, blends)
    else:
        names = []
        for summary in summaries.values():
            lack = _lack(summary)
            if lack:
                notes.append(f"Left out: {summary.name} ({lack}).")
            else:
                names.append(summary.name)
        if not names:
            raise BlendError(
                "No model is complete yet"
                + (f": {'; '.join(notes)}" if notes else "")
                + " Run dfens train --fold all, or dfens oof import NAME --oof FILE, then dfens status."
            )
    found = [read_member(store, blends, name) for name in names]
    with_test = [name for name, (_, test) in zip(names, found, strict=True) if test is not None]
    if with_test and len(with_test) < len(names):
        without = [name for name in names if name not in with_test]
        if wanted:
            raise BlendError(
                f"These members have no test predictions, and the others have: {examples(without)}. "
                f"Run dfens train for them, or leave them out of --members."
            )
        notes += [f"Left out: {name} (no test predictions, and other models have them)." for name in without]
        found = [item for name, item in zip(names, found, strict=True) if name in with_test]
        names = with_test
    tests = [test for _, test in found if test is not None]
    parts = max((len(test) for test in tests), default=0)
    return Members(
        tuple(names),
        np.stack([oof for oof, _ in found], axis=1),
        np.stack([_spread(test, parts) for test in tests], axis=2) if tests else None,
        tuple(store.fingerprint_of(*predictions) for predictions in found),
        tuple(notes),
    )


def _spread(test: NDArray[np.float32], parts: int) -> NDArray[np.float32]:
    """Test predictions of as many fold models as the others have; where the number differs, their mean for each."""
    if len(test) == parts:
        return test
    return np.broadcast_to(test.mean(axis=0, keepdims=True), (parts, test.shape[1]))


def _lack(summary: ModelSummary) -> str:
    """What a model lacks to be blended by default, or nothing."""
    if summary.oof_rows < summary.rows:
        missing = [fold for fold in range(summary.k) if fold not in summary.oof_folds]
        rows = f"{summary.oof_rows} of {summary.rows} training rows predicted"
        return rows if summary.imported else f"{rows}; dfens train --model {summary.name} --fold {_join(missing)}"
    if summary.has_test and not summary.complete:
        missing = [fold for fold in range(summary.k) if fold not in summary.test_folds]
        return f"no test predictions of fold {_join(missing)}; dfens train --model {summary.name}"
    return ""


def _join(folds: Sequence[int]) -> str:
    return ",".join(str(fold) for fold in folds)


def _must_serve(name: str, summaries: dict[str, ModelSummary], blends: BlendStore) -> None:
    if name in summaries:
        lack = _lack(summaries[name])
        if lack:
            raise BlendError(f"Member '{name}' is not complete: {lack}. Finish it, or leave it out of --members.")
    elif name not in blends:
        known = [*summaries, *blends.list()]
        raise BlendError(
            f"There is no model or blend '{name}'; there are {examples(known, 10) or 'none'}. "
            f"Correct --members, or run dfens oof list."
        )


def blend_members(
    store: PredictionStore, members: Members, settings: BlendSettings, progress: Progress = SILENT
) -> tuple[BlendResult, NDArray[np.float64] | None]:
    """Fit the blend, and blend the test predictions where there are any."""
    if settings.importance_weighting and members.test is None:
        raise BlendError("--importance-weighting needs test predictions, and the members have none. Leave it out.")
    result = _fit(
        store, members, settings, progress, test=members.test, importance_weighting=settings.importance_weighting
    )
    return result, None if members.test is None else result.predict(members.test)


def _fit(
    store: PredictionStore, members: Members, settings: BlendSettings, progress: Progress = SILENT, **more: Any
) -> BlendResult:
    folds = store.folds
    return fit_blend(
        members.oof,
        folds.target,
        folds=folds.fold,
        groups=folds.groups,
        optimize=settings.optimize,
        transform=settings.transform,
        seed=settings.seed,
        max_members=settings.max_members,
        names=members.names,
        progress=progress,
        **more,
    )


def drop_redundant(store: PredictionStore, members: Members, settings: BlendSettings, progress: Progress) -> Members:
    """The members without those that the blend loses nothing without, and a note that names them."""

    def blend(columns: Sequence[int]) -> NDArray[np.float64]:
        return _fit(store, members.only(columns), settings).nested_oof

    count = len(members.names)
    if count < 2:
        return members
    folds = store.folds
    metric = "auc" if settings.optimize == "none" else settings.optimize
    kept = prune_members(folds.target, blend, count, groups=folds.groups, metric=metric, progress=progress)
    dropped = [name for index, name in enumerate(members.names) if index not in kept]
    if not dropped:
        return members
    note = (
        f"Dropped, since the blend loses no more than one standard error without them: {', '.join(dropped)}. Nested "
        f"scores chose that, so the nested score below is a little flattered."
    )
    return dataclasses.replace(members.only(kept), notes=(*members.notes, note))
