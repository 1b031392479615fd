"""Files of predictions in many formats: each is read exactly, and ambiguous columns are listed."""

import gzip
import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from oof.errors import PredictionError
from oof.exchange.importing import (
    ColumnChoice,
    PredictionFile,
    export_predictions,
    import_predictions,
    read_predictions,
)
from oof.folds import make_folds
from oof.store import PredictionStore

IDS = ["00012", "1e5", "a b", "x,y", 'q"t', "ü"]
VALUES = [0.1, 0.2, 0.3, 1e-7, 1.0, 0.25]


def zip_of(members: dict[str, bytes]) -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # of 1980: names of tests must not depend on the time
    return found.getvalue()


def table() -> pd.DataFrame:
    return pd.DataFrame({"id": IDS, "target": [0, 1, 0, 1, 1, 0], "kfold": [0, 0, 1, 1, 2, 2], "lr_pred": VALUES})


def check(found: PredictionFile, model: str = "lr") -> None:
    assert found.ids.tolist() == IDS
    assert {name: values.tolist() for name, values in found.predictions.items()} == {model: VALUES}
    assert found.target is not None
    assert found.target.tolist() == [0, 1, 0, 1, 1, 0]
    assert found.folds[model].tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("quoting", [0, 1])
def test_csv_of_every_dialect_is_read_exactly(
    tmp_path: Path, sep: str, ending: str, encoding: str, quoting: Any
) -> None:
    path = tmp_path / "lr.csv"
    table().to_csv(path, sep=sep, lineterminator=ending, encoding=encoding, quoting=quoting, index=False)
    check(read_predictions(path))


def test_columns_between_spaces_and_a_gzip_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("id pred\n007 0.5\n1e5 0.25\n")
    found = read_predictions(tmp_path / "a.txt")
    assert found.ids.tolist() == ["007", "1e5"]
    with gzip.open(tmp_path / "lr.csv.gz", "wt") as file:
        table().to_csv(file, index=False)
    check(read_predictions(tmp_path / "lr.csv.gz"))


def test_an_unnamed_row_index_is_ignored(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "lr.csv", index=True)
    check(read_predictions(tmp_path / "lr.csv"))


def test_decimal_commas_are_read_between_semicolons(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;pred\na;0,5\nb;1e-3\n")
    assert read_predictions(tmp_path / "a.csv").predictions["a"].tolist() == [0.5, 0.001]


@pytest.mark.parametrize("kind", ["parquet", "feather", "npz"])
def test_binary_tables_are_read_exactly(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"lr.{kind}"
    if kind == "parquet":
        table().to_parquet(path)
    elif kind == "feather":
        table().to_feather(path)
    else:
        np.savez(path, **{name: np.array(column.tolist()) for name, column in table().items()})  # type: ignore[arg-type]
    check(read_predictions(path))


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view(), pa.large_binary(), pa.large_string(), None])
def test_text_of_every_arrow_type_is_read_exactly(tmp_path: Path, kind: Any) -> None:
    """Polars writes text to Feather files as views."""
    columns = {name: pa.array(column.tolist()) for name, column in table().items()}
    if kind is None:
        columns["id"] = pa.RunEndEncodedArray.from_arrays(range(1, len(IDS) + 1), IDS)
    else:
        is_bytes = pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
        columns["id"] = pa.array([id_.encode() if is_bytes else id_ for id_ in IDS], kind)
    with pa.ipc.new_file(tmp_path / "lr.arrow", pa.table(columns).schema) as file:
        file.write_table(pa.table(columns))
    check(read_predictions(tmp_path / "lr.arrow"))


def test_a_dictionary_of_views_is_text(tmp_path: Path) -> None:
    """Polars writes categories like this."""
    words = pa.DictionaryArray.from_arrays(pa.array(range(len(IDS)), pa.uint32()), pa.array(IDS, pa.string_view()))
    columns = {"id": words, "pred": pa.array(VALUES)}
    with pa.ipc.new_file(tmp_path / "lr.arrow", pa.table(columns).schema) as file:
        file.write_table(pa.table(columns))
    found = read_predictions(tmp_path / "lr.arrow")
    assert found.ids.tolist() == IDS
    assert found.predictions["lr"].tolist() == VALUES


