"""`dfens train --pseudo`: names, rounds, refusals; with random labels no score rises."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from dfens.cli import cli
from dfens.demo.competition import make_competition
from dfens.workspace.paths import Workspace
from oof.metrics.intervals import score_interval
from tests.support.training import train_models
from trainers.kinds.linear.settings import LinearSettings
from trainers.kinds.pseudo_labels import PseudoLabels
from trainers.kinds.repeats import PseudoSettings

pytestmark = pytest.mark.slow  # trains and blends several times

TOML = """
[data]
layout = "table"
id = "img_name"

[folds]
k = 3

[train]
kind = "linear"
image_size = 16
pseudo = { weight = 1.0, confidence = 0.5, rounds = 1 }

[models.lines]

[models.small]
image_size = 8
seeds = 2
refit = true
"""
ROWS = 120


def run(folder: Path, *arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(cli, ["-C", str(folder), *arguments])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces with random labels, repeated as test rows, so that a leak would have the largest effect."""
    folder = tmp_path_factory.mktemp("noise")
    make_competition(folder, train_rows=ROWS, test_rows=8, size=32)
    data = folder / "data"
    table = pd.read_csv(data / "train.csv")
    table["target"] = np.random.default_rng(1).permutation(np.arange(ROWS) % 2)
    table.to_csv(data / "train.csv", index=False)
    for name in table["img_name"]:
        shutil.copy(data / "train" / name, data / "test" / f"copy-{name}")
    copies = pd.DataFrame({"img_name": "copy-" + table["img_name"], "y_pred": 0.5})
    copies.to_csv(data / "sample_submission.csv", index=False)
    (folder / "dfens.toml").write_text(TOML)
    for command in (["folds"], ["train"], ["blend", "--name", "first"], ["train", "--pseudo", "first"]):
        run(folder, *command)
    return folder


def interval(workspace: Workspace, name: str) -> tuple[float, float, float]:
    """Return the OOF AUC of a model within its 95 % interval: low, AUC, high."""
    folds, model = workspace.predictions.folds, workspace.predictions.load(name)
    found = score_interval("auc", folds.target, model.oof)
    return found.low, found.score, found.high


@pytest.mark.parametrize("name", ["lines", "small", "lines-pseudo1", "small-pseudo1"])
def test_random_labels_keep_a_score_of_one_half(noise: Path, name: str) -> None:
    """With random labels, neither seeds nor a refit nor pseudo-labels raise the OOF score."""
    low, score, high = interval(Workspace(noise), name)
    assert low < 0.5 < high, (low, score, high)


def test_labels_by_all_fold_models_would_leak(noise: Path, tmp_path: Path) -> None:
    """Trees memorise training rows: on noise, labels by all fold models raise the score, labels by fold do not."""
    workspace, store = Workspace(noise), Workspace(noise).predictions
    settings = LinearSettings(classifier="extra_trees", image_size=8, pseudo=PseudoSettings(confidence=0.5))
    train_models(workspace.competition(), store, {"base": settings}, range(3), tmp_path)
    by_fold = store.load("base").unmixed_test_by_fold
    assert by_fold is not None
    mean = by_fold.mean(axis=0, keepdims=True)
    labels = {"leaky": np.broadcast_to(mean, (4, ROWS)), "nested": np.concatenate([by_fold, mean])}
    for name, values in labels.items():
        job = {name: settings}
        train_models(workspace.competition(), store, job, range(3), tmp_path, pseudo=PseudoLabels(values))
    scores = {name: interval(workspace, name) for name in ("leaky", "nested")}
    for name in ("base", "leaky", "nested"):
        store.archive(name)
    assert scores["leaky"][0] > 0.6, scores
    assert scores["nested"][0] < 0.5 < scores["nested"][2], scores


def test_models_with_pseudo_labels_have_separate_names(noise: Path) -> None:
    listed = json.loads(run(noise, "oof", "list", "--json").stdout)["models"]
    by_name: dict[str, dict[str, Any]] = {row["model"]: row for row in listed}
    assert set(by_name) == {"lines", "small", "lines-pseudo1", "small-pseudo1"}
    small = by_name["small-pseudo1"]
    assert (small["state"], small["seeds"], len(small["seed_scores"]), small["refit_weight"]) == ("complete", 2, 2, 0.5)
    assert by_name["lines"]["seed_scores"] == []
    again = run(noise, "train", "--pseudo", "first")
    assert "0 folds trained" in again.output


def test_lists_explain_refits_and_show_the_spread_of_seeds(noise: Path) -> None:
    shown = run(noise, "oof", "list").output
    words = " ".join(shown.split())
    assert "small: its test predictions contain a share of 50% of a refit on all rows; its scores are those of" in words
    assert "By seed: mean and spread of the seeds" in shown
    assert "refit" in run(noise, "status").output
    assert "all scores are those of the fold models" in " ".join(run(noise, "blend", "--name", "other").output.split())


