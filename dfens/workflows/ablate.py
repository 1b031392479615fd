"""Train variants of a model on the same folds, and compare each with it."""

import dataclasses
import hashlib
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfens.workflows.jobs import make_job
from dfens.workflows.selection import FoldRanges, chosen_models, fold_indices
from dfens.workspace.changes import unchanged_competition
from dfens.workspace.config import build
from dfens.workspace.paths import Workspace
from oof.analysis.compare import Comparison
from oof.errors import ConfigError
from oof.progress import SILENT, Progress
from trainers.analysis.ablation import ablate
from trainers.analysis.plots import plot_gains
from trainers.presets import with_preset

_LONGEST_NAME = 80  # maximum length of a variant's name, which is used for a folder
_READABLE = re.compile(r"""([a-z0-9_.=\[\]"'-]|, ?)*[a-z0-9_\]"']""")  # changes told apart by their letters and digits


@dataclass(frozen=True)
class AblationResult:
    """Variants compared with the unchanged model, and the path of the plot."""

    comparison: Comparison
    picture: Path

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the comparison at the top level."""
        return self.comparison.as_json() | {"picture": self.picture}


def run_ablation(
    workspace: Workspace,
    name: str,
    changes: Sequence[str],
    *,
    folds: FoldRanges = (),
    threads: int,
    progress: Progress = SILENT,
) -> AblationResult:
    """Train a model in dfens.toml with changed settings; `changes` are written as for --set, one per variant."""
    config = workspace.config
    settings = chosen_models(config.models, [name])[name]
    variants = {}
    for change in changes:
        values = dataclasses.asdict(settings) | with_preset(parse_change(change))
        variant = variant_name(change)
        if variant in variants:
            raise ConfigError(f"--set {change!r} repeats the variant '{variant}'. Give each variant once.")
        variants[variant] = build(type(settings), values, f"--set {change} ({name} is a {settings.kind} model)")
    job = make_job(workspace, {name: settings}, threads=threads, competition=unchanged_competition(workspace))
    chosen = fold_indices(folds, workspace.predictions.folds.k)
    comparison = ablate(job, name, variants, chosen, metric=config.competition.metric, progress=progress)
    return AblationResult(comparison, plot_gains(workspace.ablation_plot(name), comparison))


def parse_change(change: str) -> dict[str, Any]:
    """Return settings written as KEY=VALUE[,KEY=VALUE]; a value that is not valid TOML is text.

    >>> parse_change('jpeg=0.5,tta=none,inputs=["rgb", "srm"]')
    {'jpeg': 0.5, 'tta': 'none', 'inputs': ['rgb', 'srm']}
    """
    found: dict[str, Any] = {}
    for part in _split_outside_brackets(change):
        key, equals, text = part.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {change!r} is not a change of a setting. Write KEY=VALUE, such as jpeg=0.5.")
        if key.strip() in found:
            raise ConfigError(f"--set {change!r} gives {key.strip()} twice. For two variants, repeat --set.")
        found[key.strip()] = _toml_value(text)
    return found


def _toml_value(text: str) -> Any:
    """Return a value written as in dfens.toml; what is not one TOML value is text."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # also an integer of thousands of digits
        return text.strip()
    return parsed["value"] if parsed.keys() == {"value"} else text.strip()


def variant_name(change: str) -> str:
    """Return a name for a change that is valid for a folder, and different for different changes.

    >>> variant_name('inputs=["rgb", "srm"]')
    'inputs-rgb-srm'
    >>> variant_name("weights=old/b4.pth")
    'weights-old-b4.pth-dfbb44d2'
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", change).strip("-.") or "variant"
    if len(name) <= _LONGEST_NAME and _READABLE.fullmatch(change):
        return name
    return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(change.encode()).hexdigest()[:8]}"


def _split_outside_brackets(text: str) -> list[str]:
    """Split at commas, but not inside [], {} or quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter in "[{") - (letter in "]}")
            if letter == "," and depth <= 0:
                parts.append("")
                continue
        parts[-1] += letter
    return parts