@pytest.mark.parametrize("kind", [pa.binary(), pa.binary_view(), None])
def test_bytes_that_are_not_text_are_an_error_only_in_a_column_that_is_used(tmp_path: Path, kind: Any) -> None:
    """Data sets contain their images as bytes; some programs write hashes as ids."""
    bytes_ = pa.array([bytes([255, number]) for number in range(len(IDS))])
    bytes_ = bytes_.dictionary_encode() if kind is None else bytes_.cast(kind)
    for name, write in {"lr.parquet": pq.write_table, "lr.feather": feather.write_feather}.items():
        write(pa.table({"id": IDS, "pred": VALUES, "image": bytes_}), str(tmp_path / name))
        assert read_predictions(tmp_path / name).ids.tolist() == IDS
        write(pa.table({"id": bytes_, "pred": VALUES}), str(tmp_path / name))
        with pytest.raises(PredictionError, match="column 'id' is of type .*binary.*; expected text or whole numbers"):
            read_predictions(tmp_path / name)


@pytest.mark.parametrize("name", ["lr.zip", "lr.csv.zip"])
def test_a_zip_of_one_table_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("predictions/oof.csv", table().to_csv(index=False))
        archive.writestr("__MACOSX/predictions/._oof.csv", b"\0junk")
    check(read_predictions(tmp_path / name))


def test_categories_and_bytes_are_text(tmp_path: Path) -> None:
    frame = table().astype({"id": "category"})
    frame.to_parquet(tmp_path / "lr.parquet")
    check(read_predictions(tmp_path / "lr.parquet"))
    np.savez(tmp_path / "b.npz", id=np.array([b"01", b"02"]), pred=np.array([0.5, 0.25]))
    assert read_predictions(tmp_path / "b.npz").ids.tolist() == ["01", "02"]


def test_integer_ids_of_a_typed_file_become_text_and_are_reported(tmp_path: Path) -> None:
    pd.DataFrame({"id": [12, 7], "pred": [0.5, 0.25]}).to_parquet(tmp_path / "a.parquet")
    found = read_predictions(tmp_path / "a.parquet")
    assert found.ids.tolist() == ["12", "7"]
    assert found.notes == ("ids are numbers in column 'id'; their digits are used as text",)


def test_a_matrix_with_names_is_read_as_models_with_separate_folds(tmp_path: Path) -> None:
    oof = np.array([[0.1, 0.2], [0.3, np.nan], [0.5, 0.6]], np.float32)
    np.savez(
        tmp_path / "all.npz",
        id=np.array(["a", "b", "c"]),
        y=np.array([0, 1, 1]),
        models=np.array(["lr", "svd"]),
        oof=oof,
        fold=np.array([[0, 1], [1, -1], [0, 0]]),
    )
    found = read_predictions(tmp_path / "all.npz")
    assert list(found.predictions) == ["lr", "svd"]
    np.testing.assert_array_equal(found.predictions["svd"], oof[:, 1])
    assert found.folds["svd"].tolist() == [1, -1, 0]
    np.savez(tmp_path / "bare.npz", id=np.array(["a", "b", "c"]), oof=oof)
    assert list(read_predictions(tmp_path / "bare.npz").predictions) == ["bare.0", "bare.1"]


def test_one_npz_holds_oof_and_test_predictions(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "both.npz",
        image_name=np.array(["a", "b", "c"]),
        oof=np.array([0.5, 0.25, 0.125]),
        test_image_name=np.array(["x", "y"]),
        test_pred=np.array([0.75, 0.5]),
    )
    assert read_predictions(tmp_path / "both.npz").ids.tolist() == ["a", "b", "c"]
    test = read_predictions(tmp_path / "both.npz", for_test=True)
    assert test.ids.tolist() == ["x", "y"]
    assert test.predictions["both"].tolist() == [0.75, 0.5]


Arrays = dict[str, Any]


