"""The status of a project: running work, models and folds, blends, submissions, and the next command."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from dfens.demo import COMPETITIONS
from dfens.workflows.after_blend import after_blend
from dfens.workflows.ledger import label_of, read_entries
from dfens.workflows.progress import RunningWork, TimeLeft, running_work, time_left
from dfens.workflows.selection import fold_text
from dfens.workspace.members import again_command, changed_inputs
from dfens.workspace.paths import Workspace
from ensemble.blend_store import better_blend, scores_by
from oof.errors import DfensError, PredictionError, StoreError
from oof.ids import join_positions
from oof.metrics import Metric, metric_by_name, metric_label
from oof.part_files import PartKey
from oof.predictions import train_command
from oof.sealed import count_looks
from oof.store import ModelSummary
from submissions.states import COUNTED
from trainers.kinds.base import changed_settings
from trainers.kinds.records import read_record
from trainers.kinds.registry import kind_of
from trainers.kinds.repeats import repeats_of

_MOVE_BROKEN = "move the broken file away, then dfens status"


@dataclass(frozen=True)
class ModelStatus:
    """One model: its folds as a row of symbols (✓ predicted, ½ OOF only, · not yet) and its OOF score."""

    model: str
    kind: str
    folds: str
    oof_score: float
    rows: str
    state: str


@dataclass(frozen=True)
class BlendStatus:
    """One blend; its state is current, or stale with the members and features that changed.

    score_of, nested_score_of: the rows of these scores, and what was fitted on or without them.
    """

    blend: str
    members: int
    metric: str
    score: float
    nested_score: float
    state: str
    score_of: str
    nested_score_of: str


@dataclass(frozen=True)
class SubmissionStatus:
    """A summary of the ledger; `best` is the label of the submission with the best public score, or None.

    today: number made today (UTC) that Kaggle counts. per_day: the limit in dfens.toml, None for Kaggle's limit alone.
    """

    made: int
    today: int
    per_day: int | None
    pending: int
    best: str | None
    best_public: float | None


@dataclass(frozen=True, kw_only=True)
class Status:
    """The status of a project, and the command to run next.

    running: work in progress. left: estimate for the folds not trained yet, None if all are trained.
    """

    metric: str
    folder: str
    models: tuple[ModelStatus, ...] = ()
    blends: tuple[BlendStatus, ...] = ()
    running: tuple[RunningWork, ...] = ()
    left: TimeLeft | None = None
    submissions: SubmissionStatus | None = None
    facts: tuple[str, ...] = ()
    next: str


def read_status(workspace: Workspace) -> Status:
    """Read the status from the settings and the workspace, without changing anything."""
    folder, store = str(workspace.root), workspace.predictions
    if not workspace.config_path.exists() and not store.has_folds():
        return Status(metric="auc", folder=folder, facts=(f"No dfens.toml in {folder}.",), next="dfens init")
    config = workspace.config
    metric = config.competition.metric
    if not store.has_folds():
        if not config.data.root.exists():
            facts = (f"The data folder {config.data.root} ([data] root) is missing.",)
            slug = config.competition.slug
            source = "dfens download" if slug and slug not in COMPETITIONS else "put the data there"
            if slug in COMPETITIONS:
                source = f"dfens demo . --recipe {slug}"
            return Status(metric=metric, folder=folder, facts=facts, next=f"{source}, or correct [data] root")
        return Status(metric=metric, folder=folder, facts=("No folds yet.",), next="dfens check, then dfens folds")
    folds = store.folds
    how = ", ".join(f"{key} {value}" for key, value in folds.how.items())
    notes = [f"{len(folds.ids)} training rows in {folds.k} folds ({how}).", *_changed_folds(workspace)]
    notes += _sealed_note(workspace)
    stored: dict[str, ModelSummary | None] = {}  # None: a file of the model cannot be read
    predictions: dict[str, NDArray[np.float32]] = {}
    for name in store.names():
        try:
            for model in store.each(lambda name: (store.summary(name), store.load(name).oof), [name]):
                stored[name], predictions[name] = model
        except (StoreError, PredictionError) as err:
            stored[name] = None
            notes.append(str(err))
    models = []
    for name in [*config.models, *sorted(stored.keys() - config.models.keys())]:
        broken = name in stored and stored[name] is None
        models.append(
            _broken_model(workspace, name)
            if broken
            else _model(workspace, name, stored.get(name), predictions.get(name))
        )
    try:
        blends, is_readable = _blends(workspace), True
    except StoreError as err:
        blends, is_readable = (), False
        notes.append(str(err))
    running = running_work(workspace, folds.k)
    missing = {name: _missing_trainings(workspace, name, stored.get(name)) for name in config.models}
    return Status(
        metric=metric,
        folder=folder,
        models=tuple(models),
        blends=blends,
        running=running,
        left=time_left(workspace, missing, running, folds.k) if any(missing.values()) else None,
        submissions=_submissions(workspace),
        facts=(*notes, *_changed_settings(workspace, stored), *_better_note(workspace, blends)),
        next=_next(workspace, blends, stored) if is_readable else _MOVE_BROKEN,
    )


def _changed_folds(workspace: Workspace) -> list[str]:
    """Return a sentence if [folds] differs from the settings with which the folds were made; otherwise nothing."""
    how, now = workspace.predictions.folds.how, workspace.config.folds
    made = {**how, "sealed": how.get("sealed", 0.0)}
    if made.get("group") == "data":  # the groups of [data] group, with [folds] group = "none"
        made["group"] = "none"
    changed = [
        f"{key} = {value} instead of {made[key]}"
        for key, value in vars(now).items()
        if made.get(key) is not None and made[key] != value
    ]
    if not changed:
        return []
    return [
        f"[folds] in dfens.toml differs from the stored folds: {', '.join(changed)}. The folds stay as they are until "
        f"dfens folds --force, which moves trained models to the archive."
    ]


def _changed_settings(workspace: Workspace, stored: Mapping[str, ModelSummary | None]) -> list[str]:
    """Return a sentence for each model whose settings differ from those with which it was trained."""
    found = []
    for name, settings in workspace.config.models.items():
        summary, path = stored.get(name), workspace.settings_path(name)
        if summary is None or summary.imported:
            continue
        try:
            record = read_record(path)
            changed = {} if record is None else changed_settings(record.get("settings", {}), settings)
        except StoreError as err:
            found.append(str(err))
            continue
        if changed:
            values = ", ".join(f"{key} {then!r} to {now!r}" for key, (then, now) in changed.items())
            only_predicts = all(kind_of(settings).only_predicts(key, *pair) for key, pair in changed.items())
            command = train_command(name, {}, "" if only_predicts else "--force")
            found.append(
                f"The settings of '{name}' have changed since it was trained: {values}. Its predictions are those of "
                f"the earlier settings until {command}, which {'predicts' if only_predicts else 'trains it'} again."
            )
    return found


def _sealed_note(workspace: Workspace) -> list[str]:
    """Return a sentence on the sealed rows and how often they were looked at; none if no rows are sealed."""
    store = workspace.predictions
    try:
        sealed = store.sealed_rows()
        if sealed is None:
            return []
        looks = store.looks.read()
    except StoreError as err:
        return [str(err)]
    last = f", last as {looks[-1].metric} {looks[-1].score:.5f} of blend '{looks[-1].blend}'" if looks else ""
    return [f"{len(sealed.ids)} sealed rows, {count_looks(looks, sealed.fingerprint)}{last} (dfens unseal)."]


def next_command(workspace: Workspace) -> str:
    """Return the command to run next."""
    return read_status(workspace).next


def _missing_trainings(workspace: Workspace, name: str, summary: ModelSummary | None) -> int:
    """Return the number of trainings that dfens train would run: folds and refits of each seed."""
    store, repeats = workspace.predictions, repeats_of(workspace.config.models[name])
    labels = [f"fold{fold}" for fold in range(store.folds.k)] + ["refit"] * repeats.refit
    wanted = {PartKey(label, seed) for label in labels for seed in range(repeats.seeds)}
    if summary is None:
        return len(wanted)
    if summary.imported:
        return 0
    done = set(store.trainings(name))
    for seed in range(repeats.seeds):  # a refit whose test predictions were moved away predicts with its stored weights
        if workspace.refit_history_path(name, seed).exists():
            done.add(PartKey("refit", seed))
    return len(wanted - done)


def _is_finished(workspace: Workspace, name: str, summary: ModelSummary | None) -> bool:
    """Return whether dfens train has nothing to do for a model: all trainings and test predictions are there."""
    if summary is None or summary.imported:
        return summary is not None
    return summary.complete and not _missing_trainings(workspace, name, summary)


def _submissions(workspace: Workspace) -> SubmissionStatus | None:
    """Summarise the local ledger; None without one, or for a ledger on a server, which is not queried."""
    settings = workspace.config.competition
    if workspace.config.submissions.ledger or not workspace.ledger_path().exists():
        return None
    metric = metric_by_name(settings.metric)
    sent = [entry for entry in read_entries(workspace) if entry.on_server]
    scored = [entry for entry in sent if entry.public_score is not None]
    best = max(scored, key=lambda entry: metric.gain(entry.public_score or 0.0), default=None)
    today = datetime.now(UTC).date()
    return SubmissionStatus(
        made=len(sent),
        today=sum((entry.submitted or entry.created).date() == today for entry in sent if entry.status in COUNTED),
        per_day=settings.submissions_per_day,
        pending=sum(entry.status == "pending" for entry in sent),
        best=None if best is None else label_of(best),
        best_public=None if best is None else best.public_score,
    )


def _broken_model(workspace: Workspace, name: str) -> ModelStatus:
    models = workspace.config.models
    kind = models[name].kind if name in models else "unknown"
    return ModelStatus(name, kind, "?", float("nan"), "?", "broken, see below")


def _model(
    workspace: Workspace, name: str, summary: ModelSummary | None, oof: NDArray[np.float32] | None
) -> ModelStatus:
    folds = workspace.predictions.folds
    if summary is None or oof is None:
        kind = workspace.config.models[name].kind
        return ModelStatus(name, kind, "·" * folds.k, float("nan"), f"0/{len(folds.ids)}", "not trained")
    signs = "imported" if summary.imported else "".join(_sign(summary, fold) for fold in range(folds.k))
    covered = ~np.isnan(oof)
    target = folds.target[covered]
    score = float("nan")
    if len(set(target.tolist())) == 2:
        score = metric_by_name(workspace.config.competition.metric)(target, oof[covered])
    parts = [f"{summary.seeds} seeds"] * (summary.seeds > 1)
    parts += [f"refit {summary.refit_weight:.0%} of test"] * (summary.refit_weight > 0)
    state = summary.state + (f" ({', '.join(parts)})" if parts else "")
    return ModelStatus(name, summary.kind, signs, score, f"{summary.oof_rows}/{summary.rows}", state)


def _sign(summary: ModelSummary, fold: int) -> str:
    if fold not in summary.oof_folds:
        return "·"
    return "✓" if fold in summary.test_folds else "½"


def _blends(workspace: Workspace) -> tuple[BlendStatus, ...]:
    found = []
    for item in workspace.blends.overview():
        changed = changed_inputs(workspace, item["blend"])
        found.append(BlendStatus(**item, state=f"stale: {', '.join(changed)} changed" if changed else "current"))
    return tuple(found)


def _better_note(workspace: Workspace, blends: tuple[BlendStatus, ...]) -> list[str]:
    """Return a sentence if an earlier blend has a better nested score than the newest, which dfens submit sends."""
    if len(blends) < 2:
        return []
    metric, newest = metric_by_name(workspace.config.competition.metric), blends[-1]
    current = [blend for blend in blends if blend.state == "current" or blend is newest]
    nested = {blend.blend: _nested_score(workspace, blend, metric) for blend in current}
    better = better_blend(metric, nested, newest.blend)
    if better is None:
        return []
    what = "dfens submit sends the newest blend," if workspace.can_submit() else "The newest blend is"
    return [
        f"{what} '{newest.blend}', with a nested {metric_label(metric.name)} of "
        f"{nested[newest.blend]:.5f}; that of '{better}' is better: {nested[better]:.5f}."
    ]


def _nested_score(workspace: Workspace, blend: BlendStatus, metric: Metric) -> float:
    """Return the nested score of a blend by the competition's metric; NaN if its predictions do not have one."""
    if blend.metric == metric.name:
        return blend.nested_score
    try:
        stored, folds = workspace.blends.load(blend.blend), workspace.predictions.folds
        rows = join_positions(folds.ids, stored.ids, f"blend '{blend.blend}'")
    except DfensError:  # of other folds
        return float("nan")
    scores = scores_by(metric, stored.facts, folds.target, stored.oof[rows], stored.nested_oof[rows])
    return float("nan") if scores is None else scores[1]


