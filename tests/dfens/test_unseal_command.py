"""`[folds] sealed` and `dfens unseal`: sealed rows are not used, scored once, and looks are counted."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dfens.workflows.unseal import sealed_predictions
from dfens.workspace.members import changed_inputs
from dfens.workspace.paths import Workspace
from dfens.workspace.row_features import read_again
from ensemble.blend_store import BlendStore
from oof.metrics import roc_auc
from oof.sealed import SealedRows
from oof.store import PredictionStore
from tests.support.commands import run
from tests.support.competitions import write_image, write_labels

TOML = """
[data]
layout = "table"
id = "img_name"

[folds]
k = 2
sealed = {sealed}

[models.pixels]
kind = "linear"
image_size = 8

[models.forest]
kind = "linear"
classifier = "extra_trees"
image_size = 8
"""


def new_project(folder: Path, *, rows: int = 96, sealed: float = 0.25) -> Path:
    """Write a competition of noise images that are slightly brighter in fakes."""
    rng = np.random.default_rng(0)
    labels = {f"a{row:03d}.png": row % 2 for row in range(rows)}
    for part, names in (("train", labels), ("test", {f"t{row}.png": row % 2 for row in range(8)})):
        for name, label in names.items():
            pixels = rng.normal(120 + 12 * label, 40, (32, 32, 3)) + rng.normal(0, 12)
            write_image(folder / "data" / part / name, np.clip(pixels, 0, 255).astype(np.uint8))
    write_labels(folder / "data" / "train.csv", labels)
    write_labels(folder / "data" / "sample_submission.csv", {f"t{row}.png": 0.5 for row in range(8)}, "img_name,y_pred")
    (folder / "dfens.toml").write_text(TOML.format(sealed=sealed))
    return folder


def store_of(folder: Path) -> PredictionStore:
    return PredictionStore(folder / "work" / "oof")


@pytest.fixture(scope="module")
def blended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with sealed rows, two models and a blend."""
    folder = new_project(tmp_path_factory.mktemp("sealed"))
    run(folder, "folds")
    run(folder, "train")
    run(folder, "blend")
    return folder


@pytest.fixture
def project(blended: Path, tmp_path: Path) -> Path:
    """A copy of the project."""
    return Path(shutil.copytree(blended, tmp_path / "project"))


def true_labels(folder: Path) -> pd.Series:
    table = pd.read_csv(folder / "data" / "train.csv")
    return table.set_index("img_name")["target"]


# ---- sealed rows are not used --------------------------------------------------


def flip_sealed_labels(folder: Path) -> None:
    """Invert the labels of the sealed rows, in the label file and in the store."""
    store = store_of(folder)
    sealed = store.sealed_rows()
    assert sealed is not None
    table = pd.read_csv(folder / "data" / "train.csv")
    inside = table["img_name"].isin(sealed.ids)
    table.loc[inside, "target"] = 1 - table.loc[inside, "target"]
    table.to_csv(folder / "data" / "train.csv", index=False)
    store.save_folds(store.folds, sealed=SealedRows(sealed.ids, 1 - sealed.target), force=True)


COMMANDS = (
    "check --leaks",
    "groups",
    "train",
    "oof list",
    "oof diversity",
    "oof shift",
    "blend",
    "compare pixels forest",
    "diagnose pixels",
    "ablate pixels --set image_size=16",
    "status",
    "report",
)


@pytest.mark.slow
def test_no_command_depends_on_the_labels_of_sealed_rows(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "a" / "project", rows=64)
    run(folder, "folds")
    flipped = Path(shutil.copytree(folder, tmp_path / "b" / "project"))
    flip_sealed_labels(flipped)
    for command in COMMANDS:
        found, other = (facts(place, run(place, *command.split(), "--json").stdout) for place in (folder, flipped))
        assert found == other, command
    run(folder, "oof", "export", "--out", "oof.csv")
    exported = pd.read_csv(folder / "oof.csv")
    assert not set(exported["id"]) & set(store_of(folder).sealed_ids)
    # the labels do change the unsealed score, otherwise the comparison would prove nothing
    scores = [json.loads(run(place, "unseal", "--json").stdout)["score"] for place in (folder, flipped)]
    assert scores[0] == pytest.approx(1 - scores[1])
    assert scores[0] != scores[1]