@pytest.mark.parametrize(
    ("more", "columns", "remedy"),
    [
        ({"test_id": ["x", "y"], "test": [0.75, 0.5]}, "test", "add --test {path} to import them"),
        ({"test_names": ["x", "y"], "test_preds": [0.75, 0.5]}, "test_preds", "add --test {path} to import them"),
        ({"sub_id": ["x", "y"], "submission": [0.75, 0.5]}, "submission", "add --test {path} to import them"),
        ({"test_preds": [0.75, 0.5]}, "test_preds", "save the ids of the test rows in it as test_id, then add --test"),
    ],
)
def test_test_predictions_beside_those_of_training_rows_are_mentioned(
    tmp_path: Path, more: Arrays, columns: str, remedy: str
) -> None:
    path = tmp_path / "both.npz"
    oof = np.random.default_rng(0).random(20)
    arrays: Arrays = {"id": np.array([f"r{row}" for row in range(20)]), "train_target": np.arange(20) % 2, "oof": oof}
    np.savez(path, **arrays, **more)
    store = PredictionStore(tmp_path / "store")
    (note,) = [note for note in import_predictions(store, [read_predictions(path)]).notes if "not imported" in note]
    assert f"both.npz also contains test predictions ({columns}), which were not imported" in note
    assert remedy.format(path=path) in note
    if "test_id" in remedy:
        with pytest.raises(PredictionError, match="Save the ids of the test rows, too, as test_id"):
            read_predictions(path, for_test=True)
        return
    tests = [read_predictions(path, for_test=True)]
    report = import_predictions(store, [read_predictions(path)], tests)
    assert not any("not imported" in note for note in report.notes)
    np.testing.assert_array_equal(store.load("both").test, np.array([0.75, 0.5], np.float32))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"test_id": list("vwxyz"), "test": np.eye(3, 5)}, "'test' has shape (3, 5)"),
        ({"test_id": list("vwxyz"), "test": np.eye(1, 5)}, "'test' has shape (1, 5)"),
        ({"test_id": np.arange(5), "test": np.eye(3, 5)}, "'test' has shape (3, 5)"),
        ({"test_names": list("vwxyz"), "test_preds": np.eye(3, 5)}, "save test_preds.mean(axis=0) if they are fold"),
        ({"test_id": list("vwxyz"), "test": np.eye(2, 5), "models": ["a", "b"]}, "or test.T if they are different"),
        ({"test_id": list("vwxyz"), "test": np.ones((3, 5, 1))}, "'test' has shape (3, 5, 1). Expected one value for"),
    ],
)
def test_a_row_for_each_fold_model_is_a_question_that_leaves_the_oof_predictions_alone(
    tmp_path: Path, arrays: Arrays, message: str
) -> None:
    path, oof = tmp_path / "m.npz", np.random.default_rng(0).random(20)
    np.savez(path, id=np.array([f"r{row}" for row in range(20)]), y=np.arange(20) % 2, oof=oof, **arrays)
    with pytest.raises(PredictionError, match=re.escape(message)):
        read_predictions(path, for_test=True)
    table = read_predictions(path)
    np.testing.assert_array_equal(table.predictions["m"], oof)
    (name,) = [name for name in arrays if name in ("test", "test_preds")]
    assert table.roles.tests == (name,)
    np.savez(tmp_path / "t.npz", **arrays)  # the same in a file of test predictions alone
    with pytest.raises(PredictionError, match=re.escape(message)):
        read_predictions(tmp_path / "t.npz", for_test=True)


def test_a_row_for_each_seed_is_a_question_and_a_column_for_each_is_not(tmp_path: Path) -> None:
    path, oof = tmp_path / "m.npz", np.random.default_rng(0).random((3, 20))
    ids = np.array([f"r{row}" for row in range(20)])
    height = np.linspace(0.5, 1.25, 20)
    np.savez(path, id=ids, y=np.arange(20) % 2, height=height, oof=oof)
    with pytest.raises(PredictionError, match=re.escape("'oof' has shape (3, 20)")) as error:
        read_predictions(path)
    assert "by the one that was trained without it" in str(error.value)
    with pytest.raises(PredictionError, match=re.escape("'oof' has shape (3, 20)")):
        read_predictions(path, ColumnChoice(predictions=("oof",)))
    assert read_predictions(path, ColumnChoice(predictions=("height",))).predictions["m"].tolist() == height.tolist()
    np.savez(path, id=ids, y=np.arange(20) % 2, oof=oof.T, nets=["a", "b", "c"])
    assert list(read_predictions(path).predictions) == ["a", "b", "c"]