def _next(workspace: Workspace, blends: tuple[BlendStatus, ...], stored: Mapping[str, ModelSummary | None]) -> str:
    store, k = workspace.predictions, workspace.predictions.folds.k
    if not store.test_ids_path.exists() and any("test" in store.stored_parts(name) for name in stored):
        return "dfens folds"
    if None in stored.values():
        return _MOVE_BROKEN
    models = workspace.config.models
    unfinished = [name for name in models if not _is_finished(workspace, name, stored.get(name))]
    summary = stored.get(unfinished[0]) if len(unfinished) == 1 else None
    if summary is not None:
        done = set(summary.oof_folds) & set(summary.test_folds)
        missing = fold_text(set(range(k)) - done)
        which = f" --fold {missing}" if missing else ""  # a refit needs all folds
        return f"dfens train --model {unfinished[0]}{which}"
    if unfinished:  # finished folds are skipped
        return f"dfens train --fold 0-{k - 1}"
    if not stored:
        return "add a [models.NAME] section to dfens.toml, or dfens oof import"
    if not blends:
        return f"dfens blend --optimize {workspace.config.competition.metric}"
    newest = blends[-1]
    if newest.state != "current":
        return again_command(workspace, newest.blend, workspace.config.blend)
    return after_blend(workspace, newest.blend)