def facts(folder: Path, text: str) -> str:
    """Return a result without its folder and time."""
    text = text.replace(str(folder), "FOLDER")
    return re.sub(r'"(seconds|made|elapsed_s|images_per_s|page_bytes)": [^\n]*', "", text)


def test_models_are_not_trained_on_sealed_rows_and_predict_them(blended: Path) -> None:
    workspace = Workspace(blended)
    store, competition = workspace.predictions, workspace.competition()
    assert set(competition.train["id"]) == set(store.folds.ids)
    assert competition.sealed is not None
    assert list(competition.sealed.columns) == ["id", "path"]
    assert len(store.sealed_ids) == 24
    found = store.load_sealed("pixels")
    assert found is not None
    assert found.shape == (2, 24)
    assert np.isfinite(found).all()


def test_labels_are_not_used_before_the_sealed_rows_are_chosen(tmp_path: Path) -> None:
    folder = new_project(tmp_path, rows=40)
    checked = json.loads(run(folder, "check", "--leaks", "--json").stdout)
    assert checked["leaks"] is None
    assert any("no folds with the present [folds] sealed" in note for note in checked["notes"])
    assert "Run dfens folds first" in run(folder, "groups", code=1).stderr
    run(folder, "folds")
    assert json.loads(run(folder, "check", "--leaks", "--json").stdout)["leaks"] is not None


def test_a_share_that_changes_after_the_folds_is_refused(project: Path) -> None:
    for share in (0.0, 0.1):
        (project / "dfens.toml").write_text(TOML.format(sealed=share))
        assert "the folds were made with 0.25" in run(project, "train", code=1).stderr
        assert "2 models were made with other folds" in run(project, "folds", code=1).stderr
    run(project, "folds", "--force")
    assert len(store_of(project).sealed_ids) == round(0.1 * 96 / 2) * 2


# ---- the look -----------------------------------------------------------------


def test_the_score_is_that_of_the_blend_on_the_sealed_rows(project: Path) -> None:
    found = json.loads(run(project, "unseal", "--json").stdout)
    store = store_of(project)
    predictions = sealed_predictions(Workspace(project), "blend")
    y = true_labels(project)[list(store.sealed_ids)].to_numpy()
    assert found["score"] == pytest.approx(roc_auc(y, predictions))
    assert found["low"] < found["score"] < found["high"]
    assert found["rows"] == 24
    assert found["count"] == "looked at once"
    # an average needs no fitting, so its predictions are known independently of the blend's code
    run(project, "blend", "--optimize", "none", "--name", "plain")
    again = json.loads(run(project, "unseal", "plain", "--again", "--json").stdout)
    mean = np.mean([store.load_sealed(name).mean(axis=0) for name in ("pixels", "forest")], axis=0)  # type: ignore[union-attr]
    assert again["score"] == pytest.approx(roc_auc(y, mean))


