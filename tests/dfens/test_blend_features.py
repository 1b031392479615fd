"""`dfens blend --features`: tables and properties of files, joined by id, stored, and read again for every use."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dfens.workflows.ledger import rebuild_entry
from dfens.workflows.provenance import read_recipe
from dfens.workflows.pseudo import pseudo_labels
from dfens.workspace.feature_table import read_feature_table
from dfens.workspace.paths import Workspace
from dfens.workspace.row_features import _refuse_labels, read_again
from ensemble.blend_store import BlendStore
from ensemble.fit import fit_blend
from ensemble.fold_safe import predict_without_fold
from ensemble.settings import BlendSettings
from oof.errors import BlendError
from oof.folds import Folds
from oof.store import PredictionStore
from submissions.entry import Entry
from submissions.table import build_table
from tests.support.commands import run
from tests.support.competitions import write_image, write_labels
from tests.support.ensemble import CONFIG

ROWS, TEST, K = 400, 60, 2
BOOSTED = ("--methods", "boosted", "--features")
Arrays = dict[str, NDArray[Any]]


def specialists(rows: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.float32]]:
    """Generate two models, each good at one quality, which no weighted sum can use; quality (n_rows,)."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(rows) % 2).astype(np.int8)
    quality = rng.random(rows).astype(np.float32)
    sees = np.stack([quality < 0.5, quality >= 0.5], axis=1)
    logits = 3 * (2 * y[:, None] - 1) * sees + rng.normal(0, 2.5, (rows, 2))
    return (1 / (1 + np.exp(-logits))).astype(np.float32), y, quality