@pytest.mark.parametrize(
    ("blend", "message"),
    [
        ("lines", "'lines' is a model, but pseudo-labels come from a blend"),
        ("labels.csv", "A file has the same label for a test row in every fold. Labels by models that have seen"),
        ("absent", "There is no blend 'absent'; existing ones: first"),
    ],
)
def test_anything_but_a_blend_is_refused(noise: Path, blend: str, message: str) -> None:
    assert message in " ".join(run(noise, "train", "--pseudo", blend, code=1).output.split())


def test_a_second_round_requires_the_setting_rounds(noise: Path) -> None:
    run(noise, "blend", "--name", "second")
    message = " ".join(run(noise, "train", "--pseudo", "second", code=1).output.split())
    assert "has members of round 1 of pseudo-labels, but rounds = 1" in message
    toml = noise / "dfens.toml"
    toml.write_text(TOML.replace("rounds = 1", "rounds = 2"))
    run(noise, "train", "--pseudo", "second", "--model", "lines")
    toml.write_text(TOML)
    workspace = Workspace(noise)
    assert workspace.predictions.load("lines-pseudo2").details["pseudo_labels"]["round"] == 2
    low, score, high = interval(workspace, "lines-pseudo2")
    workspace.predictions.archive("lines-pseudo2")
    assert low < 0.5 < high, (low, score, high)


def test_members_without_predictions_by_fold_are_refused(noise: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(noise, folder)
    workspace = Workspace(folder)
    store = workspace.predictions
    other = np.random.default_rng(0).random(len(store.folds.ids))
    store.save("imported", store.folds.ids, (store.load("lines").oof + other) / 2, np.full(len(store.test_ids), 0.5))
    run(folder, "blend", "--members", "lines,imported", "--name", "mixed")
    message = " ".join(run(folder, "train", "--pseudo", "mixed", code=1).output.split())
    assert "has test predictions of 0 of 3 fold models, or only their mean (imported models). Labels by" in message
    run(folder, "blend", "--members", "imported,first", "--name", "nested")
    message = " ".join(run(folder, "train", "--pseudo", "nested", code=1).output.split())
    assert "is a blend itself" in message or "or only their mean (imported models)" in message
    (folder / "dfens.toml").write_text(TOML.replace("pseudo =", "# pseudo ="))
    message = " ".join(run(folder, "train", "--pseudo", "first", code=1).output.split())
    assert "No model in dfens.toml uses pseudo-labels. Add a line such as pseudo = {" in message


def test_advice_on_models_of_pseudo_labels_names_commands_that_work(noise: Path, tmp_path: Path) -> None:
    """They have no section in dfens.toml, so `dfens train --model lines-pseudo1` would be an error."""
    folder = tmp_path / "copy"
    shutil.copytree(noise, folder)
    run(folder, "blend", "--name", "plain", "--optimize", "none", "--members", "lines,small")
    message = " ".join(run(folder, "train", "--pseudo", "plain", code=1).output.split())
    assert "changed: the pseudo-labels or their weight. Run dfens train --pseudo plain --model lines --force" in message
    run(folder, "train", "--pseudo", "plain", "--model", "lines", "--force", "--fold", "0")
    left_out = " ".join(run(folder, "blend", "--name", "other").output.split())
    assert "training rows predicted; dfens train --pseudo plain --model lines --fold 1-2)" in left_out
    run(folder, "train", "--pseudo", "plain", "--model", "lines", "--fold", "1-2")

    sample = folder / "data" / "sample_submission.csv"
    sample.write_text("".join(sample.read_text().splitlines(keepends=True)[:-1]))
    run(folder, "folds")  # moves all test predictions away, also of refits, whose trainings are kept
    assert json.loads(run(folder, "status", "--json").stdout)["left"] is None
    assert "0 folds trained" in run(folder, "train").output
    command = "dfens train --pseudo plain --model lines"
    assert f"Run {command}, or" in " ".join(run(folder, "submit", "lines-pseudo1", "--dry-run", code=1).output.split())
    run(folder, "blend", "--name", "plain", "--optimize", "none", "--members", "lines,small")
    left_out = " ".join(run(folder, "blend", "--name", "all").output.split())
    assert f"lines-pseudo1 (no test predictions, but other models have them; {command})" in left_out
    checks = json.loads(run(folder, "report", "--json").stdout)["checks"]
    said = next(check["sentence"] for check in checks if check["name"] == "Test predictions")
    assert f"Run {command}" in said
    assert f"Run {command} --force" in " ".join(run(folder, *command.split()[1:], code=1).output.split())
    run(folder, *command.split()[1:], "--force")
    run(folder, "submit", "lines-pseudo1", "--dry-run")


def test_a_misspelt_key_of_pseudo_is_named(noise: Path, tmp_path: Path) -> None:
    (tmp_path / "dfens.toml").write_text(TOML.replace("confidence", "confidance"))
    message = " ".join(run(tmp_path, "status", code=1).output.split())
    assert "[models.lines] pseudo: unknown key 'confidance'; did you mean 'confidence'?" in message
