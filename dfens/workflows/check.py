"""Check labels and media before training."""

from dataclasses import dataclass
from typing import Any

from dfens.workflows.status import next_command
from dfens.workspace.changes import changes_since_folds, files_changed_since_training
from dfens.workspace.paths import Workspace
from oof.errors import FoldError
from oof.progress import SILENT, Progress
from trainers.data.check import CheckOptions, CheckReport, check_data
from trainers.data.groups import hash_cache
from trainers.data.layouts import scan_competition
from trainers.rules import broken_rules


@dataclass(frozen=True)
class DataCheck:
    """The result of `dfens check`.

    changes: how labels, groups, test rows and files differ from those used for folds and models. rules: how models
    break `[competition] rules`. next: the command to run, or None if training would go wrong.
    """

    report: CheckReport
    changes: tuple[str, ...]
    rules: tuple[str, ...]
    next: str | None

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the report at the top level."""
        return self.report.as_json() | {"changes": self.changes, "rules": self.rules, "next": self.next}


def check(
    workspace: Workspace, *, decode: bool = False, leaks: bool = False, threads: int, progress: Progress = SILENT
) -> DataCheck:
    """Read labels and media; with `decode`, decode every file; with `leaks`, audit all training files for leaks."""
    config = workspace.config
    with workspace.reading_data():
        competition = scan_competition(config.data)
    report = check_data(
        competition,
        CheckOptions(decode=decode, leaks=leaks, threads=threads, k=config.folds.k, sealed=_sealed_ids(workspace)),
        report_dir=workspace.check_dir(),
        quarantine=workspace.quarantine_path(),
        hash_cache=hash_cache(workspace.trainers_dir),
        progress=progress,
    )
    following, changes = "dfens folds", list[str]()
    if workspace.predictions.has_folds():
        following = next_command(workspace)
        changes = changes_since_folds(workspace, competition)
        changes += files_changed_since_training(workspace, competition)
    rules = config.competition.rules
    broken = broken_rules(config.models, rules) if rules != "none" else []
    return DataCheck(report, tuple(changes), tuple(broken), following if report.ok else None)


def _sealed_ids(workspace: Workspace) -> frozenset[str] | None:
    """Return the ids of the sealed rows; None if there are no folds with the present [folds] sealed."""
    try:
        return frozenset(workspace.sealed_ids())
    except FoldError:
        return None