def make_store(root: Path, *, labels: NDArray[np.int8] | None = None, groups: bool = False) -> Arrays:
    """Write a store of the two specialists, and features.csv with their quality in another order than the store."""
    (root / "dfens.toml").write_text(CONFIG)
    (oof, y, quality), (test, _, test_quality) = specialists(ROWS, 0), specialists(TEST, 1)
    y = y if labels is None else labels
    ids = np.array([f"{row:05d}" for row in range(ROWS)], object)
    fold = (np.arange(ROWS) // 2 % K).astype(np.int16)
    store = PredictionStore(root / "work" / "oof")
    store.save_folds(Folds(ids, y, fold, np.array([f"g{row // 2}" for row in range(ROWS)], object) if groups else None))
    store.save_test_ids(np.array([f"t{row:03d}" for row in range(TEST)], object))
    for model, name in enumerate(("low", "high")):
        store.save_model(name, "linear", {})
        for part in range(K):
            store.save_oof(name, ids[fold == part], oof[fold == part, model], fold=part)
            store.save_test(name, store.test_ids, test[:, model], fold=part)
    table = pd.DataFrame({"id": [*ids, *store.test_ids], "focus": np.r_[quality, test_quality]})
    table.sample(frac=1, random_state=0).to_csv(root / "features.csv", index=False)
    return {
        "oof": oof,
        "y": y,
        "fold": fold,
        "quality": quality[:, None],
        "test": test,
        "of_test": test_quality[:, None],
    }


def stored(folder: Path, name: str = "blend") -> Any:
    return BlendStore(folder / "work" / "ensemble").load(name)


def columns_of(folder: Path) -> list[tuple[str, str]]:
    """Return feature and column of each feature of the blend, in the order of the predictor."""
    return [(item["feature"], item["column"]) for item in stored(folder).facts["features"]["columns"]]


def edit(folder: Path, **changes: Any) -> None:
    """Change features.csv by id: `focus` of some rows, or columns of all rows."""
    table = pd.read_csv(folder / "features.csv", dtype={"id": str})
    for column, values in changes.items():
        table[column] = table["id"].map(values) if callable(values) or isinstance(values, dict) else values
    table.to_csv(folder / "features.csv", index=False)


# ---- a table ------------------------------------------------------------------


def test_a_table_in_any_order_gives_the_blend_of_these_features(tmp_path: Path) -> None:
    data = make_store(tmp_path)
    found = run(tmp_path, "blend", *BOOSTED, "features.csv")
    shown = " ".join(found.stdout.split())
    assert "Features of the rows, read by boosted trees (share" in shown
    blend = stored(tmp_path)
    # the store lists its members by name
    expected = fit_blend(
        data["oof"][:, ::-1], data["y"], folds=data["fold"], methods=["boosted"], features=data["quality"]
    )
    np.testing.assert_array_equal(blend.nested_oof, expected.nested_oof)
    by_fold = np.stack([data["test"][:, ::-1]] * K)
    np.testing.assert_array_equal(blend.test, expected.predict(by_fold, features=data["of_test"]))
    plain = fit_blend(data["oof"], data["y"], folds=data["fold"])
    assert blend.nested_score > plain.nested_score + 0.02
    assert columns_of(tmp_path) == [("features.csv", "focus")]
    # the predictor that is read back gives the same predictions with the same features
    again = BlendStore(tmp_path / "work" / "ensemble").load_predictor("blend")
    of_test = data["of_test"].astype(np.float32)
    np.testing.assert_array_equal(again.predict(data["test"][:, ::-1], 0, features=of_test), blend.test)


def test_the_setting_in_dfens_toml_is_that_of_the_option(tmp_path: Path) -> None:
    make_store(tmp_path)
    run(tmp_path, "blend", *BOOSTED, "features.csv")
    (tmp_path / "dfens.toml").write_text(CONFIG + '[blend]\nmethods = ["boosted"]\nfeatures = ["features.csv"]\n')
    value = json.loads(run(tmp_path, "blend", "--name", "set", "--json").stdout)
    assert value["features"] == ["focus"]
    np.testing.assert_array_equal(stored(tmp_path, "set").test, stored(tmp_path).test)
    # other methods replace the features of dfens.toml as well
    run(tmp_path, "blend", "--name", "ridge", "--methods", "ridge")
    assert "features" not in stored(tmp_path, "ridge").facts


def test_random_labels_are_not_predicted_with_features(tmp_path: Path) -> None:
    make_store(tmp_path, labels=np.random.default_rng(5).permutation(np.arange(ROWS) % 2).astype(np.int8))
    run(tmp_path, "blend", *BOOSTED, "features.csv")
    low, high = stored(tmp_path).facts["nested_interval"]
    assert low < 0.5 < high
    assert abs(stored(tmp_path).nested_score - 0.5) < 0.06


def test_missing_rows_are_counted_and_named(tmp_path: Path) -> None:
    make_store(tmp_path)
    table = pd.read_csv(tmp_path / "features.csv", dtype={"id": str}).sort_values("id")
    table[~table["id"].isin(["00003", "00004", "t007"])].to_csv(tmp_path / "short.csv", index=False)
    found = " ".join(run(tmp_path, "blend", *BOOSTED, "short.csv", code=1).stderr.split())
    assert "short.csv lacks 2 of 400 training rows (00003, 00004) and 1 of 60 test rows (t007)." in found
    table.assign(id=table["id"] + ".png").to_csv(tmp_path / "files.csv", index=False)
    found = " ".join(run(tmp_path, "blend", *BOOSTED, "files.csv", code=1).stderr.split())
    assert "lacks 400 of 400 training rows" in found
    assert "They differ from the expected ids only in the file ending" in found
    assert not (tmp_path / "work" / "ensemble").exists()


def test_unknown_values_are_reported_and_columns_without_values_left_out(tmp_path: Path) -> None:
    make_store(tmp_path)
    edit(
        tmp_path,
        part=lambda name: None if name in ("00000", "00001", "t001") else 1.0 * (name > "00100"),
        train_only=lambda name: None if name.startswith("t") else float(int(name) % 7),
    )
    found = " ".join(run(tmp_path, "blend", *BOOSTED, "features.csv").stderr.split())
    assert "Feature part is unknown for 2 of 400 training rows and 1 of 60 test rows." in found
    assert "Feature train_only is left out: it is unknown for all test rows." in found
    assert columns_of(tmp_path) == [("features.csv", "focus"), ("features.csv", "part")]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_index_of_a_shuffled_table_is_not_a_feature(tmp_path: Path, kind: str) -> None:
    """It numbers the rows of an earlier table, in which reals may have come first."""
    table = pd.DataFrame({"id": [f"r{row}" for row in range(9)], "level_1": [2, 2, *range(7)], "focus": 0.5})
    shuffled, path = table.sample(frac=1, random_state=0), tmp_path / f"features.{kind}"
    shuffled.to_csv(path) if kind == "csv" else shuffled.to_parquet(path)
    found = read_feature_table(path, {"training": table["id"].to_numpy(object)})
    assert list(found) == ["level_1", "focus"]  # a feature by its repeated values


@pytest.mark.parametrize("words", [("False", "True"), ("no", "Yes "), ("negative", "POSITIVE"), ("0", "true")])
def test_words_for_no_and_yes_are_numbers(tmp_path: Path, words: tuple[str, str]) -> None:
    path = tmp_path / "rows.csv"
    rows = [f"r{row},{words[row % 2] if row < 8 else ''}" for row in range(9)]
    path.write_text("\n".join(["id,flash", *rows]) + "\n")
    found = read_feature_table(path, {"training": np.array([f"r{row}" for row in range(9)], object)})
    np.testing.assert_array_equal(found["flash"], [0, 1, 0, 1, 0, 1, 0, 1, np.nan])


def test_tables_that_cannot_be_features_are_refused(tmp_path: Path) -> None:
    data = make_store(tmp_path)
    labels = dict(zip([f"{row:05d}" for row in range(ROWS)], data["y"], strict=True))
    for column, values, text in (
        ("label", lambda name: 3.0 + labels.get(name, 0), "column 'label' contains the labels"),
        (
            "mask",
            lambda name: 7.0 if labels.get(name, 1) else None,
            "column 'mask' has values for only one of the classes",
        ),
        (
            "quality_of_fakes",
            lambda name: float(name[-2:]) if labels.get(name, 1) and name[-1] < "7" else None,
            "column 'quality_of_fakes' has values for only one of the classes",
        ),
        (
            "method",
            lambda name: labels.get(name, 0) * (1.0 + int(name[-1]) % 4),
            "column 'method' contains the labels, or what is known only with them",
        ),
        (
            "almost",
            lambda name: float(labels.get(name, 0) != (name == "00003")),
            "column 'almost' contains the labels",
        ),
        ("huge", lambda name: 1e300 if name == "t003" else 1.0, "infinite values in column huge (or above 3.4e38)"),
        ("camera", lambda name: f"c{name}x", "column camera is not numeric"),
        ("flash", lambda name: ["yes", "no", "maybe"][int(name[-1]) % 3], "column flash is not numeric"),
        ("flash", lambda name: ["true", "no", "fake"][int(name[-1]) % 3], "column flash is not numeric"),
        ("focus", lambda name: np.inf if name == "t003" else 1.0, "infinite values in column focus"),
        ("focus", lambda name: None, "No feature can be used. Feature focus is left out"),
    ):
        shutil.copy(tmp_path / "features.csv", tmp_path / "kept.csv")
        edit(tmp_path, **{column: values})
        assert text in " ".join(run(tmp_path, "blend", *BOOSTED, "features.csv", code=1).stderr.split())
        shutil.copy(tmp_path / "kept.csv", tmp_path / "features.csv")
    assert "There is no table of features" in run(tmp_path, "blend", *BOOSTED, "none.csv", code=1).stderr
    twice = run(tmp_path, "blend", *BOOSTED, "features.csv,kept.csv", code=1).stderr
    assert "Both 'features.csv' and 'kept.csv' have a feature 'focus'." in " ".join(twice.split())


def test_a_feature_that_only_the_few_fakes_have_is_refused() -> None:
    target = np.r_[np.ones(8), np.zeros(92)].astype(np.int8)
    values = np.where(target == 1, 7.0, np.nan).astype(np.float32)
    with pytest.raises(BlendError, match="column 'mask' has values for only one of the classes"):
        _refuse_labels("rows.csv", {"mask": values}, target)
    values[:3] = np.nan  # five of eight: by chance, perhaps
    _refuse_labels("rows.csv", {"mask": values}, target)


def test_features_without_trees_or_with_unknown_names_are_refused(tmp_path: Path) -> None:
    make_store(tmp_path)
    found = run(tmp_path, "blend", "--features", "features.csv", code=1).stderr
    assert "no method reads features. Add boosted to the methods" in " ".join(found.split())
    found = run(tmp_path, "blend", *BOOSTED, "sise", code=1).stderr
    assert "features = 'sise' is unknown. Use size, quality, blur, bitrate, group, or the path" in " ".join(
        found.split()
    )
    found = run(tmp_path, "blend", *BOOSTED, "size", code=1).stderr
    assert "Features of files (size) cannot be read." in found  # there is no data folder


# ---- changes ------------------------------------------------------------------


def test_changed_features_make_a_blend_stale(tmp_path: Path) -> None:
    make_store(tmp_path)
    run(tmp_path, "blend", *BOOSTED, "features.csv")
    assert "current" in run(tmp_path, "status").stdout
    table = pd.read_csv(tmp_path / "features.csv", dtype={"id": str})
    table[::-1].to_csv(tmp_path / "features.csv", index=False)  # another order is not a change
    assert "current" in run(tmp_path, "status").stdout
    edit(tmp_path, focus=lambda name: 0.5)
    assert "stale: feature features.csv changed" in run(tmp_path, "status").stdout
    with pytest.raises(BlendError, match=r"stale: feature features.csv changed"):
        pseudo_labels(Workspace(tmp_path), "blend")
    (tmp_path / "features.csv").unlink()
    assert "stale: feature features.csv changed" in run(tmp_path, "status").stdout


def test_a_blend_is_fitted_again_with_its_features_only(tmp_path: Path) -> None:
    make_store(tmp_path)
    run(tmp_path, "blend", *BOOSTED, "features.csv")
    workspace = Workspace(tmp_path)
    recipe = read_recipe(workspace, "blend")
    assert recipe.facts["features"] == stored(tmp_path).facts["features"]
    sample = tmp_path / "sample.csv"
    write_labels(sample, dict.fromkeys(recipe.ids, 0.5), "id,target")
    sha256 = build_table(sample, recipe.ids, recipe.predictions).sha256
    now = datetime(2026, 11, 20, tzinfo=UTC)
    facts = json.loads(json.dumps(recipe.facts))
    entry = Entry(
        key="k", created=now, updated=now, competition="tiny", status="complete", provenance=facts, sha256=sha256
    )
    shutil.rmtree(tmp_path / "work" / "ensemble")
    found = rebuild_entry(workspace, entry, sample)
    assert found.table is not None
    assert found.source == "the members, blended again with the recorded settings"
    # further columns, even before the old ones, are not a change
    table = pd.read_csv(tmp_path / "features.csv", dtype={"id": str})
    table.insert(0, "more", np.arange(len(table)) % 7 / 2)
    table.to_csv(tmp_path / "features.csv", index=False)
    again = rebuild_entry(workspace, entry, sample)
    assert again.table is not None
    assert again.table.sha256 == sha256
    edit(tmp_path, focus=lambda name: 0.5)
    found = rebuild_entry(workspace, entry, sample)
    assert found.table is None
    assert found.changes[-1] == "The feature features.csv has changed since."
    with pytest.raises(BlendError, match=r"The features features.csv have changed since the blend 'blend' was made"):
        read_again(workspace, facts)


@pytest.mark.slow
def test_pseudo_labels_come_from_the_blend_with_its_features(tmp_path: Path) -> None:
    data = make_store(tmp_path)
    run(tmp_path, "blend", *BOOSTED, "features.csv")
    found = pseudo_labels(Workspace(tmp_path), "blend")
    inputs = (data["oof"][:, ::-1], data["y"], data["fold"], np.stack([data["test"][:, ::-1]] * K))
    settings = BlendSettings(methods=("boosted",))
    features = (data["quality"], data["of_test"].astype(np.float32))
    np.testing.assert_array_equal(found.probabilities[:K], predict_without_fold(*inputs, settings, features=features))
    assert np.abs(found.probabilities[:K] - predict_without_fold(*inputs, settings)).max() > 0.01


# ---- files and groups ---------------------------------------------------------


def make_images(root: Path) -> None:
    """Write the images of the store's rows as JPEG, those of the test rows as PNG, without a quality."""
    rng = np.random.default_rng(3)
    for part, names in (
        ("train", [f"{row:05d}" for row in range(ROWS)]),
        ("test", [f"t{row:03d}" for row in range(TEST)]),
    ):
        for row, name in enumerate(names):
            noise = rng.integers(0, 256, (8 + row % 3, 8, 3), np.uint8)
            write_image(root / "data" / part / f"{name}.{'jpg' if part == 'train' else 'png'}", noise, 60 + row % 30)
    labels = PredictionStore(root / "work" / "oof").folds
    write_labels(root / "data" / "train.csv", dict(zip(labels.ids, labels.target, strict=True)), "id,target")
    test = dict.fromkeys([f"t{row:03d}" for row in range(TEST)], 0.5)
    write_labels(root / "data" / "sample_submission.csv", test, "id,target")


def test_features_of_files_and_groups_from_the_command_to_the_submission(tmp_path: Path) -> None:
    make_store(tmp_path, groups=True)
    make_images(tmp_path)
    found = run(tmp_path, "blend", *BOOSTED, "size,blur,quality,group,features.csv")
    said = " ".join(found.stderr.split())
    assert "Feature quality is left out: it is unknown for all test rows." in said
    assert "Feature group is left out: it is unknown for all test rows." in said
    sizes = [("size", column) for column in ("width", "height", "bytes")]
    assert columns_of(tmp_path) == [*sizes, ("blur", "blur"), ("features.csv", "focus")]
    read = pd.read_parquet(tmp_path / "work" / "trainers" / "image_header.parquet").set_index("file")
    assert [read.at["train/00004.jpg", column] for column in ("height", "quality")] == [9, 64]
    assert len(read) == ROWS + TEST
    run(tmp_path, "submit", "--dry-run")
    assert "current" in run(tmp_path, "status").stdout
    write_image(tmp_path / "data" / "train" / "00004.jpg", np.zeros((20, 20, 3), np.uint8))
    assert "stale: feature size, feature blur changed" in " ".join(run(tmp_path, "status").stdout.split())
    refused = " ".join(run(tmp_path, "submit", "--dry-run", code=1).stderr.split())
    assert "The features have changed since the blend 'blend' was made; changed or missing: feature size" in refused
    shutil.rmtree(tmp_path / "data" / "train")  # without the files, nothing can be compared
    assert "current" in run(tmp_path, "status").stdout


def test_group_sizes_are_features_if_there_are_no_test_rows(tmp_path: Path) -> None:
    make_store(tmp_path, groups=True)
    for path in (tmp_path / "work" / "oof").rglob("test*.parquet"):
        path.unlink()
    run(tmp_path, "blend", *BOOSTED, "group")
    assert columns_of(tmp_path) == [("group", "group")]