@pytest.mark.parametrize("for_test", [True, False])
def test_a_text_column_called_test_is_not_taken_for_ids(tmp_path: Path, for_test: bool) -> None:
    path = write(tmp_path / "a.csv", "id,pred,testset", "r1,0.5,yes", "r2,0.25,no")
    assert read_predictions(path, for_test=for_test).ids.tolist() == ["r1", "r2"]


def write(path: Path, header: str, *lines: str) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_several_prediction_columns_are_several_models(tmp_path: Path) -> None:
    path = write(tmp_path / "wide.csv", "id,target,fold,conv next,vit", "a,0,0,0.5,0.1", "b,1,1,0.7,0.2")
    assert list(read_predictions(path).predictions) == ["conv-next", "vit"]
    assert list(read_predictions(path, name="my").predictions) == ["my.conv-next", "my.vit"]


@pytest.mark.parametrize(
    ("file", "model"),
    [
        ("oof_b7.csv", "b7"),
        ("b7_oof.csv", "b7"),
        ("b7-380.test.csv", "b7-380"),
        ("oof.csv", "oof"),
        ("ä b.csv", "b"),
        ("b7_oof_preds.csv", "b7"),
        ("b7-test-predictions.csv", "b7"),
        ("b7_OOF_prediction.csv", "b7"),
        ("train_preds_b7.csv", "b7"),
        ("b7_protest.csv", "b7_protest"),
    ],
)
def test_a_model_is_named_after_its_file(tmp_path: Path, file: str, model: str) -> None:
    assert list(read_predictions(write(tmp_path / file, "id,pred", "a,0.5")).predictions) == [model]


def test_the_id_column_is_found_by_known_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "frame,clip,pred", "1,x,0.5", "2,y,0.25")
    known = np.array(["1", "2", "3"], object)
    assert read_predictions(path, known_ids=known).ids.tolist() == ["1", "2"]
    assert read_predictions(path).ids.tolist() == ["x", "y"]
    assert read_predictions(path, ColumnChoice(id="frame")).ids.tolist() == ["1", "2"]


def test_a_binary_column_of_any_name_is_the_target_and_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,sentiment,kfold,pred", "a,0,0,0.5", "b,1,1,0.25")
    found = read_predictions(path)
    assert found.target is not None
    assert found.target.tolist() == [0, 1]
    assert found.notes == ("'sentiment' is used as target",)
    assert read_predictions(path, ColumnChoice(target="none")).target is None


@pytest.mark.parametrize("name", ["target", "label", "class", "y"])
@pytest.mark.parametrize("words", [("0", "1"), ("real", "fake"), ("1.0", "0.0")])
def test_a_target_that_is_not_compared_is_no_prediction(tmp_path: Path, name: str, words: tuple[str, str]) -> None:
    """A blend would give labels the largest weight."""
    rows = [f"{row},{words[row % 2]},{row / 10}" for row in range(9)]
    path = write(tmp_path / "a.csv", f"id,{name},pred", *rows)
    found = read_predictions(path, ColumnChoice(target="none"))
    assert found.target is None
    assert list(found.predictions) == ["a"]
    assert found.predictions["a"].tolist() == [row / 10 for row in range(9)]
    only = write(tmp_path / "b.csv", f"id,{name}", *(row.rsplit(",", 1)[0] for row in rows))
    with pytest.raises(PredictionError, match="None of id, .* looks like predictions"):
        read_predictions(only, ColumnChoice(target="none"))


