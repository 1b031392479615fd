"""Write the report: read the stores, compute the panels, write the page and the JSON next to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dfens.report.clips import ClipsPanel, leak_rows
from dfens.report.inputs import BlendInput, ModelInput, ReportInputs
from dfens.report.page import render_page
from dfens.report.report import Report, build_report
from dfens.values import json_value
from dfens.workflows.finals import current_finals
from dfens.workflows.ledger import read_entries
from dfens.workflows.report_media import find_views
from dfens.workflows.status import next_command
from dfens.workflows.stored_results import read_duplicates, read_fold_gap, read_modalities
from dfens.workspace.config import no_config
from dfens.workspace.members import again_command, changed_inputs
from dfens.workspace.paths import Workspace
from dfens.workspace.trainings import fold_histories, repeat_histories
from ensemble.settings import BlendSettings
from oof.errors import DfensError
from oof.files import write_json, write_text
from oof.folds import Folds
from oof.ids import join_positions, labels_fingerprint
from oof.metrics import Metric, metric_by_name
from oof.progress import SILENT, Progress
from oof.sealed import count_looks
from submissions.entry import Entry
from submissions.leaderboard import medal_lines, read_leaderboard
from trainers.data.leaks import read_leak_audit


@dataclass(frozen=True)
class WrittenReport:
    """A report and its files."""

    report: Report
    page: Path
    json: Path
    page_bytes: int


def write_report(
    workspace: Workspace, out: Path | None = None, *, force: bool = False, progress: Progress = SILENT
) -> WrittenReport:
    """Write the report of a workspace as a page and as JSON.

    Args:
        workspace: the workspace, in which only the report is written.
        out: path of the page; None for work/reports/report.html. The JSON file is next to it.
        force: whether to replace the files of `out` if they exist.
        progress: reported one panel at a time.

    Raises:
        ConfigError: if there is neither a dfens.toml nor a store of predictions, or a file of `out` exists.
    """
    page = workspace.report_page() if out is None else workspace.resolve(out)
    facts = page.with_suffix(".json")
    if out is not None:
        for path in (page, facts):
            workspace.resolve_output(path, force=force)
    inputs = load_inputs(workspace)
    report = build_report(
        inputs,
        find_views=partial(find_views, workspace, inputs),
        clips=_files_panel(workspace, inputs),
        progress=progress,
    )
    text = render_page(report)
    write_text(page, text)
    write_json(facts, json_value(report.to_json()))
    return WrittenReport(report, page, facts, len(text.encode()))


def _files_panel(workspace: Workspace, inputs: ReportInputs) -> ClipsPanel | None:
    """Return the panel of leaks and scores by modality; None if neither is known.

    An audit of other rows or labels than those of the folds counts as none.
    """
    try:
        audit = read_leak_audit(workspace.check_dir())
    except DfensError:  # another version; dfens check writes it again
        audit = None
    if audit is not None and len(inputs.ids) and audit.labels != labels_fingerprint(inputs.ids, inputs.target):
        audit = None
    leaks = leak_rows(audit)
    modalities, changed = read_modalities(workspace)
    return ClipsPanel(modalities, leaks, changed) if leaks or modalities else None


def load_inputs(workspace: Workspace) -> ReportInputs:
    """Read everything that a report shows; what cannot be read is listed as a problem."""
    store, problems = workspace.predictions, list[str]()
    folds = store.folds if store.has_folds() else _no_folds(workspace)
    models = []
    for name in store.names():
        found = _or_problem(partial(_model, workspace, name), problems)
        models += [model for model in found or [] if np.isfinite(model.oof).any()]
    config = _or_problem(lambda: workspace.config, problems)
    current = config.blend if config else None
    found_blends = [
        _or_problem(partial(_blend, workspace, name, current), problems) for name in workspace.blends.list()
    ]
    blends = sorted(filter(None, found_blends), key=lambda blend: str(blend.facts["made_at"]))
    sealed = _or_problem(store.sealed_rows, problems) if store.has_folds() else None
    looks = _or_problem(store.looks.read, problems) or ()
    metric = metric_by_name(config.competition.metric if config else "auc")
    entries = _or_problem(lambda: _entries(workspace), problems) or []
    n_test = _or_problem(lambda: len(store.test_ids), problems) if store.test_ids_path.exists() else 0
    return ReportInputs(
        competition=(config.competition.slug if config else "") or workspace.root.name,
        metric=metric,
        made=datetime.now(UTC),
        ids=folds.ids,
        target=folds.target,
        fold=folds.fold,
        group=folds.groups,
        how=folds.how,
        n_test=n_test or 0,
        models=models,
        blends=blends,
        entries=entries,
        next_command=_or_problem(lambda: _next_command(workspace, len(models)), problems) or "dfens status",
        submissions_per_day=config.competition.submissions_per_day if config else None,
        medals=_or_problem(lambda: _medals(workspace, metric), problems) or (),
        fold_gap=read_fold_gap(workspace, folds),
        duplicates=read_duplicates(workspace, folds),
        finals=current_finals(workspace, entries),
        sealed=0 if sealed is None else len(sealed.ids),
        looks=looks,
        looked="" if sealed is None else count_looks(looks, sealed.fingerprint),
        problems=tuple(dict.fromkeys(problems)),
    )


def _next_command(workspace: Workspace, n_models: int) -> str:
    """Return the command to run after the report."""
    found = next_command(workspace)
    if found != "dfens report":
        return found
    return "dfens oof diversity --leave-one-out" if n_models > 1 else "dfens oof import FILES"


def _no_folds(workspace: Workspace) -> Folds:
    """Return folds without rows, for the page of a new project.

    Raises:
        ConfigError: if this is not a project.
    """
    if not workspace.config_path.exists():
        raise no_config(workspace.config_path)
    return Folds(np.empty(0, object), np.empty(0, np.int8), np.empty(0, np.int16))


def _or_problem(read: Callable[[], Any], problems: list[str]) -> Any:
    try:
        return read()
    except DfensError as err:
        problems.append(str(err))
        return None


def _model(workspace: Workspace, name: str) -> list[ModelInput]:
    """Return the model; none if it was archived in the meantime."""
    return [
        ModelInput(
            name,
            model.kind,
            model.oof,
            model.test_by_fold,
            fold_histories(workspace, name, model.oof_folds),
            tuple(repeat_histories(workspace, name, model.oof_folds)),
            model.refit_weight,
        )
        for model in workspace.predictions.each(workspace.predictions.load, [name])
    ]


def _blend(workspace: Workspace, name: str, current: BlendSettings | None) -> BlendInput:
    stored, ids = workspace.blends.load(name), workspace.predictions.folds.ids
    rows = join_positions(ids, stored.ids, f"blend '{name}'")
    changed, again = changed_inputs(workspace, name), again_command(workspace, name, current)
    return BlendInput(name, stored.facts, stored.oof[rows], stored.nested_oof[rows], tuple(changed), again)


def _entries(workspace: Workspace) -> Sequence[Entry]:
    """Return the entries of the ledger, without creating one if there is none."""
    if not workspace.config.submissions.ledger and not workspace.ledger_path().exists():
        return []
    return read_entries(workspace)


def _medals(workspace: Workspace, metric: Metric) -> Sequence[tuple[str, float]]:
    """Return the score of the last rank with each medal, if the leaderboard was downloaded."""
    path = workspace.leaderboard_path()
    if not path.exists():
        return ()
    return medal_lines(read_leaderboard(path), higher_is_better=metric.higher_is_better)
