"""Roles of columns are determined by names first, then by values, and only if unambiguous."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from oof.errors import FoldError, PredictionError
from oof.exchange.importing import ColumnChoice, export_predictions, import_predictions, read_predictions
from oof.folds import make_folds
from oof.store import PredictionStore

N = 60
RNG = np.random.default_rng(0)
ORDER = RNG.permutation(N)
TRUTH = np.arange(N) % 2
VALUES = np.round(0.5 * RNG.random(N) + 0.4 * TRUTH + 0.01, 4)
KNOWN = np.array([str(i) for i in range(N)], object)
LOGITS = RNG.normal(size=N)
HARD = (VALUES > 0.5).astype(int)


def rows() -> pd.DataFrame:
    """Generate predictions with integer ids, in the order of a loader."""
    return pd.DataFrame({"id": ORDER, "pred": VALUES[ORDER]})


def save(path: Path, table: pd.DataFrame, **options: Any) -> Path:
    if path.suffix == ".csv":
        table.to_csv(path, index=False, **options)
    elif path.suffix == ".npz":
        np.savez(path, **{str(name): column.to_numpy() for name, column in table.items()})  # type: ignore[arg-type]
    else:
        table.to_parquet(path, index=False)
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
@pytest.mark.parametrize("first", ["Unnamed: 0", "index", "level_0", "row", "rank", "seq", "original", "target"])
@pytest.mark.parametrize("knows", [True, False])
def test_a_column_before_the_ids_is_not_taken_for_them(tmp_path: Path, kind: str, first: str, knows: bool) -> None:
    table = rows()
    before = {"original": ORDER // 4 * 4, "target": TRUTH[ORDER], "rank": RNG.permutation(N)}.get(first, np.arange(N))
    table.insert(0, first, before)
    path = save(tmp_path / f"m.{kind}", table)
    for for_test in (False, True):
        found = read_predictions(path, known_ids=KNOWN if knows else None, for_test=for_test)
        assert found.roles.id == "id"
        assert found.ids.tolist() == [str(i) for i in ORDER]
        assert found.predictions["m"].tolist() == VALUES[ORDER].tolist()


def test_a_full_match_has_precedence_over_a_partial_match(tmp_path: Path) -> None:
    table = rows().rename(columns={"id": "code"})
    table.insert(0, "serial", np.arange(N) + 5)  # most of these are known ids, too
    path = save(tmp_path / "m.csv", table)
    found = read_predictions(path, known_ids=KNOWN)
    assert found.roles.id == "code"
    assert "ids are taken from column 'code'" in found.notes


@pytest.mark.parametrize("names", [("serial", "code"), ("image", "path")])
def test_two_candidate_id_columns_are_ambiguous(tmp_path: Path, names: tuple[str, str]) -> None:
    table = pd.DataFrame({names[0]: np.arange(N)[::-1], names[1]: ORDER, "pred": VALUES[ORDER]})
    path = save(tmp_path / "m.csv", table)
    with pytest.raises(PredictionError, match=f"{names[0]} and {names[1]} could be. Name it with --id-column"):
        read_predictions(path, known_ids=KNOWN)
    assert read_predictions(path, ColumnChoice(id=names[1]), known_ids=KNOWN).ids.tolist() == [str(i) for i in ORDER]


def test_a_row_number_alone_is_not_an_id(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    rows()[["pred"]].to_csv(path)  # the order of the rows is not in the file
    with pytest.raises(PredictionError, match="which column contains the ids"):
        read_predictions(path, known_ids=KNOWN)
    named = pd.DataFrame({"pred": [0.5, 0.25]}, index=["b.jpg", "a.jpg"])
    named.to_csv(path)  # but an index of names is
    assert read_predictions(path).ids.tolist() == ["b.jpg", "a.jpg"]


@pytest.mark.parametrize(
    "lines",
    [
        ["000.jpg,0.72", "001.jpg,0.3"],
        ["a,0.72", "b,0.3"],
        ["7,0.72", "8,0.3"],
        ["img_3.png,1", "img_4.png,0"],
        ["7,1", "8,0"],
        ["000.jpg,1,0,0.72", "001.jpg,0,0,0.3"],
        ["000.jpg,0,0,0.72", "001.jpg,1,0,0.3"],
        ["x1,-3.5,1e-3", "x2,2.5,1.5"],
    ],
)
def test_a_missing_header_is_named(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "m.csv"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(PredictionError, match=f"the first line `{lines[0]}` looks like a row, not a header"):
        read_predictions(path)


def test_numbers_as_names_of_columns_are_a_header(tmp_path: Path) -> None:
    frame = pd.DataFrame(RNG.random((5, 3)), index=pd.Index([f"x{i}" for i in range(5)], name="image"))
    frame.to_csv(tmp_path / "m.csv")
    assert list(read_predictions(tmp_path / "m.csv").predictions) == ["m.0", "m.1", "m.2"]


@pytest.mark.parametrize(
    ("zero", "one"),
    [
        ("prob_0", "prob_1"),
        ("real", "fake"),
        ("real_prob", "fake_prob"),
        ("p0", "p1"),
        ("0", "1"),
        ("neg_prob", "y_pred_1"),
    ],
)
def test_the_probability_of_class_1_is_used_if_there_are_two(tmp_path: Path, zero: str, one: str) -> None:
    table = pd.DataFrame({"id": ORDER, zero: np.round(1 - VALUES, 3)[ORDER], one: np.round(VALUES, 3)[ORDER]})
    if zero == "neg_prob":  # the class is ambiguous
        with pytest.raises(PredictionError, match="sum to 1 in every row.*--prediction-column"):
            read_predictions(save(tmp_path / "resnet.csv", table))
        return
    found = read_predictions(save(tmp_path / "resnet.csv", table))
    assert list(found.predictions) == ["resnet"]
    assert found.predictions["resnet"].tolist() == table[one].tolist()
    assert any("the probability of class 1" in note for note in found.notes)


def test_a_softmax_matrix_is_one_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "resnet.npz", ids=KNOWN.astype(str), oof=np.stack([1 - VALUES, VALUES], 1).astype("f4"))
    found = read_predictions(tmp_path / "resnet.npz")
    assert list(found.predictions) == ["resnet"]
    np.testing.assert_allclose(found.predictions["resnet"], VALUES, atol=1e-6)


@pytest.mark.parametrize("key", ["classes", "label_names"])
def test_names_of_classes_in_an_npz_are_no_names_of_models(tmp_path: Path, key: str) -> None:
    arrays: dict[str, Any] = {"ids": KNOWN.astype(str), key: np.array(["real", "fake"])}
    np.savez(tmp_path / "net.npz", probs=np.stack([1 - VALUES, VALUES], 1), **arrays)
    found = read_predictions(tmp_path / "net.npz", for_test=True).predictions
    assert {name: values.tolist() for name, values in found.items()} == {"net": VALUES.tolist()}
    np.savez(tmp_path / "net.npz", logits=np.stack([LOGITS, VALUES], 1), **arrays)
    with pytest.raises(PredictionError, match="'logits_real' and 'logits_fake' do not sum to 1"):
        read_predictions(tmp_path / "net.npz", for_test=True)
    np.savez(tmp_path / "net.npz", probs=VALUES[:, None], **arrays | {key: np.array(["real"])})
    with pytest.raises(PredictionError, match="'probs_real' is named after class 0"):
        read_predictions(tmp_path / "net.npz", for_test=True)


def test_probabilities_of_two_classes_with_different_digits_are_one_model(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": np.arange(N), "p0": np.round(1 - VALUES, 2), "p1": VALUES})
    assert np.abs(table["p0"] + table["p1"] - 1).max() > 4e-3
    found = read_predictions(save(tmp_path / "m.csv", table), known_ids=KNOWN)
    assert {name: values.tolist() for name, values in found.predictions.items()} == {"m": VALUES.tolist()}
    models = table.rename(columns={"p0": "a", "p1": "b"})  # without names of classes, it is more likely to be chance
    assert set(read_predictions(save(tmp_path / "m.csv", models), known_ids=KNOWN).predictions) == {"a", "b"}


def by_fold(rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return a matrix with a column for each of 5 folds, NaN for rows of other folds; (N, 5)."""
    return np.where(rows[:, None] % 5 == np.arange(5), VALUES[rows][:, None], np.nan)


