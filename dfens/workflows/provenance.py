"""The provenance of submissions: from the name of a blend or model to its predictions and recipe, and back."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfens.workflows.blend import blend_members, gather_members
from dfens.workspace.blend_command import blend_command
from dfens.workspace.members import member_fingerprint
from dfens.workspace.paths import Workspace
from dfens.workspace.row_features import read_again
from ensemble.blend_store import BlendStore, StoredBlend, scores_by
from ensemble.settings import BlendSettings
from oof.errors import DfensError, SubmissionError, examples
from oof.ids import Ids, join_positions
from oof.metrics import Metric, metric_by_name
from oof.predictions import train_command
from submissions.rebuild import Source
from submissions.table import values_fingerprint

VERSION = 1


@dataclass(frozen=True, eq=False)
class Recipe:
    """A blend or model to be submitted.

    ids (n_test,), predictions (n_test,): test predictions. score: the competition's metric on OOF predictions, for a
    blend on the rows on which its weights were fitted; None if it cannot be computed. nested_score: None for a model.
    facts: provenance for the ledger (docs/formats.md, work/submissions).
    """

    name: str
    ids: Ids
    predictions: NDArray[Any]
    score: float | None
    nested_score: float | None
    facts: dict[str, Any]


def read_recipe(workspace: Workspace, name: str | None) -> Recipe:
    """Return the blend or model with a name (None: the newest blend), ready to submit.

    Raises:
        SubmissionError: if there is neither a blend nor a model, or it has no test predictions.
    """
    blends = workspace.blends
    if name is None:
        name = blends.newest()
    if name in blends and name in workspace.predictions:
        raise SubmissionError(
            f"'{name}' is the name of both a blend and a model. Blend again under another name (dfens blend --name) "
            f"and submit that one, or move work/ensemble/{name} away to submit the model."
        )
    if name in blends:
        return _blend_recipe(workspace, blends.load(name))
    if name in workspace.predictions:
        return _model_recipe(workspace, name)
    known = [*blends.list(), *(summary.name for summary in workspace.predictions.list())]
    raise SubmissionError(
        f"There is no blend or model '{name}'; existing ones: {examples(known, 10) or 'none'}. "
        f"Run dfens blend --name {name}, or use one of these."
    )


def _blend_recipe(workspace: Workspace, blend: StoredBlend) -> Recipe:
    if blend.test is None or blend.test_ids is None:
        raise SubmissionError(
            f"The blend '{blend.name}' has no test predictions, since its members have none. "
            f"Run dfens train (or dfens oof import NAME --oof FILE --test FILE), then "
            f"{blend_command(blend.facts, workspace.config.blend)}."
        )
    facts, prints = blend.facts, blend.facts.get("fingerprints", {})
    metric = metric_by_name(workspace.config.competition.metric)
    provenance = {
        "version": VERSION,
        "source": "blend",
        "name": blend.name,
        "members": {
            member["name"]: {"weight": member["weight"], "fingerprint": prints.get(member["name"])}
            for member in facts["members"]
        },
        "member_order": [member["name"] for member in facts["members"]],
        "metric": facts["metric"],
        "score_metric": metric.name,
        "transform": facts["transform"],
        "method": facts["method"],
        "settings": facts.get("settings", {}),
        **({"features": facts["features"]} if "features" in facts else {}),
        "folds": facts.get("folds"),
        "blend_fingerprint": values_fingerprint(blend.test_ids, blend.test),
    }
    score, nested_score = _scores(workspace, blend, metric)
    return Recipe(blend.name, blend.test_ids, blend.test, score, nested_score, provenance)


def _scores(workspace: Workspace, blend: StoredBlend, metric: Metric) -> tuple[float | None, float | None]:
    """Return a blend's score and nested score by a metric; None if they cannot be computed, such as after new folds."""
    if blend.facts["metric"] == metric.name:
        return blend.score, blend.nested_score
    folds = workspace.predictions.folds
    if blend.facts.get("folds") != folds.fingerprint:
        return None, None
    target = folds.target[join_positions(blend.ids, folds.ids, f"blend '{blend.name}'")]
    return scores_by(metric, blend.facts, target, blend.oof, blend.nested_oof) or (None, None)


