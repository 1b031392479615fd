"""Tests of trainers.data.layouts: every layout, exact ids, and messages for each kind of bad input."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oof.errors import ConfigError, DataError
from tests.support.competitions import (
    add_phase_2,
    make_set,
    make_table,
    make_track,
    write_image,
    write_labels,
    write_names,
)
from tests.support.competitions import face as draw
from trainers.data.layouts import read_competition, scan_competition
from trainers.data.quarantine import write_quarantine
from trainers.data.settings import DataSettings

LABEL_NAMES = [
    ("trainset_label.txt", "valset_label.txt"),
    ("train_label.txt", "val_label.txt"),
    ("train_label.txt.csv", "val_label.txt.csv"),
]


def table(root: Path, **settings: object) -> DataSettings:
    return DataSettings(layout="table", root=root, id="img_name", **settings)  # type: ignore[arg-type]


def ffdi(root: Path, **settings: object) -> DataSettings:
    return DataSettings(layout="ffdi", root=root, **settings)  # type: ignore[arg-type]


# ---- layouts ----------------------------------------------------------------


@pytest.mark.parametrize("names", LABEL_NAMES)
@pytest.mark.parametrize("labels_in_root", [True, False])
def test_phase_1_under_every_label_name(names: tuple[str, str], labels_in_root: bool, tmp_path: Path) -> None:
    make_track(tmp_path, label_names=names)
    if labels_in_root:
        for name in names:
            (tmp_path / "phase1" / name).rename(tmp_path / name)
    found = read_competition(ffdi(tmp_path))
    assert list(found.train["id"]) == [f"a{row:03d}.jpg" for row in range(8)] + [f"v{row:03d}.jpg" for row in range(4)]
    assert list(found.train["target"]) == [0, 1] * 6
    assert found.validation is None
    assert list(found.test["id"]) == ["v003.jpg", "v002.jpg", "v001.jpg", "v000.jpg"]  # the template's order
    assert found.sample_submission == tmp_path / "phase1" / "prediction.txt.csv"
    assert any("validation set, whose labels are also used for training" in note for note in found.notes)
    assert all(Path(path).is_file() for path in [*found.train["path"], *found.test["path"]])


def test_validation_is_kept_separate_on_request(tmp_path: Path) -> None:
    make_track(tmp_path)
    found = read_competition(ffdi(tmp_path, validation="apart"))
    assert len(found.train) == 8
    assert found.validation is not None
    assert list(found.validation["id"]) == [f"v{row:03d}.jpg" for row in range(4)]
    assert not found.notes


def test_phase_1_before_its_validation_labels_are_out(tmp_path: Path) -> None:
    make_track(tmp_path)
    (tmp_path / "phase1" / "valset_label.txt").unlink()
    found = read_competition(ffdi(tmp_path))
    assert len(found.train) == 8
    assert len(found.test) == 4
    assert found.notes == ("The validation set has valset/ but no val_label.txt: none of it is used for training.",)


@pytest.mark.parametrize("folder", ["", "phase1"])
def test_a_plain_test_set_may_come_after_the_validation_set(tmp_path: Path, folder: str) -> None:
    make_track(tmp_path)
    base = tmp_path / folder
    if not folder:
        for path in (tmp_path / "phase1").iterdir():
            path.rename(tmp_path / path.name)
    names = list(make_set(base / "testset", "t", 3, first_seed=700))
    write_names(base / "testset_nolabel.txt", names)
    found = read_competition(ffdi(tmp_path))
    assert list(found.test["id"]) == names
    assert found.sample_submission is None
    assert any("template of another phase" in note for note in found.notes)
    write_labels(base / "prediction.txt.csv", dict.fromkeys(reversed(names), 0.5), "img_name,y_pred")
    assert list(read_competition(ffdi(tmp_path)).test["id"]) == names[::-1]


def test_phase_2_has_a_separate_test_set(tmp_path: Path) -> None:
    make_track(tmp_path)
    add_phase_2(tmp_path)
    (tmp_path / "phase1" / "prediction.txt.csv").rename(tmp_path / "prediction.txt.csv")  # of phase 1
    found = read_competition(ffdi(tmp_path))
    assert len(found.train) == 12
    assert list(found.test["id"]) == ["s000.jpg", "s001.jpg", "s002.jpg"]
    assert found.sample_submission is None
    assert any("template of another phase" in note for note in found.notes)
    write_labels(
        tmp_path / "phase2" / "prediction.txt.csv", [(f"s00{row}.jpg", 0) for row in (2, 0, 1)], "img_name,y_pred"
    )
    found = read_competition(ffdi(tmp_path))
    assert list(found.test["id"]) == ["s002.jpg", "s000.jpg", "s001.jpg"]
    assert found.sample_submission == tmp_path / "phase2" / "prediction.txt.csv"
    first = read_competition(ffdi(tmp_path, phase=1))
    assert list(first.test["id"]) == ["v003.jpg", "v002.jpg", "v001.jpg", "v000.jpg"]


def test_a_missing_phase_2_is_an_error(tmp_path: Path) -> None:
    make_track(tmp_path)
    with pytest.raises(DataError, match=r"phase = 2, but there is no folder phase2/testset1_seen .*dfens download"):
        read_competition(ffdi(tmp_path, phase=2))
    with pytest.raises(ConfigError, match="there are phases 1 and 2"):
        ffdi(tmp_path, phase=3)


def test_plain_layout_with_a_test_set(tmp_path: Path) -> None:
    write_labels(tmp_path / "trainset_label.txt", make_set(tmp_path / "trainset", "a", 4))
    names = list(make_set(tmp_path / "testset", "t", 3))
    write_names(tmp_path / "testset_nolabel.txt", names)
    assert read_competition(ffdi(tmp_path)).sample_submission is None
    write_labels(tmp_path / "sample_submission.csv", dict.fromkeys(reversed(names), 0.5), "img_name,y_pred")
    found = read_competition(ffdi(tmp_path))
    assert list(found.test["id"]) == names[::-1]
    assert found.sample_submission == tmp_path / "sample_submission.csv"


def test_clip_track_reads_its_labels(tmp_path: Path) -> None:
    clips = {f"c{row}.mp4": row % 2 for row in range(4)}
    (tmp_path / "trainset").mkdir()
    for name in clips:
        (tmp_path / "trainset" / name).write_bytes(b"clip")
    write_labels(tmp_path / "trainset_label.txt", clips, "video_name,target")
    found = read_competition(DataSettings(layout="ffdv", root=tmp_path))
    assert found.media == "clips"
    assert list(found.train["target"]) == [0, 1, 0, 1]
    assert len(found.test) == 0
    assert found.notes == ("There is no test set: nothing can be predicted for a submission.",)
    (tmp_path / "phase2" / "testset1seen").mkdir(parents=True)
    (tmp_path / "phase2" / "testset1seen" / "x.mp4").write_bytes(b"clip")
    write_names(tmp_path / "phase2" / "testset1seen_nolabel.txt", ["x.mp4"], "video_name")
    assert list(read_competition(DataSettings(layout="ffdv", root=tmp_path)).test["id"]) == ["x.mp4"]


def test_two_label_files_must_agree(tmp_path: Path) -> None:
    make_track(tmp_path)
    text = (tmp_path / "phase1" / "trainset_label.txt").read_text()
    (tmp_path / "phase1" / "train_label.txt.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert len(read_competition(ffdi(tmp_path)).train) == 12
    lines = text.splitlines()
    (tmp_path / "phase1" / "train_label.txt").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n\n")
    assert len(read_competition(ffdi(tmp_path)).train) == 12  # the order of the rows does not matter
    (tmp_path / "train_label.txt").write_text(text.replace(",0", ",1"))
    with pytest.raises(DataError, match=r"train_label\.txt are both label files of the train set and differ"):
        read_competition(ffdi(tmp_path))


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"The data folder .*nowhere is missing\. Correct \[data\] root"):
        read_competition(ffdi(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"No training labels in .*trainset_label\.txt, train_label\.txt"):
        read_competition(ffdi(tmp_path))
    write_labels(tmp_path / "train_label.txt", {"a.jpg": 0})
    with pytest.raises(DataError, match=r"but no folder trainset/"):
        read_competition(ffdi(tmp_path))
    (tmp_path / "trainset").mkdir()
    with pytest.raises(DataError, match=r"No test set in .*testset1_seen"):
        read_competition(ffdi(tmp_path))
    (tmp_path / "testset").mkdir()
    with pytest.raises(DataError, match=r"The rows to predict are unknown"):
        read_competition(ffdi(tmp_path))


# ---- tables -----------------------------------------------------------------


def test_ids_are_kept_exactly(tmp_path: Path) -> None:
    ids = ["00012", "1e5", "0385e4011520523", "NA", "nan", "1.2.826.0.1", "True", "007"]
    for id_ in ids:
        write_image(tmp_path / "train" / f"{id_}.jpg", draw(0))
        write_image(tmp_path / "test" / f"{id_}.png", draw(1))
    write_labels(tmp_path / "train.csv", [(id_, row % 2) for row, id_ in enumerate(ids)], "id,target")
    lines = ['"id","y"', *(f'"{id_}",0.5' for id_ in reversed(ids))]
    (tmp_path / "sample_submission.csv").write_text("\n".join(lines))
    found = read_competition(DataSettings(root=tmp_path))
    assert list(found.train["id"]) == ids
    assert list(found.test["id"]) == ids[::-1]
    assert found.train["path"][0] == f"{tmp_path}/train/00012.jpg"
    assert found.train["target"].dtype == np.int8
    assert all(type(id_) is str for id_ in found.train["id"])


def test_byte_order_mark_crlf_and_semicolons_are_accepted(tmp_path: Path) -> None:
    make_table(tmp_path)
    plain = read_competition(table(tmp_path)).train
    text = (tmp_path / "train.csv").read_text()
    for data in (
        b"\xef\xbb\xbf" + text.encode(),
        text.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + text.replace("\n", "\r\n").replace(",", ";").encode(),
        text.replace(",", "\t").encode(),
        text.replace("\n", "\n\n").encode(),
        text.rstrip("\n").encode(),
        text.replace(",", " , ").replace(" ,", ",").encode(),
    ):
        (tmp_path / "train.csv").write_bytes(data)
        pd.testing.assert_frame_equal(read_competition(table(tmp_path)).train.iloc[:, :3], plain.iloc[:, :3])


def test_parquet_paths_groups_and_further_columns(tmp_path: Path) -> None:
    make_table(tmp_path)
    names = [f"a{row:03d}.jpg" for row in range(8)]
    frame = pd.DataFrame(
        {"img_name": range(8), "target": [0, 1] * 4, "file": names, "patient_id": [1, 1, 2, 2, 3, 3, 4, 4], "site": "x"}
    )
    frame.to_parquet(tmp_path / "train.parquet")
    found = read_competition(table(tmp_path, train="train.parquet", path="file", group="patient_id"))
    assert list(found.train["id"]) == [str(row) for row in range(8)]
    assert list(found.train["group"]) == list("11223344")
    assert list(found.train["column:site"]) == ["x"] * 8
    assert found.train["path"][3] == f"{tmp_path}/train/a003.jpg"
    assert list(found.test["path"]) == [f"{tmp_path}/test/t00{row}.jpg" for row in range(4)]


def test_files_can_be_in_subfolders(tmp_path: Path) -> None:
    make_table(tmp_path)
    write_image(tmp_path / "train" / "p1" / "x.jpg", draw(0))
    write_image(tmp_path / "train" / "p1" / "y.jpg", draw(1))
    write_labels(tmp_path / "train.csv", {"p1/x.jpg": 0, "p1/y": 1})
    found = read_competition(table(tmp_path))
    assert list(found.train["path"]) == [f"{tmp_path}/train/p1/x.jpg", f"{tmp_path}/train/p1/y.jpg"]


def test_files_without_labels_are_reported_and_ignored(tmp_path: Path) -> None:
    make_table(tmp_path)
    write_image(tmp_path / "train" / "more.jpg", draw(5))
    (tmp_path / "train" / "Thumbs.db").write_bytes(b"x")
    found = read_competition(table(tmp_path))
    assert found.unlabelled == {"train": [f"{tmp_path}/train/more.jpg"]}


def test_one_folder_for_all_images(tmp_path: Path) -> None:
    make_table(tmp_path)
    for path in (tmp_path / "test").iterdir():
        path.rename(tmp_path / "train" / path.name)
    found = read_competition(table(tmp_path, test_dir="train"))
    assert found.unlabelled == {}


# ---- bad input --------------------------------------------------------------


def test_missing_column_is_named_with_those_found(tmp_path: Path) -> None:
    make_table(tmp_path)
    with pytest.raises(DataError, match=r"train\.csv has no column 'id'; found 'img_name', 'target'\..*\[data\] id"):
        read_competition(DataSettings(root=tmp_path))
    with pytest.raises(DataError, match=r"no column 'label'; found .*\[data\] target"):
        read_competition(table(tmp_path, target="label"))
    with pytest.raises(DataError, match=r"no column 'patient'; found .*\[data\] group"):
        read_competition(table(tmp_path, group="patient"))


def test_labels_that_are_not_0_or_1_are_named(tmp_path: Path) -> None:
    make_table(tmp_path)
    write_labels(
        tmp_path / "train.csv", {"a000.jpg": 0, "a001.jpg": 2, "a002.jpg": "cat", "a003.jpg": "", "a004.jpg": 1}
    )
    with pytest.raises(
        DataError,
        match=r"3 of 5 labels are neither 0 \(real\) nor 1 \(fake\): a001\.jpg \('2'\), a002\.jpg \('cat'\), .*",
    ):
        read_competition(table(tmp_path))


def test_labels_as_floats_and_booleans_are_read(tmp_path: Path) -> None:
    make_table(tmp_path)
    write_labels(tmp_path / "train.csv", {"a000.jpg": "0.0", "a001.jpg": "1.0", "a002.jpg": " 1", "a003.jpg": "True"})
    assert list(read_competition(table(tmp_path)).train["target"]) == [0, 1, 1, 1]


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    make_table(tmp_path)
    write_labels(tmp_path / "train.csv", {"a000.jpg": 1, "a001.jpg": 1})
    with pytest.raises(DataError, match=r"train rows have at most one class: all 2 labels are 1\. Both 0 .real. and 1"):
        read_competition(table(tmp_path))


def test_duplicate_ids_with_one_label_and_with_two(tmp_path: Path) -> None:
    make_table(tmp_path)
    rows = [("a000.jpg", 0), ("a001.jpg", 1), ("a000.jpg", 0), ("a002.jpg", 0), ("a002.jpg", 1)]
    write_labels(tmp_path / "train.csv", rows)
    with pytest.raises(DataError) as raised:
        read_competition(table(tmp_path))
    assert "1 ids of the train rows appear more than once, with one label: a000.jpg." in str(raised.value)
    assert "1 ids of the train rows appear more than once, with different labels: a002.jpg." in str(raised.value)
    found = read_competition(table(tmp_path, skip_broken=True))
    assert list(found.train["id"]) == ["a000.jpg", "a001.jpg"]
    assert [(row.id, row.reason) for row in found.broken] == [
        ("a000.jpg", "duplicate id"),
        ("a002.jpg", "id has two labels"),
        ("a002.jpg", "id has two labels"),
    ]


def test_an_id_in_both_joined_sets_is_found(tmp_path: Path) -> None:
    make_track(tmp_path)
    write_image(tmp_path / "phase1" / "valset" / "a000.jpg", draw(0))
    with (tmp_path / "phase1" / "valset_label.txt").open("a") as file:
        file.write("a000.jpg,1\n")
    (tmp_path / "phase1" / "prediction.txt.csv").unlink()
    with pytest.raises(DataError, match=r"with different labels: a000\.jpg"):
        read_competition(ffdi(tmp_path))
    apart = scan_competition(ffdi(tmp_path, validation="apart"))
    assert [(problem.kind, problem.is_error, problem.items) for problem in apart.problems] == [
        ("shared", False, ("a000.jpg",))
    ]


@pytest.mark.parametrize("name", ["../../x", "../test/t000.jpg", "/etc/passwd", "p/../../x.jpg", "C:\\x.jpg", "..", ""])
def test_names_that_lead_out_of_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    make_table(tmp_path)
    write_labels(tmp_path / "train.csv", [("a000.jpg", 0), ("a001.jpg", 1), (name, 1)])
    for skip in (True, False):
        with pytest.raises(DataError, match=r"1 of 3 file names of .*train\.csv are empty or lead out of .*train: "):
            read_competition(table(tmp_path, skip_broken=skip))
    write_labels(tmp_path / "train.csv", [("a000.jpg", 0), ("a001.jpg", 1)])
    write_labels(tmp_path / "sample_submission.csv", [("t000.jpg", 0), (name, 0)], "img_name,y_pred")
    with pytest.raises(DataError, match=r"1 of 2 file names of .*sample_submission\.csv are empty or lead out"):
        read_competition(table(tmp_path))


def test_dots_inside_a_name_are_accepted(tmp_path: Path) -> None:
    make_table(tmp_path)
    for name in ("a..b.jpg", "..c.jpg", "d...jpg"):
        write_image(tmp_path / "train" / name, draw(0))
    write_labels(tmp_path / "train.csv", {"a..b.jpg": 0, "..c.jpg": 1, "d...jpg": 1})
    assert len(read_competition(table(tmp_path)).train) == 3


def test_missing_training_files_are_named_or_left_out(tmp_path: Path) -> None:
    make_table(tmp_path)
    (tmp_path / "train" / "a003.jpg").unlink()
    (tmp_path / "train" / "a004.jpg").unlink()
    with pytest.raises(
        DataError,
        match=r"2 of 8 train rows have no file in .*train: a003\.jpg, a004\.jpg\. .*skip_broken = true\. Run dfens",
    ):
        read_competition(table(tmp_path))
    found = read_competition(table(tmp_path, skip_broken=True))
    assert len(found.train) == 6
    assert [(row.id, row.reason) for row in found.broken] == [
        ("a003.jpg", "missing file"),
        ("a004.jpg", "missing file"),
    ]


def test_a_missing_test_file_is_never_left_out(tmp_path: Path) -> None:
    make_table(tmp_path)
    (tmp_path / "test" / "t002.jpg").unlink()
    for skip in (True, False):
        with pytest.raises(DataError, match=r"1 of 4 test rows have no file in .*t002\.jpg\. .*never left out"):
            read_competition(table(tmp_path, skip_broken=skip))


def test_an_ambiguous_stem_is_reported(tmp_path: Path) -> None:
    make_table(tmp_path)
    write_image(tmp_path / "train" / "a000.png", draw(0))
    write_labels(tmp_path / "train.csv", {"a000": 0, "a001": 1})
    with pytest.raises(DataError, match=r"1 of 2 train rows match several files in .*: a000\."):
        read_competition(table(tmp_path))


def test_test_ids_that_differ_from_the_sample_submission(tmp_path: Path) -> None:
    make_table(tmp_path)
    write_names(tmp_path / "test.csv", ["t000.jpg", "t001.jpg", "t002.jpg"])
    with pytest.raises(
        DataError,
        match=r"sample_submission\.csv and the test rows have different ids: 1 of its ids are not in .*: t003\.jpg\.",
    ):
        read_competition(table(tmp_path, test="test.csv", sample_submission="sample_submission.csv"))
    write_names(tmp_path / "test.csv", ["t003.jpg", "t000.jpg", "t001.jpg", "t002.jpg"])
    found = read_competition(table(tmp_path, test="test.csv", sample_submission="sample_submission.csv"))
    assert list(found.test["id"]) == [f"t00{row}.jpg" for row in range(4)]


def test_duplicate_test_ids_are_refused(tmp_path: Path) -> None:
    make_table(tmp_path)
    write_labels(tmp_path / "sample_submission.csv", [("t000.jpg", 0), ("t000.jpg", 0)], "img_name,y_pred")
    with pytest.raises(DataError, match=r"1 test ids appear more than once: t000\.jpg"):
        read_competition(table(tmp_path))


def test_files_that_are_not_tables_are_named(tmp_path: Path) -> None:
    make_table(tmp_path)
    for data, message in (
        (b"", r"train\.csv is empty\. Expected a header line"),
        (b"img_name,target\n", r"train\.csv has no rows"),
        (b"img_name,target\n\xff\xfe\x00,1\n", r"cannot be read as CSV in UTF-8"),
        (b"\xff\xfei\x00d\x00", r"cannot be read as CSV in UTF-8"),
        (b"img_name,target\na,1,2\n", r"has 3 values, but the first line has 2"),
        (b"img_name,target,target\na,1,2\n", r"has two columns named target"),
    ):
        (tmp_path / "train.csv").write_bytes(data)
        with pytest.raises(DataError, match=message):
            read_competition(table(tmp_path))
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"train\.parquet cannot be read as Parquet"):
        read_competition(table(tmp_path, train="train.parquet"))
    with pytest.raises(DataError, match=r"none\.csv is missing\. Correct \[data\]"):
        read_competition(table(tmp_path, train="none.csv"))
    with pytest.raises(DataError, match=r"images is missing\. Correct \[data\] train_dir"):
        read_competition(table(tmp_path, train_dir="images"))


def test_quarantined_files_are_left_out_until_they_are_replaced(tmp_path: Path) -> None:
    make_table(tmp_path)
    bad = tmp_path / "train" / "a002.jpg"
    bad.write_bytes(b"not an image")
    quarantine = tmp_path / "quarantine.json"
    write_quarantine(quarantine, tmp_path, {str(bad): "no image"})
    settings = table(tmp_path)
    assert len(read_competition(settings, quarantine).train) == 8  # only on request
    found = read_competition(replace(settings, skip_broken=True), quarantine)
    assert [(row.id, row.path, row.reason) for row in found.broken] == [("a002.jpg", str(bad), "no image")]
    assert "a002.jpg" not in set(found.train["id"])
    write_image(bad, draw(2))
    assert len(read_competition(replace(settings, skip_broken=True), quarantine).train) == 8


def test_many_rows_are_found_without_a_query_per_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 4_000
    names = np.array([f"{row:032x}.jpg" for row in range(rows)], object)
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    pd.DataFrame({"img_name": names, "target": np.arange(rows) % 2}).to_csv(tmp_path / "train.csv", index=False)
    pd.DataFrame({"img_name": names, "y": 0.5}).to_csv(tmp_path / "sample_submission.csv", index=False)
    settings = table(tmp_path)
    asked = []
    real_stat = os.stat

    def counted(path: str, **more: bool) -> os.stat_result:
        asked.append(path)
        return real_stat(path, **more)

    monkeypatch.setattr(os, "stat", counted)
    found = read_competition(settings)
    assert len(found.train) == len(found.test) == rows
    assert len(asked) < 30