@pytest.mark.parametrize("names", ["oof{}", "fold_{}", "pred {}", "{}"])
def test_columns_of_folds_are_one_model(tmp_path: Path, names: str) -> None:
    table = pd.DataFrame(by_fold(ORDER), columns=[names.format(fold) for fold in range(5)])
    table.insert(0, "id", ORDER)
    found = read_predictions(save(tmp_path / "m.csv", table), known_ids=KNOWN)
    assert {name: values.tolist() for name, values in found.predictions.items()} == {"m": VALUES[ORDER].tolist()}
    assert any("have one value in each row together, so they are joined to one model" in note for note in found.notes)
    table.iloc[3, 1:] = 0.5  # rows with several values are of several models
    assert len(read_predictions(save(tmp_path / "m.csv", table), known_ids=KNOWN).predictions) == 5


def test_a_matrix_with_a_column_for_each_fold_is_one_model(tmp_path: Path) -> None:
    values = by_fold(ORDER)
    values[ORDER % 5 == 3] = np.nan  # a fold that has not been trained
    np.savez(tmp_path / "m.npz", id=ORDER, oof=values[:, [0, 1, 2, 4]])
    (found,) = read_predictions(tmp_path / "m.npz", known_ids=KNOWN).predictions.values()
    np.testing.assert_array_equal(found, np.where(ORDER % 5 == 3, np.nan, VALUES[ORDER]))