def _model_recipe(workspace: Workspace, name: str) -> Recipe:
    store = workspace.predictions
    model = store.load(name)
    if model.test is None:
        raise SubmissionError(
            f"The model '{name}' has no test predictions. Run {train_command(name, model.details)}, "
            f"or dfens oof import {name} --oof FILE --test FILE."
        )
    covered = ~np.isnan(model.oof)
    metric = metric_by_name(workspace.config.competition.metric)
    provenance = {
        "version": VERSION,
        "source": "model",
        "name": name,
        "members": {name: {"weight": 1.0, "fingerprint": store.fingerprint(name)}},
        "member_order": [name],
        "metric": metric.name,
        "transform": "none",
        "folds": store.folds.fingerprint,
        "blend_fingerprint": values_fingerprint(store.test_ids, model.test),
    }
    score = metric(store.folds.target[covered], model.oof[covered])
    return Recipe(name, store.test_ids, model.test, score, None, provenance)


def stored_sources(workspace: Workspace, facts: Mapping[str, Any]) -> Iterator[Source]:
    """Yield test predictions from which a submission may have been made: stored, archived, then fitted again."""
    name = str(facts.get("name"))
    if facts.get("source") == "model":
        if name in workspace.predictions:
            model = workspace.predictions.load(name)
            if model.test is not None:
                yield Source(f"model '{name}'", workspace.predictions.test_ids, model.test)
        return
    for where, blend in _stored_blends(workspace, name):
        if blend.test is not None and blend.test_ids is not None:
            yield Source(where, blend.test_ids, blend.test)
    again = _fitted_again(workspace, facts)
    if again is not None:
        yield again


def _stored_blends(workspace: Workspace, name: str) -> Iterator[tuple[str, StoredBlend]]:
    """Yield the blend with a name, then earlier ones with that name, newest first."""
    blends = workspace.blends
    archive = BlendStore(blends.archive_dir)
    for store, names in ((blends, [name]), (archive, sorted(archive.list(), reverse=True))):
        for stored in names:
            if stored in store and store.facts(stored).get("name") == name:
                yield (f"blend '{name}'" if store is blends else f"archived blend {stored}"), store.load(stored)


def _fitted_again(workspace: Workspace, facts: Mapping[str, Any]) -> Source | None:
    """Fit the blend again with its recorded settings if members and features are unchanged; otherwise return None."""
    now, recorded = members_now(workspace, facts), facts.get("members") or {}
    order = [name for name in facts.get("member_order") or [] if name in recorded]
    if not order or any(now.get(name) != recorded[name].get("fingerprint") for name in order):
        return None
    known = {field.name for field in dataclasses.fields(BlendSettings)}
    settings = {key: value for key, value in dict(facts.get("settings") or {}).items() if key in known}
    settings["members"] = tuple(order)
    store = workspace.predictions
    try:
        members = gather_members(store, workspace.blends, order, str(facts.get("name")))
        _, test = blend_members(store, members, BlendSettings(**settings), read_again(workspace, facts))
    except DfensError:
        return None
    if test is None:
        return None
    return Source("the members, blended again with the recorded settings", store.test_ids, test)


def members_now(workspace: Workspace, facts: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the current fingerprint of each recorded member, None if it is missing."""
    blends = workspace.blends
    return {name: member_fingerprint(workspace.predictions, blends, name) for name in facts.get("members") or {}}


def submitted_oof(workspace: Workspace, facts: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """Return the OOF predictions of what was submitted, in the order of the folds; None if they are no longer stored.

    For a blend these are the nested predictions. NaN means no prediction.
    """
    name, wanted = str(facts.get("name")), facts.get("blend_fingerprint")
    folds = workspace.predictions.folds
    if facts.get("source") == "model":
        model = workspace.predictions.load(name) if name in workspace.predictions else None
        if model is None or model.test is None:
            return None
        same = values_fingerprint(workspace.predictions.test_ids, model.test) == wanted
        return np.asarray(model.oof, dtype=np.float64) if same else None
    if facts.get("source") != "blend":
        return None
    for _, blend in _stored_blends(workspace, name):
        if blend.test is None or blend.test_ids is None or blend.facts.get("folds") != folds.fingerprint:
            continue
        if values_fingerprint(blend.test_ids, blend.test) == wanted:
            return blend.nested_oof[join_positions(folds.ids, blend.ids, f"blend '{name}'")]
    return None
