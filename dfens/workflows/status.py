"""Where the work of one folder stands: models and folds done, blends, submissions, and the next command."""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dfens.app import App
from dfens.views.tables import make_table
from oof.errors import StoreError
from oof.metrics import metric_by_name
from oof.store import ModelSummary

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class ModelRow:
    """One model: its folds as a line of signs (✓ predicted, ½ OOF only, · not yet) and its OOF score."""

    model: str
    kind: str
    folds: str
    oof_score: float
    rows: str
    state: str


@dataclass
class Status:
    """What `dfens status` tells."""

    metric: str
    folder: str
    models: list[ModelRow] = field(default_factory=list)
    blends: list[dict[str, Any]] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    next: str = "dfens init"

    def as_json(self) -> dict[str, Any]:
        """The same as values."""
        return {**asdict(self)}

    def tables(self) -> "list[Table]":
        """Models and blends, for people."""
        found = []
        if self.models:
            frame = pd.DataFrame([asdict(row) for row in self.models]).rename(
                columns={"oof_score": f"OOF_{self.metric}"}
            )
            found.append(make_table(frame, title="Models"))
        if self.blends:
            found.append(make_table(pd.DataFrame(self.blends), title="Blends"))
        return found

    def lines(self) -> list[str]:
        """Facts and the next command, for people."""
        return [*self.facts, f"Next: {self.next}"]


def read_status(app: App) -> Status:
    """Look at the configuration and the workspace; nothing is changed."""
    if not app.config_path.exists() and not app.predictions.has_folds():
        return Status("auc", str(app.root), facts=[f"No dfens.toml in {app.root}."])
    config = app.config
    status = Status(config.competition.metric, str(app.root))
    if not config.data.root.exists() and not app.predictions.has_folds():
        status.facts.append(f"No data yet at {config.data.root}.")
        status.next = "dfens download"
        return status
    if not app.predictions.has_folds():
        status.facts.append("No folds yet.")
        status.next = "dfens check, then dfens folds"
        return status
    folds = app.predictions.folds
    status.facts.append(
        f"{len(folds.ids)} training rows in {folds.k} folds "
        f"({', '.join(f'{key} {value}' for key, value in folds.how.items())})."
    )
    stored: dict[str, ModelSummary | None] = {}  # None: begun, but a file of it cannot be read
    for name in app.predictions.names():
        try:
            app.predictions.load(name)
            stored[name] = app.predictions.summary(name)
        except StoreError as err:
            stored[name] = None
            status.facts.append(str(err))
    for name in [*config.models, *sorted(stored.keys() - config.models.keys())]:
        broken = name in stored and stored[name] is None
        status.models.append(_broken_row(app, name) if broken else _model_row(app, name, stored.get(name)))
    _add_blends(app, status)
    status.next = _next(app, status, stored)
    return status


def _broken_row(app: App, name: str) -> ModelRow:
    kind = app.config.models[name].kind if name in app.config.models else "unknown"
    return ModelRow(name, kind, "?", float("nan"), "?", "broken, see below")


def _model_row(app: App, name: str, summary: ModelSummary | None) -> ModelRow:
    k = app.predictions.folds.k
    if summary is None:
        return ModelRow(
            name,
            app.config.models[name].kind,
            "·" * k,
            float("nan"),
            f"0/{len(app.predictions.folds.ids)}",
            "not trained",
        )
    if summary.imported:
        signs = "imported"
    else:
        signs = "".join(
            "✓"
            if fold in summary.oof_folds and fold in summary.test_folds
            else "½"
            if fold in summary.oof_folds
            else "·"
            for fold in range(k)
        )
    oof = app.predictions.load(name).oof
    covered = ~np.isnan(oof)
    target = app.predictions.folds.target[covered]
    score = float("nan")
    if len(set(target.tolist())) == 2:
        score = metric_by_name(app.config.competition.metric)(target, oof[covered])
    return ModelRow(
        name,
        summary.kind,
        signs,
        score,
        f"{summary.oof_rows}/{summary.rows}",
        "complete" if summary.complete else "OOF only" if summary.oof_rows == summary.rows else "partial",
    )


def _add_blends(app: App, status: Status) -> None:
    from dfens.workspace.members import changed_members
    from ensemble.blend_store import BlendStore

    blends = BlendStore(app.work / "ensemble")
    for item in blends.overview():
        changed = changed_members(app.predictions, blends, item["blend"])
        status.blends.append({**item, "state": f"stale: {', '.join(changed)} changed" if changed else "current"})


def _next(app: App, status: Status, stored: dict[str, ModelSummary | None]) -> str:
    k = app.predictions.folds.k
    if None in stored.values():
        return "move the broken file away, then dfens status"
    for name in app.config.models:
        summary = stored.get(name)
        if summary is None:
            return f"dfens train --fold 0-{k - 1}"
        if not summary.complete and not summary.imported:
            missing = sorted(set(range(k)) - (set(summary.oof_folds) & set(summary.test_folds)))
            return f"dfens train --model {name} --fold {','.join(map(str, missing))}"
    if not stored:
        return "add a [models.NAME] section to dfens.toml, or dfens oof import"
    if not status.blends:
        return f"dfens blend --optimize {app.config.competition.metric}"
    newest = status.blends[-1]
    if newest["state"] != "current":
        return f"dfens blend --name {newest['blend']}"
    return f"dfens submit {newest['blend']} --dry-run"