def test_confidences_in_both_classes_are_not_folds(tmp_path: Path) -> None:
    sure = np.maximum(VALUES, 1 - VALUES)
    table = pd.DataFrame({"id": np.arange(N), "p0": np.where(VALUES < 0.5, sure, np.nan)})
    table["p1"] = np.where(VALUES >= 0.5, sure, np.nan)
    with pytest.raises(PredictionError, match="may be the confidences in both classes"):
        read_predictions(save(tmp_path / "m.csv", table), known_ids=KNOWN)


def test_incomplete_models_named_after_networks_are_not_folds(tmp_path: Path) -> None:
    values = by_fold(ORDER)
    table = pd.DataFrame({"id": ORDER, "resnet50": values[:, 0], "resnet101": values[:, 1]})
    assert set(read_predictions(save(tmp_path / "m.csv", table), known_ids=KNOWN).predictions) == {
        "resnet50", "resnet101"
    }  # fmt: skip


def test_models_with_different_folds_stay_models(tmp_path: Path) -> None:
    values = by_fold(ORDER)
    table = pd.DataFrame({"id": ORDER, "oof:lr": values[:, 0], "oof:xgb": values[:, 1]})
    assert set(read_predictions(save(tmp_path / "m.csv", table), known_ids=KNOWN).predictions) == {"lr", "xgb"}


def test_hard_labels_of_a_probability_are_left_out(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ORDER, "prob": VALUES[ORDER], "pred": (VALUES[ORDER] > 0.5).astype(int)})
    found = read_predictions(save(tmp_path / "m.csv", table))
    assert found.predictions["m"].tolist() == VALUES[ORDER].tolist()
    assert "not used: pred ('prob' as hard labels)" in found.notes


def test_other_columns_with_fractions_are_ambiguous(tmp_path: Path) -> None:
    wide = rows().assign(convnext=VALUES[::-1], effnet=0.3 + VALUES / 2)
    with pytest.raises(PredictionError, match="Candidates are pred, convnext, effnet.*--prediction-column"):
        read_predictions(save(tmp_path / "wide.csv", wide))
    sizes = rows().assign(width=RNG.integers(200, 300, N))  # integers next to a prediction are not a model
    assert read_predictions(save(tmp_path / "m.csv", sizes)).notes == ("not used: width",)


@pytest.mark.parametrize("labels", [TRUTH, np.where(TRUTH == 1, "FAKE", "real"), TRUTH == 1, TRUTH.astype(float)])
@pytest.mark.parametrize("name", ["target", "label", "y_true", "is_deepfake"])
def test_a_target_column_is_compared_with_the_known_targets(tmp_path: Path, labels: Any, name: str) -> None:
    store = PredictionStore(tmp_path / "oof")
    store.save_folds(make_folds(KNOWN, TRUTH, k=3, seed=0))
    table = rows().assign(**{name: np.asarray(labels)[ORDER]})
    import_predictions(store, [read_predictions(save(tmp_path / "a.csv", table), known_ids=KNOWN)])
    wrong = rows().assign(**{name: np.roll(np.asarray(labels), 1)[ORDER]})
    with pytest.raises(PredictionError, match="the target disagrees with that of the folds for 60 of 60 ids"):
        import_predictions(store, [read_predictions(save(tmp_path / "b.csv", wrong), known_ids=KNOWN)])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_target_without_any_value_is_not_compared(tmp_path: Path, kind: str) -> None:
    path = save(tmp_path / f"mine.{kind}", rows().assign(target=None))
    found = read_predictions(path, known_ids=KNOWN)
    assert found.predictions["mine"].tolist() == VALUES[ORDER].tolist()
    assert any("60 of 60 values of the target 'target' are missing" in note for note in found.notes)