def test_empty_and_na_are_missing_predictions(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,pred", "a,", "NA,0.5", "c, nan ", "d,NA", "e,1e-3")
    found = read_predictions(path)
    assert found.ids.tolist() == ["a", "NA", "c", "d", "e"]  # as an id, NA is text
    assert np.isnan(found.predictions["a"]).tolist() == [True, False, True, True, False]


@pytest.mark.parametrize("kind", ["csv", "parquet", "feather", "npz"])
def test_ids_that_look_like_missing_values_stay_text(tmp_path: Path, kind: str) -> None:
    ids = np.array(["NA", "nan", "None", "null", "N/A", "<NA>", "7", "8"], object)
    store = PredictionStore(tmp_path / "oof")
    store.save_folds(make_folds(ids, np.arange(8) % 2, k=2, seed=0))
    frame = pd.DataFrame({"id": ids, "pred": np.arange(8) / 10})
    import_predictions(store, [read_predictions(write(tmp_path / "m.csv", *frame.to_csv(index=False).splitlines()))])
    assert store.load("m").oof.tolist() == frame["pred"].to_numpy(np.float32).tolist()
    export_predictions(store, tmp_path / f"wide.{kind}")
    found = read_predictions(tmp_path / f"wide.{kind}", known_ids=ids)
    assert found.ids.tolist() == ids.tolist()


def test_na_as_the_label_of_a_class_is_reported(tmp_path: Path) -> None:
    rows = [f"r{row},{('NA', 'fake')[row % 2]},{0.5 + row / 20}" for row in range(8)]
    (note,) = read_predictions(write(tmp_path / "m.csv", "id,target,pred", *rows)).notes
    assert note == "4 of 8 values of the target 'target' are missing (empty, NA, …) and are not compared"
    with pytest.raises(PredictionError, match="'score' .* the confidence in the class in 'prediction'"):
        read_predictions(write(tmp_path / "m.csv", "id,prediction,score", *rows), for_test=True)


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        ("id,width,height", "a,3,4", r"which column contains the predictions\? Candidates are width, height"),
        ("id,name,colour", "a,b,c", "None of id, name, colour looks like predictions.*--prediction-column"),
        ("id,pred_a,pred_b,vit", "a,0.5,0.5,0.5", "Candidates are pred_a, pred_b, vit"),
        ("u,v,pred", "a,b,0.5", r"which column contains the ids\? Its columns are u, v, pred.*--id-column"),
        ("id,pred,pred", "a,0.5,0.5", "appear more than once in the header: pred"),
        ("id", "a", "has only the column 'id'"),
    ],
)
def test_ambiguous_columns_are_listed(tmp_path: Path, header: str, line: str, message: str) -> None:
    with pytest.raises(PredictionError, match=message):
        read_predictions(write(tmp_path / "a.csv", header, line))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,pred", "a,0.5")
    for choice in (ColumnChoice(id="x"), ColumnChoice(predictions=("x",)), ColumnChoice(target="x")):
        with pytest.raises(PredictionError, match="has no column 'x'; it has id, pred"):
            read_predictions(path, choice)


def test_a_word_among_the_predictions_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,pred", "a,0.5", "b,high")
    with pytest.raises(PredictionError, match="1 of 2 values of column 'pred' are not numbers: 'high'"):
        read_predictions(path, ColumnChoice(predictions=("pred",)))


def test_the_option_for_a_column_that_is_not_numeric_is_named(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.csv", "id,target,pred", "a,maybe,0.5", "b,0,0.25")
    with pytest.raises(PredictionError, match="1 of 2 values of column 'target' are not numbers.* --target-column"):
        read_predictions(labels, ColumnChoice(target="target"))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["fold_0", "fold_2", "fold_10"], [0, 2, 10]),
        (["fold0", "FOLD2", " fold1 "], [0, 2, 1]),
        (["Fold 1", "Fold 2", ""], [1, 2, np.nan]),
        (["f1", "nan", "f5"], [1, np.nan, 5]),
        (["r2 fold-1", "r2 fold-2", "r2 fold-3"], [1, 2, 3]),
        (["1", "2.0", ""], [1, 2, np.nan]),
    ],
)
def test_folds_are_read_from_numbers_and_numbered_labels(
    tmp_path: Path, labels: list[str], expected: list[float]
) -> None:
    rows = [f"{id_},{label},0.{digit}" for id_, label, digit in zip("abc", labels, "257", strict=True)]
    table = read_predictions(write(tmp_path / "m.csv", "id,fold,pred", *rows))
    np.testing.assert_array_equal(table.folds["m"], expected)


