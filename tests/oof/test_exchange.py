"""Import and export: rows are joined by id, and everything is checked before anything is written."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from oof.errors import ConfigError, FoldError, PredictionError
from oof.exchange.importing import (
    ColumnChoice,
    export_predictions,
    folds_of,
    import_predictions,
    read_fold_table,
    read_predictions,
)
from oof.folds import Folds, make_folds
from oof.store import PredictionStore

N = 60


def frame(seed: int = 0, rows: int = N) -> pd.DataFrame:
    """A file of one model, in its own row order and with its own folds."""
    rng = np.random.default_rng(seed)
    target = np.arange(N) % 2
    table = pd.DataFrame(
        {
            "id": [f"{i:05d}" for i in range(N)],
            "target": target,
            "fold": np.arange(N) // 2 % 3,
            "pred": np.round(rng.random(N) * 0.6 + 0.4 * target, 3),
        }
    )
    if seed:
        table["fold"] = rng.permutation(table["fold"])
    return table.sample(frac=1, random_state=seed).iloc[:rows]


def save(path: Path, table: pd.DataFrame) -> Path:
    table.to_csv(path, index=False)
    return path


@pytest.fixture
def store(tmp_path: Path) -> PredictionStore:
    return PredictionStore(tmp_path / "work" / "oof")


def with_folds(store: PredictionStore) -> PredictionStore:
    table = frame()
    store.save_folds(make_folds(table["id"].to_numpy(object), table["target"].to_numpy(), k=5, seed=0))
    return store


def test_a_file_for_each_fold_is_one_model(store: PredictionStore, tmp_path: Path) -> None:
    parts = [part for _, part in frame().groupby("fold")]
    tables = [read_predictions(save(tmp_path / f"net_fold{row}.csv", part)) for row, part in enumerate(parts)]
    with pytest.raises(PredictionError, match=r"net_fold0.csv, .*net_fold2.csv have no row in common, so they are the"):
        import_predictions(with_folds(store), tables)
    assert import_predictions(with_folds(store), tables[:1]).models == ["net_fold0"]
    others = [read_predictions(save(tmp_path / f"m{row}.csv", frame(row))) for row in range(2)]
    assert import_predictions(store, others).models == ["m0", "m1"]  # the same rows


def test_test_ids_that_are_those_of_training_rows_are_reported(store: PredictionStore, tmp_path: Path) -> None:
    oof = read_predictions(save(tmp_path / "net.csv", frame()))
    rows = frame()[["id", "pred"]].assign(pred=lambda table: table["pred"] * 0.9)
    tests = read_predictions(save(tmp_path / "net_test.csv", rows.iloc[:20]), for_test=True)
    warnings = import_predictions(with_folds(store), [oof], [tests]).warnings
    assert any(text.startswith("20 of 20 ids in net_test.csv are also ids of training rows: ") for text in warnings)


def test_files_in_any_order_are_joined_by_id(store: PredictionStore, tmp_path: Path) -> None:
    tables = [read_predictions(save(tmp_path / f"m{seed}.csv", frame(seed))) for seed in range(3)]
    report = import_predictions(with_folds(store), tables)
    assert report.models == ["m0", "m1", "m2"]
    for seed in range(3):
        expected = frame(seed).set_index("id")["pred"].loc[list(store.folds.ids)]
        np.testing.assert_array_equal(store.load(f"m{seed}").oof, expected.to_numpy(np.float32))


def test_without_folds_those_of_the_largest_file_are_used(store: PredictionStore, tmp_path: Path) -> None:
    half, whole = frame(1, 30), frame(2)
    tables = [read_predictions(save(tmp_path / f"{name}.csv", t)) for name, t in [("half", half), ("whole", whole)]]
    report = import_predictions(store, tables)
    assert store.folds.fold.tolist() == whole["fold"].tolist()
    assert store.folds.target.tolist() == whole["target"].tolist()
    assert store.folds.how["source"] == "whole.csv"
    assert "There were no folds: 3 folds of 60 rows read from whole.csv." in report.notes
    assert report.rows == {"half": 30, "whole": 60}
    assert store.summary("half").oof_rows == 30
    details = store.load("half").details["folds"]
    assert sum(details["rows"].values()) == 30
    assert details["as_in_store"] is False
    assert store.load("whole").details["folds"]["as_in_store"] is True
    (warning,) = report.warnings
    assert warning.startswith("half: predicted with other folds than those of the store")


def test_without_a_fold_column_folds_are_made_and_reported(store: PredictionStore, tmp_path: Path) -> None:
    table = read_predictions(save(tmp_path / "a.csv", frame().drop(columns="fold")))
    report = import_predictions(store, [table], k=4, seed=7)
    assert store.folds.k == 4
    assert report.notes == ["There were no folds: 4 folds of 60 rows made for the rows of a.csv."]


def test_folds_come_from_the_file_that_is_named(store: PredictionStore, tmp_path: Path) -> None:
    source = frame()[["id", "target", "fold"]].assign(group=[f"g{i // 2}" for i in range(N)])
    source["fold"] = np.arange(N) // 2 % 3
    path = save(tmp_path / "folds.csv", source)
    table = read_predictions(save(tmp_path / "a.csv", frame()[["id", "pred"]]))
    import_predictions(store, [table], folds_from=read_fold_table(path))
    assert store.folds.fold.tolist() == source["fold"].tolist()
    assert store.folds.groups is not None
    assert store.folds.groups.tolist() == source["group"].tolist()
    with pytest.raises(FoldError, match="There are folds already"):
        import_predictions(store, [table], folds_from=read_fold_table(path))


def test_an_import_that_was_killed_after_it_wrote_the_folds_resumes(store: PredictionStore, tmp_path: Path) -> None:
    source = frame()[["id", "target", "fold"]]
    path, other = save(tmp_path / "folds.csv", source), save(tmp_path / "other.csv", source.assign(fold=[0, 1] * 30))
    table = read_predictions(save(tmp_path / "a.csv", frame()[["id", "pred"]]))
    store.save_folds(folds_of([read_fold_table(path)]))
    with pytest.raises(FoldError, match="There are folds already"):
        import_predictions(store, [table], folds_from=read_fold_table(other))
    assert import_predictions(store, [table], folds_from=read_fold_table(path)).models == ["a"]


def test_a_model_with_a_file_that_cannot_be_read_can_be_imported_again(store: PredictionStore, tmp_path: Path) -> None:
    """The message about such a file says to do so."""
    table = read_predictions(save(tmp_path / "a.csv", frame()))
    import_predictions(store, [table])
    before = store.fingerprint("a")
    path = store.models_dir / "a" / "oof.all.parquet"
    path.write_bytes(path.read_bytes()[:100])
    assert import_predictions(store, [table]).models == ["a"]
    assert store.fingerprint("a") == before


def test_labels_of_folds_are_compared_as_their_numbers(store: PredictionStore, tmp_path: Path) -> None:
    number = frame()
    label = number.assign(fold=[f"fold_{fold + 1}" for fold in number["fold"]])
    other = label.assign(fold=label["fold"].to_numpy()[::-1])
    import_predictions(store, [read_predictions(save(tmp_path / "a.csv", number))])
    report = import_predictions(
        store,
        [
            read_predictions(save(tmp_path / f"{name}.csv", table))
            for name, table in (("same", label), ("other", other))
        ],
    )
    assert store.load("same").details["folds"] == {"rows": {"1": 20, "2": 20, "3": 20}, "as_in_store": True}
    assert [warning.partition(":")[0] for warning in report.warnings] == ["other"]


@pytest.mark.parametrize("missing", ["", "nan", "None", "NA", "<NA>"])
def test_rows_without_a_group_are_not_one_group(store: PredictionStore, tmp_path: Path, missing: str) -> None:
    groups = [missing if row % 3 == 0 else f"g{row // 6}" for row in range(N)]
    source = frame().drop(columns="fold").sort_values("id").assign(group=groups)
    report = import_predictions(store, [read_predictions(save(tmp_path / "a.csv", source))])
    assert store.folds.groups is not None
    found = dict(zip(store.folds.ids.tolist(), store.folds.groups.tolist(), strict=True))
    assert found == {f"{row:05d}": f"row {row:05d}" if row % 3 == 0 else f"g{row // 6}" for row in range(N)}
    assert (
        report.notes[-1]
        == "20 of 60 rows have no value in the column of groups, 'group', so each of them is its own group."
    )
    empty = read_predictions(save(tmp_path / "empty.csv", source.assign(group=missing)))
    with pytest.raises(
        FoldError, match=r"column 'group' has no value in any of the 60 rows, so it groups nothing\. .*--group-column"
    ):
        import_predictions(PredictionStore(tmp_path / "other"), [empty])


def test_training_and_test_rows_in_one_file_are_named(store: PredictionStore, tmp_path: Path) -> None:
    import_predictions(store, [read_predictions(save(tmp_path / "a.csv", frame()))])
    store.save_test_ids(np.array(["t0", "t1", "t2"], object))
    tests = pd.DataFrame({"id": ["t1", "t0"], "pred": [0.25, 0.5]})
    stacked = read_predictions(save(tmp_path / "both.csv", pd.concat([frame()[["id", "pred"]], tests])))
    with pytest.raises(
        PredictionError,
        match=r"2 of 62 rows are rows to predict \(test ids\): t1, t0\. Expected training rows only\. Save training "
        r"rows and test rows in two files, then run dfens oof import NAME --oof FILE --test FILE\.",
    ):
        import_predictions(store, [stacked])
    assert store.names() == ["a"]


def test_impossible_folds_are_refused(store: PredictionStore, tmp_path: Path) -> None:
    table = read_predictions(save(tmp_path / "a.csv", frame()[["id", "pred"]]))
    with pytest.raises(PredictionError, match="no folds yet, and no target column to make them from in a.csv"):
        import_predictions(store, [table])
    table = read_predictions(save(tmp_path / "b.csv", frame().assign(target=lambda t: t["pred"] * 100)))
    with pytest.raises(PredictionError, match="neither 0 nor 1.*fit_blend on arrays"):
        import_predictions(store, [table])
    table = read_predictions(save(tmp_path / "c.csv", frame().assign(fold=-1)))
    with pytest.raises(FoldError, match="fold -1 of id '.*' is not a non-negative integer"):
        import_predictions(store, [table])
    assert not store.root.exists()


def test_targets_that_disagree_are_named_with_ids_and_nothing_is_stored(store: PredictionStore, tmp_path: Path) -> None:
    wrong = frame(1)
    wrong["target"] = 1 - wrong["target"].where(wrong["id"].isin(["00003", "00004"]), 1 - wrong["target"])
    tables = [read_predictions(save(tmp_path / f"{n}.csv", t)) for n, t in [("a", frame()), ("b", wrong)]]
    with pytest.raises(
        PredictionError, match=r"b.csv: the target disagrees .* for 2 of 60 ids: '0000[34]' \([01], not"
    ):
        import_predictions(with_folds(store), tables)
    assert store.list() == []


def test_ids_that_are_not_training_rows_are_named(store: PredictionStore, tmp_path: Path) -> None:
    table = read_predictions(save(tmp_path / "a.csv", frame().assign(id=lambda t: t["id"].str[1:])))
    with pytest.raises(PredictionError, match=r"in column 'id' are not training rows: .*Training ids look like 000"):
        import_predictions(with_folds(store), [table])


def test_two_files_of_one_model_name_are_named(store: PredictionStore, tmp_path: Path) -> None:
    tables = [read_predictions(save(tmp_path / f"{n}.csv", frame())) for n in ("oof_a", "a")]
    with pytest.raises(PredictionError, match="oof_a.csv and .*a.csv would both become the model 'a'"):
        import_predictions(with_folds(store), tables)


def test_nan_counts_as_missing_and_is_reported(store: PredictionStore, tmp_path: Path) -> None:
    table = frame()
    table.iloc[:7, 3] = np.nan
    report = import_predictions(with_folds(store), [read_predictions(save(tmp_path / "a.csv", table))])
    assert report.notes == ["a: 7 of 60 predictions are empty or NaN and are treated as missing."]
    assert report.rows == {"a": 53}
    assert store.summary("a").oof_rows == 53


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        (lambda t: 0.5, "all predictions are 0.5, so they contain no information"),
        (lambda t: (t["pred"] > 0.5).astype(float), "only two different values"),
        (lambda t: 1 - t["pred"], "inverted, or rows and ids do not match"),
        (lambda t: t["target"] * 0.5 + 0.1 * t["pred"], "AUC 1.000000 is implausibly high"),
        (lambda t: 1 - (1 - t["pred"]) * 1e-9, "predictions are stored as float32"),
    ],
)
def test_probable_mistakes_are_warnings(store: PredictionStore, tmp_path: Path, values: Any, warning: str) -> None:
    path = save(tmp_path / "a.csv", frame().assign(pred=values))
    report = import_predictions(with_folds(store), [read_predictions(path, ColumnChoice(predictions=("pred",)))])
    assert any(warning in text for text in report.warnings)
    assert "a" in store


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.inf, "predicts inf for id '"),
        (np.nan, "has no predictions: all"),
        (1e300, "values beyond float32"),
    ],
)
def test_predictions_that_cannot_be_stored_are_errors(
    store: PredictionStore, tmp_path: Path, value: float, message: str
) -> None:
    table = frame().assign(pred=lambda t: t["pred"] * value if value != np.inf else np.inf)
    path = save(tmp_path / "a.csv", table)
    with pytest.raises(PredictionError, match=message):
        import_predictions(with_folds(store), [read_predictions(path, ColumnChoice(predictions=("pred",)))])
    assert store.list() == []


def test_test_predictions_are_joined_to_their_models(store: PredictionStore, tmp_path: Path) -> None:
    tables = [read_predictions(save(tmp_path / f"m{seed}.csv", frame(seed))) for seed in range(3)]
    first = save(tmp_path / "m0_test.csv", pd.DataFrame({"id": ["z", "y", "x"], "pred": [0.5, 0.25, 0.125]}))
    second = save(tmp_path / "m1_test.csv", pd.DataFrame({"id": ["x", "y", "z"], "pred": [0.75, 0.5, 1.0]}))
    tests = [read_predictions(path, for_test=True) for path in (first, second)]
    report = import_predictions(with_folds(store), tables, tests)
    assert store.test_ids.tolist() == ["z", "y", "x"]
    found = store.load("m1").test
    assert found is not None
    assert found.tolist() == [1.0, 0.5, 0.75]
    assert report.with_test == ["m0", "m1"]
    assert "m2: no test predictions." in report.notes
    assert not store.summary("m2").has_test


def test_files_named_after_models_and_their_parts_are_matched(store: PredictionStore, tmp_path: Path) -> None:
    oof = [read_predictions(save(tmp_path / f"m{seed}_oof_preds.csv", frame(seed))) for seed in range(2)]
    rows = [pd.DataFrame({"id": ["t0", "t1"], "pred": [0.1 + seed, 0.2]}) for seed in range(2)]
    tests = [
        read_predictions(save(tmp_path / f"m{seed}_test_predictions.csv", rows[seed]), for_test=True) for seed in (1, 0)
    ]
    report = import_predictions(with_folds(store), oof, tests)
    assert report.with_test == ["m0", "m1"]
    found = store.load("m1").test
    assert found is not None
    assert found.tolist() == np.array([1.1, 0.2], np.float32).tolist()


def test_one_model_on_each_side_needs_no_name(store: PredictionStore, tmp_path: Path) -> None:
    oof = read_predictions(save(tmp_path / "a.csv", frame()), name="mine")
    test = read_predictions(save(tmp_path / "sub.csv", pd.DataFrame({"id": ["x", "y"], "p": [0.5, 0.25]})))
    import_predictions(with_folds(store), [oof], [test])
    assert store.summary("mine").complete


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (pd.DataFrame({"id": ["x"], "pred": [0.5]}), "covers 1 of 2 ids; missing y"),
        (pd.DataFrame({"id": ["x", "y", "w"], "pred": [0.5] * 3}), "1 ids that are not expected: w"),
        (pd.DataFrame({"id": ["x", "y"], "pred": [0.5, np.nan]}), "test prediction of 'a' for id 'y' is nan"),
        (
            pd.DataFrame({"id": ["x", "y"], "b": [0.5, 0.1], "c": [0.5, 0.1]}),
            "2 columns of test predictions for one model, 'a': b, c",
        ),
    ],
)
def test_wrong_test_predictions_are_named(
    store: PredictionStore, tmp_path: Path, test: pd.DataFrame, message: str
) -> None:
    with_folds(store).save_test_ids(np.array(["x", "y"], object))
    oof = read_predictions(save(tmp_path / "a.csv", frame()))
    path = save(tmp_path / "t.csv", test)
    with pytest.raises(PredictionError, match=message):
        import_predictions(store, [oof], [read_predictions(path, for_test=True)])
    assert store.list() == []


def test_one_class_is_named_as_the_cause(store: PredictionStore, tmp_path: Path) -> None:
    for table in (frame().assign(target=1), frame().assign(target=1, fold=0)):
        with pytest.raises(PredictionError, match="rows have the target 1 in column 'target', but both classes"):
            import_predictions(store, [read_predictions(save(tmp_path / "a.csv", table))])
    assert not store.has_folds()


def test_test_predictions_of_unknown_models_are_named(store: PredictionStore, tmp_path: Path) -> None:
    with_folds(store)
    both = [read_predictions(save(tmp_path / f"{name}.csv", frame())) for name in "ab"]
    tests = pd.DataFrame({"id": ["x", "y"], "b": [0.5, 0.1], "c": [0.5, 0.1]})
    with pytest.raises(PredictionError, match="Test predictions of c belong to no model of this import"):
        import_predictions(store, both, [read_predictions(save(tmp_path / "t.csv", tests), for_test=True)])


def test_importing_again_changes_nothing_or_archives(store: PredictionStore, tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", frame())
    import_predictions(with_folds(store), [read_predictions(path)])
    report = import_predictions(store, [read_predictions(path)])
    assert report.notes == ["a: the same predictions are already stored."]
    assert not store.archive_dir.exists()
    save(path, frame().assign(pred=lambda t: t["pred"] / 2))
    report = import_predictions(store, [read_predictions(path)])
    assert "The earlier 'a' was moved to" in report.notes[0]
    assert len(list(store.archive_dir.iterdir())) == 1


def test_predictions_that_an_import_does_not_replace_are_named(store: PredictionStore, tmp_path: Path) -> None:
    table = read_predictions(save(tmp_path / "a.csv", frame()))
    tests = pd.DataFrame({"id": [f"t{row}" for row in range(20)], "pred": np.linspace(0, 1, 20)})
    test = read_predictions(save(tmp_path / "a_test.csv", tests), name="a", for_test=True)
    import_predictions(store, [table], [test])
    report = import_predictions(store, [table])
    assert (
        "a: the earlier model had predictions of the test rows, which this one lacks. Import it again with --test FILE."
        in report.warnings
    )
    assert not any("lacks" in warning for warning in import_predictions(store, [table], [test]).warnings)
    assert store.load("a").test is not None


@pytest.mark.parametrize("others", [("A",), ("b", "B")])
def test_names_that_differ_only_in_case_are_refused(
    store: PredictionStore, tmp_path: Path, others: tuple[str, ...]
) -> None:
    table = read_predictions(save(tmp_path / "x.csv", frame()), name="a")
    import_predictions(with_folds(store), [table])
    tables = [read_predictions(table.path, name=other) for other in others]
    with pytest.raises(ConfigError, match=rf"'{others[-1]}' and '[ab]' differ only in case"):
        import_predictions(store, tables)
    assert store.names() == ["a"]


def test_a_model_trained_here_is_replaced_only_on_request(store: PredictionStore, tmp_path: Path) -> None:
    with_folds(store).save_model("a", "timm", {})
    store.save_oof("a", store.folds.ids[store.folds.rows(0)], np.zeros(len(store.folds.rows(0))), fold=0)
    table = read_predictions(save(tmp_path / "a.csv", frame()))
    with pytest.raises(PredictionError, match="'a' was trained here .kind timm.*--replace"):
        import_predictions(store, [table])
    import_predictions(store, [table], replace=True)
    assert store.summary("a").kind == "import"


@pytest.mark.parametrize("kind", ["csv", "parquet", "feather", "npz"])
def test_exports_are_read_back_bit_for_bit(store: PredictionStore, tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    with_folds(store).save_test_ids(np.array(["01", "1e5"], object))
    for name in ("a", "b.c"):
        oof = rng.random(N, np.float32)
        oof[:3] = np.nan if name == "a" else 0.5
        store.save(name, store.folds.ids, oof, rng.random(2, np.float32))
    out, test = tmp_path / f"wide.{kind}", tmp_path / f"wide_test.{kind}"
    assert export_predictions(store, out) == ["a", "b.c"]
    export_predictions(store, test, part="test")
    other = PredictionStore(tmp_path / "other")
    import_predictions(other, [read_predictions(out)], [read_predictions(test, for_test=True)])
    assert other.folds.fingerprint == store.folds.fingerprint
    for name in ("a", "b.c"):
        assert other.fingerprint(name) == store.fingerprint(name)


@pytest.mark.parametrize("kind", ["csv", "parquet", "feather", "npz"])
def test_ids_with_carriage_returns_are_read_back(tmp_path: Path, kind: str) -> None:
    ids = np.array(["a\rb", "c\r", '"\r', "d,", "e\r\n", "f"], object)
    store, out = PredictionStore(tmp_path / "store"), tmp_path / f"wide.{kind}"
    store.save_folds(Folds(ids, np.array([0, 1, 0, 1, 0, 1], np.int8), np.array([0, 0, 0, 1, 1, 1], np.int16)))
    store.save("a", ids, np.linspace(0.1, 0.9, 6))
    export_predictions(store, out)
    assert read_predictions(out).ids.tolist() == ids.tolist()


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_ids_that_a_file_does_not_preserve_are_named(tmp_path: Path, kind: str) -> None:
    ids = np.array(["a\0", "b", "c", "d"], object)
    store = PredictionStore(tmp_path / "store")
    store.save_folds(Folds(ids, np.array([0, 1, 0, 1], np.int8), np.array([0, 0, 1, 1], np.int16)))
    store.save("a", ids, np.linspace(0.1, 0.9, 4))
    with pytest.raises(PredictionError, match=r"'id' has NUL characters \(1 rows, .* Export to .parquet"):
        export_predictions(store, tmp_path / f"wide.{kind}")
    export_predictions(store, tmp_path / "wide.parquet")
    assert read_predictions(tmp_path / "wide.parquet").ids.tolist() == ids.tolist()


def test_predictions_that_cannot_be_exported_are_named(store: PredictionStore, tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match="has no oof predictions"):
        export_predictions(with_folds(store), tmp_path / "a.csv")
    store.save("a", store.folds.ids, np.zeros(N))
    with pytest.raises(PredictionError, match="must end in .csv"):
        export_predictions(store, tmp_path / "a.xlsx")
    with pytest.raises(PredictionError, match="a have no test predictions"):
        export_predictions(store, tmp_path / "a.csv", ["a"], part="test")
    assert list(tmp_path.glob("*.csv")) == []