def test_the_sealed_rows_are_scored_with_their_features(project: Path) -> None:
    """Trees read the brightness of the images, which almost gives the labels, from a table that covers all rows."""
    y = true_labels(project)
    bright = y + np.random.default_rng(0).normal(0, 0.3, len(y))
    store = store_of(project)
    test = pd.Series(np.random.default_rng(1).normal(0.5, 0.6, len(store.test_ids)), store.test_ids)
    table = pd.concat([bright, test]).rename_axis("id").rename("bright").reset_index()
    table.to_csv(project / "bright.csv", index=False)
    run(project, "blend", "--methods", "boosted", "--features", "size,bright.csv")
    found = sealed_predictions(Workspace(project), "blend")
    ids = list(store.sealed_ids)
    members = [store.load_sealed(name) for name in ("forest", "pixels")]
    by_fold = np.stack([member for member in members if member is not None], axis=2)
    bytes_of = [(project / "data" / "train" / name).stat().st_size for name in ids]
    features = np.column_stack([np.full((len(ids), 2), 32), bytes_of, bright[ids]]).astype(np.float32)
    predictor = BlendStore(project / "work" / "ensemble").load_predictor("blend")
    expected = np.mean([predictor.predict(part, fold, features=features) for fold, part in enumerate(by_fold)], axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert json.loads(run(project, "unseal", "--json").stdout)["score"] == roc_auc(y[ids].to_numpy(), found)
    # other values of the sealed rows alone: the same blend would have another score
    table.assign(bright=table["bright"].where(~table["id"].isin(ids), 0.5)).to_csv(project / "bright.csv", index=False)
    refused = " ".join(run(project, "unseal", "--again", code=1).stderr.split())
    assert "is stale: feature bright.csv of sealed rows changed since it was made. Run dfens blend" in refused
    assert read_again(Workspace(project), BlendStore(project / "work" / "ensemble").facts("blend")) is not None
    table.sample(frac=1, random_state=0).to_csv(project / "bright.csv", index=False)
    assert changed_inputs(Workspace(project), "blend") == []
    table[~table["id"].isin(ids[:3])].to_csv(project / "bright.csv", index=False)
    assert changed_inputs(Workspace(project), "blend") == ["feature bright.csv of sealed rows"]
    run(project, "blend", "--methods", "boosted", "--features", "bright.csv")
    refused = " ".join(run(project, "unseal", "--again", code=1).stderr.split())
    assert "lacks 3 of 24 sealed rows" in refused


def test_a_second_look_must_be_requested_and_is_counted(project: Path) -> None:
    assert "24 sealed rows, not looked at yet" in run(project, "status").stdout
    assert "The sealed rows were looked at once." in run(project, "unseal").stdout
    run(project, "blend", "--optimize", "none", "--name", "plain")
    refused = run(project, "unseal", code=1).stderr
    assert "looked at once" in refused
    assert "add --again" in refused
    assert len(store_of(project).looks.read()) == 1
    shown = run(project, "unseal", "--again").stdout
    assert "looked at 2 times" in shown
    assert "Choosing by these scores inflates them" in shown
    assert "looked at 2 times, last as auc" in run(project, "status").stdout
    run(project, "report")
    head = json.loads((project / "work" / "reports" / "report.json").read_text())["head"]
    assert head["looked"] == "looked at 2 times"
    assert [look["blend"] for look in head["looks"]] == ["blend", "plain"]
    assert "24 sealed rows, looked at 2 times" in (project / "work" / "reports" / "report.html").read_text()


def test_a_blend_that_was_unsealed_shows_its_recorded_score(project: Path) -> None:
    first = json.loads(run(project, "unseal", "--json").stdout)
    second = json.loads(run(project, "unseal", "--json").stdout)
    assert second == first | {"is_new": False}
    assert len(store_of(project).looks.read()) == 1


def test_looks_outlive_the_folds(project: Path) -> None:
    run(project, "unseal")
    run(project, "folds", "--seed", "5", "--force")
    run(project, "train")
    run(project, "blend")
    assert "1 of them before the folds were recreated" in run(project, "unseal", code=1).stderr


def test_a_score_whose_look_cannot_be_recorded_is_not_shown(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("oof.files.write_json", full)
    failed = run(project, "unseal", code=1)
    assert "auc" not in failed.stdout
    assert store_of(project).looks.read() == ()


def test_a_blend_of_blends_is_scored_through_its_members(project: Path) -> None:
    run(project, "blend", "--members", "pixels", "--name", "one")
    run(project, "blend", "--members", "one,forest", "--name", "two")
    assert 0 <= json.loads(run(project, "unseal", "two", "--json").stdout)["score"] <= 1


def test_a_stale_blend_is_not_scored(project: Path) -> None:
    store = store_of(project)
    rows = store.folds.rows(0)
    store.save_oof("forest", store.folds.ids[rows], np.linspace(0, 1, len(rows)), fold=0)
    assert "stale: forest changed" in run(project, "unseal", code=1).stderr.replace("is stale", "stale")
    assert store.looks.read() == ()


@pytest.mark.parametrize("command", [["unseal"], ["submit", "--dry-run"], ["train", "--pseudo", "blend"]])
def test_a_damaged_member_is_named_instead_of_a_blend_that_would_fail(project: Path, command: list[str]) -> None:
    path = store_of(project).root / "models" / "forest" / "oof.fold0.parquet"
    path.write_bytes(path.read_bytes()[:20])
    shown = run(project, *command, code=1).stderr
    assert f"{path} cannot be read as Parquet" in shown
    assert "dfens blend" not in shown


def test_unsealing_without_sealed_rows_is_an_error(tmp_path: Path) -> None:
    folder = new_project(tmp_path, rows=40, sealed=0.0)
    run(folder, "folds")
    assert "No rows are sealed" in run(folder, "unseal", code=1).stderr
    assert not (folder / "work" / "oof" / "sealed.parquet").exists()


# ---- imports ------------------------------------------------------------------


def test_predictions_of_sealed_rows_are_refused_among_out_of_fold_predictions(project: Path) -> None:
    labels = true_labels(project)
    table = pd.DataFrame({"id": labels.index, "prob": np.linspace(0, 1, len(labels))})
    table.to_csv(project / "all.csv", index=False)
    refused = run(project, "oof", "import", "other", "--oof", "all.csv", code=1).stderr
    assert "24 of 96 rows are sealed" in refused
    assert "other" not in store_of(project)


def test_imported_models_are_unsealed_with_predictions_made_like_those_of_test_rows(project: Path) -> None:
    store = store_of(project)
    labels, rng = true_labels(project), np.random.default_rng(0)
    for name, ids in (("oof", store.folds.ids), ("sealed", store.sealed_ids), ("test", store.test_ids)):
        noise = rng.random(len(ids))
        values = noise if name == "test" else 0.5 * labels[list(ids)].to_numpy() + 0.5 * noise
        pd.DataFrame({"id": ids, "prob": values}).to_csv(project / f"{name}.csv", index=False)
    run(project, "oof", "import", "other", "--oof", "oof.csv", "--test", "test.csv")
    run(project, "blend", "--name", "more")
    assert "'other' does not predict the sealed rows" in run(project, "unseal", "more", code=1).stderr
    run(project, "oof", "import", "other", "--oof", "oof.csv", "--test", "test.csv", "--sealed", "sealed.csv")
    assert json.loads(run(project, "unseal", "more", "--json").stdout)["score"] > 0.8


def test_rows_cannot_be_sealed_by_an_import(tmp_path: Path) -> None:
    folder = new_project(tmp_path, rows=40)
    labels = true_labels(folder)
    pd.DataFrame({"id": labels.index, "target": labels.to_numpy(), "prob": np.linspace(0, 1, 40)}).to_csv(
        folder / "all.csv", index=False
    )
    assert "can no longer be sealed" in run(folder, "oof", "import", "all.csv", code=1).stderr


# ---- noise --------------------------------------------------------------------


def test_unsealing_random_labels_scores_one_half(tmp_path: Path) -> None:
    folder = new_project(tmp_path, rows=240, sealed=0.5)
    table = pd.read_csv(folder / "data" / "train.csv")
    table["target"] = np.random.default_rng(1).permutation(np.arange(240) % 2)
    table.to_csv(folder / "data" / "train.csv", index=False)
    run(folder, "folds")
    run(folder, "train")
    run(folder, "blend")
    found = json.loads(run(folder, "unseal", "--json").stdout)
    assert found["rows"] == 120
    assert found["low"] < 0.5 < found["high"]
    assert found["high"] - found["low"] < 0.25