@pytest.mark.parametrize(
    "labels",
    [
        ["fold_0", "f_1"],
        ["r0_f1", "r1_f1"],
        ["train", "valid"],
        ["fold_0", "1"],
        ["fold_1", "fold_01"],
        ["fold_0", "fold_x"],
        ["1/5", "2/5"],
        ["fold_1.5", "fold_2.5"],
    ],
)
def test_labels_that_may_be_other_folds_are_a_question(tmp_path: Path, labels: list[str]) -> None:
    rows = [f"{id_},{label},0.{digit}" for id_, label, digit in zip("ab", labels, "25", strict=True)]
    with pytest.raises(
        PredictionError,
        match=r"column 'fold' contains other values than folds: '.*Expected numbers such as 0, or labels of one prefix "
        r"and a number such as fold_0\. Correct them, or name another column with --fold-column\.",
    ):
        read_predictions(write(tmp_path / "m.csv", "id,fold,pred", *rows))


def test_duplicate_ids_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,pred", "a,0.5", "b,0.5", "a,0.25")
    with pytest.raises(PredictionError, match="1 of 3 ids are duplicate: a"):
        read_predictions(path)


@pytest.mark.parametrize(
    "change", ["cr", "blank line", "utf-16", "zip", "zip named csv", "gzip named csv", "1400 models"]
)
def test_ordinary_files_of_other_programs_are_read(tmp_path: Path, change: str) -> None:
    text = "id,pred\na,0.5\nb,0.25\n"
    path = tmp_path / "m.csv"
    if change.startswith("zip"):
        path = tmp_path / ("m.csv.zip" if change == "zip" else "m.csv")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("m.csv", text)
            archive.writestr("__MACOSX/m.csv", "x")
    elif change == "gzip named csv":
        path.write_bytes(gzip.compress(text.encode()))
    elif change == "1400 models":
        names = [f"tf_efficientnetv2_b{k % 8}.in1k_fold{k % 5}_seed{k}_512px_tta8" for k in range(1400)]
        path.write_text(f"id,{','.join(names)}\na{',0.5' * 1400}\nb{',0.25' * 1400}\n")
    else:
        changed = {"cr": text.replace("\n", "\r"), "blank line": "\n \n" + text}.get(change, text)
        path.write_bytes(changed.encode("utf-16" if change == "utf-16" else "utf-8"))
    found = read_predictions(path)
    assert found.ids.tolist() == ["a", "b"]
    assert [values.tolist() for values in found.predictions.values()] == [[0.5, 0.25]] * len(found.predictions)
    assert len(found.predictions) == (1400 if change == "1400 models" else 1)


def test_a_binary_file_is_recognised_by_its_bytes_and_read_in_any_byte_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.csv.npz", id=np.array(["a", "b"]), pred=np.array([0.5, 0.25], ">f4"))
    (tmp_path / "m.csv.npz").rename(tmp_path / "m.csv")
    pd.DataFrame({"id": ["a", "b"], "pred": [0.5, 0.25]}).to_parquet(tmp_path / "m.feather")
    for name in ("m.csv", "m.feather"):
        assert read_predictions(tmp_path / name).predictions["m"].tolist() == [0.5, 0.25]


def test_a_score_next_to_the_matrix_is_ignored(tmp_path: Path) -> None:
    oof = np.array([[0.5, 0.1], [0.25, 0.3], [0.75, 0.2]])
    np.savez(tmp_path / "m.npz", id=np.array(["a", "b", "c"]), oof=oof, auc=np.float64(0.9))
    assert list(read_predictions(tmp_path / "m.npz").predictions) == ["m.0", "m.1"]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_decimal_commas_are_read_with_every_delimiter_but_a_comma(tmp_path: Path, delimiter: str) -> None:
    table = pd.DataFrame({"id": ["a", "b"], "pred": [0.5, 0.25]})
    table.to_csv(tmp_path / "m.csv", index=False, sep=delimiter, decimal=",")
    assert read_predictions(tmp_path / "m.csv").predictions["m"].tolist() == [0.5, 0.25]
