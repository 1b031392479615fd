"""Run the whole pipeline on a generated competition, and compare the scores with the true ones."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dfens.demo import COMPETITIONS, TRUTH
from dfens.workspace.paths import Workspace
from oof.errors import ConfigError, PredictionError
from oof.metrics import roc_auc
from oof.progress import SILENT, Progress


@dataclass(frozen=True)
class TrueScore:
    """Scores of a model or blend, and its AUC on the test rows, whose labels only the demo knows."""

    model: str
    oof_auc: float
    nested_auc: float | None
    true_test_auc: float


@dataclass(frozen=True)
class ForgeryScore:
    """Test AUC of a model or blend between all real rows and the fakes of each kind."""

    model: str
    auc_by_forgery: Mapping[str, float]


@dataclass(frozen=True)
class DemoResult:
    """The outcome of the demo; `failed` is the exit code of the step that failed, otherwise 0.

    by_forgery: empty if the competition has only one kind of fake.
    """

    folder: Path
    scores: tuple[TrueScore, ...]
    submission: Path | None
    seconds: float
    failed: int = 0
    by_forgery: tuple[ForgeryScore, ...] = ()


def run_demo(
    folder: Path,
    run_command: Callable[[Sequence[str]], int],
    *,
    recipe: str = "demo",
    images: int | None = None,
    progress: Progress = SILENT,
) -> DemoResult:
    """Generate a competition, run the commands of the pipeline on it, and score the results with the true labels.

    Args:
        folder: folder of the competition, empty or of an earlier run, which is resumed.
        run_command: runs dfens with the given arguments and returns its exit code.
        recipe: a key of `dfens.demo.COMPETITIONS`.
        images: number of training rows, with half as many test rows; None for the competition's default.
        progress: receives the progress of the generation, and each command before it runs.

    Raises:
        ConfigError: if the folder has other files, which the demo could overwrite.
    """
    started = time.monotonic()
    competition = import_module(COMPETITIONS[recipe])
    rows = images or competition.ROWS
    unfinished = _begin(folder)
    if not (folder / TRUTH).exists():
        progress.note(f"Generating a competition of {rows} training and {rows // 2} test rows in {folder}")
    competition.make_competition(folder, train_rows=rows, test_rows=rows // 2, progress=progress)
    unfinished.unlink(missing_ok=True)
    for step in competition.STEPS:
        progress.note(f"\n$ dfens -C {shlex.quote(str(folder))} {step}")
        code = run_command(["-C", str(folder), *step.split()])
        if code:
            return DemoResult(folder, (), None, time.monotonic() - started, failed=code)
    workspace = Workspace(folder)
    newest = max(workspace.submissions_dir.glob("*.csv"), key=lambda path: path.stat().st_mtime)
    truth = pd.read_csv(folder / TRUTH, dtype={0: str}, keep_default_na=False)
    truth = truth.set_index(truth.columns[0]).loc[list(workspace.predictions.test_ids)]
    scores, by_forgery = true_scores(workspace, truth), scores_by_forgery(workspace, truth)
    return DemoResult(folder, scores, newest, time.monotonic() - started, by_forgery=by_forgery)


def _begin(folder: Path) -> Path:
    """Check that a folder belongs to the demo, and return the file that marks it until its competition is complete."""
    unfinished = folder / ".demo-unfinished"
    if (folder / TRUTH).exists() or unfinished.exists():
        return unfinished
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} is not empty, and not the folder of a demo. Name a new folder: dfens demo DIR; existing files "
            f"such as data/train.csv would be overwritten."
        )
    folder.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    return unfinished


def true_scores(workspace: Workspace, truth: pd.DataFrame) -> tuple[TrueScore, ...]:
    """Score each model in dfens.toml and the newest blend on the test rows; truth: their labels, in order."""
    store, blends = workspace.predictions, workspace.blends
    y_test = truth["target"].to_numpy()
    scores = []
    for name in workspace.config.models:
        model = store.load(name)
        if model.test is None:
            raise PredictionError(f"Model '{name}' has no test predictions. Run dfens train --model {name}.")
        scores.append(TrueScore(name, roc_auc(store.folds.target, model.oof), None, roc_auc(y_test, model.test)))
    blend = blends.load(blends.newest())
    if blend.test is None:
        raise PredictionError(f"The blend '{blend.name}' has no test predictions. Run dfens blend.")
    scores.append(TrueScore(f"blend '{blend.name}'", blend.score, blend.nested_score, roc_auc(y_test, blend.test)))
    return tuple(scores)


def scores_by_forgery(workspace: Workspace, truth: pd.DataFrame) -> tuple[ForgeryScore, ...]:
    """Score each model and the newest blend on the test rows for each kind of forgery, if truth has the kinds."""
    if "forgery" not in truth:
        return ()
    store, blends = workspace.predictions, workspace.blends
    forgery = truth["forgery"].to_numpy(object)
    predictions: dict[str, NDArray[np.floating[Any]] | None] = {
        name: store.load(name).test for name in workspace.config.models
    }
    predictions |= {f"blend '{blends.newest()}'": blends.load(blends.newest()).test}
    found = []
    for name, test in predictions.items():
        if test is None:
            continue
        by_forgery = {}
        for kind in sorted(set(forgery) - {""}):
            rows = (forgery == kind) | (forgery == "")
            by_forgery[kind] = roc_auc(forgery[rows] == kind, test[rows])
        found.append(ForgeryScore(name, by_forgery))
    return tuple(found)