def test_two_different_targets_are_ambiguous(tmp_path: Path) -> None:
    table = rows().assign(target=TRUTH[ORDER], label=TRUTH[ORDER])
    assert read_predictions(save(tmp_path / "m.csv", table)).roles.target == "target"
    with pytest.raises(PredictionError, match="'target' and 'label' differ.*--target-column"):
        read_predictions(save(tmp_path / "m.csv", table.assign(label=1 - table["label"])))
    with pytest.raises(PredictionError, match="'fold' and 'kfold' differ.*--fold-column"):
        read_predictions(save(tmp_path / "m.csv", rows().assign(fold=ORDER % 3, kfold=ORDER % 5)))


def test_a_submission_has_its_prediction_under_the_name_of_the_target(tmp_path: Path) -> None:
    path = save(tmp_path / "sub.csv", rows().rename(columns={"pred": "target"}))
    assert read_predictions(path, for_test=True).predictions["sub"].tolist() == VALUES[ORDER].tolist()
    labelled = rows().assign(label=TRUTH[ORDER])
    found = read_predictions(save(tmp_path / "sub.csv", labelled), for_test=True)
    assert found.predictions["sub"].tolist() == VALUES[ORDER].tolist()


@pytest.mark.parametrize("n_test", [N, 20])
def test_arrays_of_an_npz_are_assigned_by_their_names(tmp_path: Path, n_test: int) -> None:
    test = RNG.random(n_test)
    arrays = {
        "id": KNOWN.astype(str),
        "oof": VALUES,
        "test_id": np.array([f"t{i}" for i in range(n_test)]),
        "test": test,
    }
    np.savez(tmp_path / "both.npz", **arrays)  # type: ignore[arg-type]
    assert read_predictions(tmp_path / "both.npz").predictions["both"].tolist() == VALUES.tolist()
    found = read_predictions(tmp_path / "both.npz", for_test=True)
    assert found.ids[0] == "t0"
    assert found.predictions["both"].tolist() == test.tolist()
    del arrays["test_id"]
    np.savez(tmp_path / "both.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(PredictionError, match="ids"):
        read_predictions(tmp_path / "both.npz", for_test=True)


@pytest.mark.parametrize("kind", ["csv", "parquet", "feather", "npz"])
@pytest.mark.parametrize(
    "names",
    [
        ["a1", "b1"],
        ["convnext", "effnet", "vit_pred"],
        ["cv", "b1"],
        ["label", "b1"],
        ["index", "path"],
        ["id", "target", "fold"],
        ["0", "1"],
        ["only"],
        ["authentic", "net"],
        ["net", "net_std", "net_count"],
        ["test_a", "a"],
        ["m.1", "m_1", "m-1"],
    ],
)
@pytest.mark.parametrize("values", ["fractions", "0 and 1", "0"])
def test_every_export_can_be_read_back(tmp_path: Path, kind: str, names: list[str], values: str) -> None:
    store = PredictionStore(tmp_path / "oof")
    store.save_folds(make_folds(KNOWN, TRUTH, k=3, seed=0))
    store.save_test_ids(np.array([f"t{i}" for i in range(7)], object))
    for number, name in enumerate(names):
        oof = RNG.random(N, np.float32)
        oof[: 3 * number] = np.nan
        predicted = RNG.random(7, np.float32)
        if values != "fractions":
            predicted = np.arange(7, dtype=np.float32) % 2 if values == "0 and 1" else np.zeros(7, np.float32)
        store.save(name, KNOWN, oof, predicted)
    out, test = tmp_path / f"wide.{kind}", tmp_path / f"wide_test.{kind}"
    export_predictions(store, out)
    export_predictions(store, test, part="test")
    with pytest.raises(PredictionError, match="exists already.*--force"):
        export_predictions(store, out)
    export_predictions(store, out, force=True)
    other = PredictionStore(tmp_path / "other")
    import_predictions(other, [read_predictions(out)], [read_predictions(test, for_test=True)])
    assert other.names() == sorted(names)
    assert {name: other.fingerprint(name) for name in names} == {name: store.fingerprint(name) for name in names}


@pytest.mark.parametrize("kind", ["csv", "parquet", "feather", "npz"])
def test_an_export_with_decimal_numbers_as_ids_can_be_read_back(tmp_path: Path, kind: str) -> None:
    ids = np.array([f"{row}.5" for row in range(N)], object)
    store, other = PredictionStore(tmp_path / "oof"), PredictionStore(tmp_path / "other")
    store.save_folds(make_folds(ids, TRUTH, k=3, seed=0))
    store.save_test_ids(np.array([f"-{row}.50" for row in range(7)], object))
    store.save("net", ids, RNG.random(N, np.float32), RNG.random(7, np.float32))
    out, test = tmp_path / f"wide.{kind}", tmp_path / f"wide_test.{kind}"
    export_predictions(store, out)
    export_predictions(store, test, part="test")
    import_predictions(other, [read_predictions(out)], [read_predictions(test, for_test=True)])
    assert other.fingerprint("net") == store.fingerprint("net")
    assert read_predictions(out, known_ids=ids).ids.tolist() == ids.tolist()


def test_decimal_numbers_in_a_column_of_another_name_are_ids_if_they_are_known(tmp_path: Path) -> None:
    ids = np.array([f"{row}.5" for row in range(N)], object)
    path = save(tmp_path / "mine.csv", pd.DataFrame({"time": ids[::-1], "image": VALUES}))
    assert read_predictions(path, known_ids=ids).ids.tolist() == ids[::-1].tolist()
    with pytest.raises(PredictionError, match="which column contains the ids"):
        read_predictions(path)


def test_test_predictions_given_twice_are_named(tmp_path: Path) -> None:
    store = PredictionStore(tmp_path / "oof")
    store.save_folds(make_folds(KNOWN, TRUTH, k=3, seed=0))
    oof = read_predictions(save(tmp_path / "oof.csv", rows()), name="m")
    tests = [
        read_predictions(
            save(tmp_path / f"{name}.csv", rows().rename(columns={"pred": "target"})), name="m", for_test=True
        )
        for name in ("t0", "t1")
    ]
    with pytest.raises(PredictionError, match="t0.csv and .*t1.csv both contain test predictions of 'm'"):
        import_predictions(store, [oof], tests)
    assert store.names() == []


def test_names_that_end_in_digits_are_models(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": KNOWN, "effnet_b0": VALUES, "effnet_b1": RNG.random(N)})
    assert list(read_predictions(save(tmp_path / "m.csv", table)).predictions) == ["effnet_b0", "effnet_b1"]


def test_a_target_column_with_different_fractions_is_the_prediction_of_a_test_file(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": KNOWN, "target": VALUES, "size": np.arange(N) * 3})
    found = read_predictions(save(tmp_path / "t.csv", table), for_test=True)
    assert found.predictions["t"].tolist() == VALUES.tolist()
    template = pd.DataFrame({"id": KNOWN, "target": 0.5, "pred": VALUES})
    assert read_predictions(save(tmp_path / "t.csv", template), for_test=True).roles.predictions == ("pred",)


def test_a_column_of_another_name_is_reported_as_prediction(tmp_path: Path) -> None:
    found = read_predictions(save(tmp_path / "m.csv", pd.DataFrame({"id": KNOWN, "target": TRUTH, "loss": VALUES})))
    assert "predictions are taken from column 'loss'" in found.notes


def test_labels_of_class_zero_are_not_the_target(tmp_path: Path) -> None:
    table = rows().assign(is_real=1 - TRUTH[ORDER])
    found = read_predictions(save(tmp_path / "m.csv", table))
    assert found.target is None
    assert found.notes == ("not used: is_real",)


@pytest.mark.parametrize("name", ["hard", "predicted_class", "decision"])
@pytest.mark.parametrize("words", [False, True])
def test_hard_labels_of_a_prediction_are_not_the_target(tmp_path: Path, name: str, words: bool) -> None:
    hard = np.where(HARD == 1, "fake", "real") if words else HARD
    path = save(tmp_path / "m.csv", pd.DataFrame({"id": KNOWN, name: hard, "prob": VALUES}))
    found = read_predictions(path)
    assert found.target is None
    assert found.predictions["m"].tolist() == VALUES.tolist()
    with pytest.raises(PredictionError, match="no folds yet, and no target column to make them from in m.csv"):
        import_predictions(PredictionStore(tmp_path / "oof"), [found])
    assert read_predictions(path, ColumnChoice(target=name)).target is not None


def test_true_and_fake_in_one_column_are_ambiguous(tmp_path: Path) -> None:
    table = rows().assign(label=np.where(TRUTH[ORDER] == 1, "fake", "true"))
    with pytest.raises(PredictionError, match="'label' is called like a target, .*'true', 'fake'"):
        read_predictions(save(tmp_path / "m.csv", table))


def test_folds_of_a_file_that_cannot_be_used_name_its_column(tmp_path: Path) -> None:
    table = rows().assign(target=TRUTH[ORDER])
    group = [f"g{i}" for i in ORDER // 4]
    for columns, message in (
        ({"fold": 3}, "All 60 rows are in fold 3; expected at least 2 folds"),
        ({"fold": TRUTH[ORDER]}, "Fold 0 has only class"),
        ({"fold": ORDER % 2 ^ (ORDER // 8 % 2), "group": group}, "groups are in more than one fold"),
    ):
        path = save(tmp_path / "m.csv", table.assign(**columns))
        with pytest.raises(FoldError, match=rf"{message}.*Correct column 'fold' of .*m\.csv, or remove it"):
            import_predictions(PredictionStore(tmp_path / "oof"), [read_predictions(path)])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_with_an_empty_group_are_their_own_groups(tmp_path: Path, kind: str) -> None:
    group = [None if i % 3 else f"g{i % 2}" for i in range(N)]
    path = save(tmp_path / f"m.{kind}", rows().assign(target=TRUTH[ORDER], group=np.array(group, object)))
    store = PredictionStore(tmp_path / "oof")
    import_predictions(store, [read_predictions(path)])
    assert store.folds.groups is not None
    assert len(set(store.folds.groups)) == 2 + 40


def test_an_array_that_was_only_partly_filled_is_reported(tmp_path: Path) -> None:
    store = PredictionStore(tmp_path / "oof")
    folds = make_folds(KNOWN, TRUTH, k=3, seed=0)
    store.save_folds(folds)
    values = np.where(folds.fold == 0, VALUES, 0.0)
    table = pd.DataFrame({"id": KNOWN, "pred": values})
    test = pd.DataFrame({"id": [f"t{i}" for i in range(9)], "pred": np.arange(9) % 2})
    files = save(tmp_path / "m.csv", table), save(tmp_path / "t.csv", test)
    report = import_predictions(
        store, [read_predictions(files[0])], [read_predictions(files[1], name="m", for_test=True)]
    )
    assert any("all predictions of fold 1, 2 are equal" in warning for warning in report.warnings)
    assert any("test predictions have only two different values" in warning for warning in report.warnings)
    full = save(tmp_path / "n.csv", pd.DataFrame({"id": KNOWN, "pred": VALUES}))
    with pytest.raises(PredictionError, match=r"the test predictions of 'n' are the OOF predictions of .*n\.csv"):
        import_predictions(
            PredictionStore(tmp_path / "oof"),
            [read_predictions(full)],
            [read_predictions(full, for_test=True)],
        )


def test_test_ids_in_another_spelling_are_explained(tmp_path: Path) -> None:
    store = PredictionStore(tmp_path / "oof")
    store.save_folds(make_folds(KNOWN, TRUTH, k=3, seed=0))
    store.save_test_ids(np.array(["a.jpg", "b.jpg"], object))
    oof = read_predictions(save(tmp_path / "m.csv", rows()))
    for ids, message in (
        (["a", "b"], "the file ending"),
        (["'a.jpg'", "'b.jpg'"], "quotes or signs"),
        (["A.jpg", "b.JPG"], "upper and lower case"),
    ):
        path = save(tmp_path / "t.csv", pd.DataFrame({"id": ids, "pred": [0.5, 0.25]}))
        with pytest.raises(PredictionError, match=rf"covers 0 of 2 ids: .*only in {message}"):
            import_predictions(store, [oof], [read_predictions(path, for_test=True)])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1.25e18, 1.25e18, 2.5], "column 'id' is of type double; expected text or whole numbers"),
        (["1.25e+18", "1.25e+18", "a"], "Large numbers were rounded"),
        (["a", None, "b"], "1 of 3 are not non-empty text. Give each row an id"),
    ],
)
def test_ids_that_lost_their_value_are_explained(tmp_path: Path, ids: list[Any], message: str) -> None:
    path = save(tmp_path / "m.parquet", pd.DataFrame({"id": ids, "pred": [0.5, 0.25, 0.75]}))
    with pytest.raises(PredictionError, match=message):
        read_predictions(path)
