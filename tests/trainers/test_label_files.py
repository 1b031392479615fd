"""Label files in many formats, archives, and spellings of labels and file names."""

import dataclasses
import gzip
import json
import re
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from oof.errors import DataError
from tests.support.competitions import make_table, make_track
from trainers.data.competition import Competition
from trainers.data.groups import unused_originals
from trainers.data.layouts import read_competition, scan_competition
from trainers.data.settings import DataSettings
from trainers.data.text_tables import read_text_table

CSV = "id,target\na.jpg,0\n00012,1\n"


def zipped(names: dict[str, str], path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in names.items():
            archive.writestr(name, text)


@pytest.mark.parametrize(
    "content",
    [
        CSV.encode(),
        CSV.replace("\n", "\r").encode(),
        CSV.replace("\n", "\r\n").encode("utf-8-sig"),
        ("\n \r\n" + CSV).encode(),
        CSV.replace(",", ";").encode(),
        CSV.replace(",", "\t").encode("utf-16"),
        CSV.replace("a.jpg", '"a.jpg"').encode(),
        gzip.compress(CSV.encode(), mtime=0),
        b'[{"id": "a.jpg", "target": 0}, {"id": "00012", "target": 1}]',
        b'{"id": "a.jpg", "target": 0}\n{"id": "00012", "target": 1}\n',
        b'\xef\xbb\xbf{"a.jpg": {"target": 0}, "00012": {"target": 1}}',
    ],
    ids=["plain", "cr", "excel", "blank_lines", "semicolon", "utf16_tab", "quotes", "gzip", "list", "lines", "object"],
)
def test_every_form_of_a_table_gives_the_same_rows(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.csv").write_bytes(content)
    table = read_text_table(tmp_path / "train.csv", "label file", key="id")
    assert table.to_dict("list") == {"id": ["a.jpg", "00012"], "target": ["0", "1"]}


def test_bytes_of_text_in_parquet_are_text_and_other_bytes_are_named(tmp_path: Path) -> None:
    make_table(tmp_path)
    settings = DataSettings(root=tmp_path, id="img_name")
    labels = pd.read_csv(tmp_path / "train.csv", dtype=str)
    labels["picture"] = [b"\xff\xd8"] * len(labels)
    labels["faces"] = [[0, 1]] * len(labels)
    labels.assign(img_name=labels["img_name"].str.encode("utf-8")).to_parquet(tmp_path / "train.csv")
    assert list(read_competition(settings).train["id"]) == list(labels["img_name"])
    for name in ("picture", "faces"):
        with pytest.raises(DataError, match=rf"'{name}' contains lists, records or bytes.*\[data\] id"):
            read_competition(dataclasses.replace(settings, id=name))


def test_a_zip_is_read_whatever_its_name(tmp_path: Path) -> None:
    zipped({"train.csv": CSV, "__MACOSX/train.csv": "x"}, tmp_path / "train.csv")
    assert list(read_text_table(tmp_path / "train.csv", "label file")["id"]) == ["a.jpg", "00012"]
    zipped({"train.csv": CSV}, tmp_path / "other.csv.zip")
    assert list(read_text_table(tmp_path / "other.csv", "label file")["id"]) == ["a.jpg", "00012"]


def test_records_of_json_lines_may_contain_unicode_line_separators(tmp_path: Path) -> None:
    text = '{"id": "a\u2028b.jpg", "target": 0}\r\n\r\n{"id": "00012", "target": 1}\r\n'
    (tmp_path / "train.jsonl").write_bytes(text.encode())
    table = read_text_table(tmp_path / "train.jsonl", "label file")
    assert table.to_dict("list") == {"id": ["a\u2028b.jpg", "00012"], "target": ["0", "1"]}


def test_a_header_wider_than_a_block_is_read(tmp_path: Path) -> None:
    names = [f"a_column_with_a_rather_long_name_{number:06d}" for number in range(40_000)]
    (tmp_path / "wide.csv").write_text(",".join(names) + "\n" + ",".join(["1"] * len(names)) + "\n")
    assert list(read_text_table(tmp_path / "wide.csv", "label file").columns) == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\r\n", "is empty"),
        ("id,target\né.jpg,0\n".encode("latin-1"), "cannot be read as CSV in UTF-8"),
        (b"id,target\na,0,7\n", "the line `a,0,7` has 3 values, but the first line has 2"),
        (b"id,id\na,0\n", "has two columns named id"),
        (b"id,target\n", "has no rows"),
        (b"PAR1 and then nothing", "cannot be read as Parquet"),
        (b"PK\x03\x04 cut", "cannot be read"),
        (gzip.compress(CSV.encode(), mtime=0)[:-9], "cannot be read"),
        (b'{"a.jpg": {"label": "FAKE"', "cannot be read as JSON"),
        (b"[1, 2, 3]", "is JSON with an unknown structure"),
        (b'[{"a": 1}, 2]', "is JSON with an unknown structure"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (bytes(range(256)) * 4, "cannot be read as CSV"),
    ],
)
def test_a_file_that_is_not_a_table_is_a_named_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"train\.csv.*{message}"):
        read_text_table(tmp_path / "train.csv", "label file")


def test_a_packed_label_file_of_a_track_is_found(tmp_path: Path) -> None:
    root = make_track(tmp_path)
    path = root / "phase1" / "trainset_label.txt"
    zipped({path.name: path.read_text()}, path.with_name(f"{path.name}.zip"))
    path.unlink()
    assert len(read_competition(DataSettings(layout="ffdi", root=root)).train) == 12


def test_archives_of_other_things_are_named(tmp_path: Path) -> None:
    zipped({"a.csv": CSV, "b.csv": CSV}, tmp_path / "two.zip")
    with pytest.raises(DataError, match=r"two\.zip is a zip archive of 2 files \(a\.csv, b\.csv\); expected one table"):
        read_text_table(tmp_path / "two.zip", "label file")
    zipped({"xl/workbook.xml": "", "xl/styles.xml": ""}, tmp_path / "labels.xlsx")
    with pytest.raises(DataError, match=r"labels\.xlsx is an Excel workbook\. Save it as CSV"):
        read_text_table(tmp_path / "labels.xlsx", "label file")


# ---- names of files ---------------------------------------------------------


def labels_in_form(root: Path, form: str) -> None:
    """Write the label file with `{name}` or `{stem}` put into a form."""
    names = [f"a{row:03d}" for row in range(8)]
    lines = [f"{form.format(name=f'{stem}.jpg', stem=stem)},{row % 2}" for row, stem in enumerate(names)]
    (root / "train.csv").write_text("\n".join(["img_name,target", *lines]) + "\n")


def scan(root: Path, **settings: str) -> Competition:
    return scan_competition(DataSettings(root=root, id="img_name", **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["./{name}", ".//{name}", "././{name}", "{stem}", "./{stem}"])
def test_harmless_spellings_find_their_file_and_nothing_is_called_unused(tmp_path: Path, form: str) -> None:
    root = make_table(tmp_path)
    labels_in_form(root, form)
    found = scan(root)
    assert found.problems == []
    assert found.unlabelled == {}
    assert [Path(path).name for path in found.train["path"]] == [f"a{row:03d}.jpg" for row in range(8)]
    assert found.train["id"][0] == form.format(name="a000.jpg", stem="a000")  # ids stay as they are


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_in_either_unicode_form_find_their_file(tmp_path: Path, form: str) -> None:
    root = make_table(tmp_path)
    other = "NFD" if form == "NFC" else "NFC"
    for row in range(8):
        path = root / "train" / f"a{row:03d}.jpg"
        path.rename(path.with_name(unicodedata.normalize(form, f"é{path.name}")))  # type: ignore[arg-type]
    labels_in_form(root, unicodedata.normalize(other, "é") + "{name}")  # type: ignore[arg-type]
    assert scan(root).problems == []


@pytest.mark.parametrize(
    ("form", "difference"),
    [
        ("train\\{name}", r"'\\' instead of '/' and the leading folder train/"),
        ("{stem}.JPG", r"upper and lower case"),
        ("{stem}.jpeg", r"the ending \(\.jpeg instead of \.jpg\)"),
        ("{stem}.png", r"the ending \(\.png instead of \.jpg\)"),
        ("images/{name}", r"the leading folder images/"),
        ("/kaggle/input/x/train/{name}", r"the leading folder /kaggle/input/x/train/"),
        ("C:\\data\\{name}", r"'\\' instead of '/' and the leading folder C:/data/"),
        (" {name} ", r"spaces around the name"),
    ],
)
def test_the_difference_between_name_and_file_is_reported(tmp_path: Path, form: str, difference: str) -> None:
    root = make_table(tmp_path)
    labels_in_form(root, form)
    found = scan(root)
    (problem,) = found.problems
    assert (problem.kind, problem.is_error, len(problem.items)) == ("spelling", True, 8)
    expected = form.format(name="a000.jpg", stem="a000")
    assert problem.found.startswith("8 of 8 train rows have no file with exactly their name in ")
    assert f"('{expected}' and 'a000.jpg')" in problem.found
    assert re.search(f"8 match a file except for {difference} ", problem.found)
    assert "dfens download" not in problem.remedy
    assert found.unlabelled == {}


def test_a_folder_in_front_and_class_folders_name_the_setting(tmp_path: Path) -> None:
    root = make_table(tmp_path)
    labels_in_form(root, "train/{name}")
    (problem,) = scan(root).problems
    assert 'Set [data] train_dir = "."' in problem.remedy
    assert len(read_competition(DataSettings(root=root, id="img_name", train_dir=".")).train) == 8
    labels_in_form(root, "{name}")
    for row in range(8):
        path = root / "train" / f"a{row:03d}.jpg"
        (path.parent / "rf"[row % 2]).mkdir(exist_ok=True)
        path.rename(path.parent / "rf"[row % 2] / path.name)
    (problem,) = scan(root).problems
    assert "the folder of the file" in problem.found
    assert "The files are in f/, r/." in problem.found
    assert "such as r/a000.jpg, and name it with [data] path" in problem.remedy


def test_files_of_one_name_in_several_folders_are_not_called_missing(tmp_path: Path) -> None:
    root = make_table(tmp_path)
    for row in range(8):
        path = root / "train" / f"a{row:03d}.jpg"
        for folder in ("real", "fake"):
            (path.parent / folder).mkdir(exist_ok=True)
            (path.parent / folder / path.name).write_bytes(path.read_bytes())
        path.unlink()
    (problem,) = scan(root).problems
    assert "8 match a file except for the folder of the file, in several of which it exists" in problem.found
    assert "such as fake/a000.jpg, and name it with [data] path" in problem.remedy


def test_lost_leading_zeros_are_reported(tmp_path: Path) -> None:
    root = make_table(tmp_path)
    rows = [path.rename(path.with_name(path.name.replace("a", ""))).stem for path in (root / "train").iterdir()]
    (root / "train.csv").write_text("img_name,target\n" + "".join(f"{int(row)},{int(row) % 2}\n" for row in rows))
    (problem,) = scan(root).problems
    assert re.search(r"\d match a file except for leading zeros \('\d' and '00\d\.jpg'\)", problem.found)


def test_a_link_to_nowhere_is_a_missing_file(tmp_path: Path) -> None:
    root = make_table(tmp_path)
    link = root / "train" / "a003.jpg"
    link.unlink()
    link.symlink_to(tmp_path / "gone.jpg")
    (problem,) = scan(root).problems
    assert problem.kind == "missing"


def test_a_line_with_more_values_than_the_header_is_shown(tmp_path: Path) -> None:
    root = make_table(tmp_path)
    (root / "train.csv").write_text("img_name,target\n1,a000.jpg,0\n2,a001.jpg,1\n")
    with pytest.raises(DataError, match=r"train\.csv: the line `1,a000.jpg,0` has 3 values, but the first line has 2"):
        scan(root)


def test_two_spellings_of_one_file_are_an_error_or_left_out(tmp_path: Path) -> None:
    root = make_table(tmp_path)
    with (root / "train.csv").open("a") as file:
        file.write("./a000.jpg,0\n./a001.jpg,1\n")
    (problem,) = scan(root).problems
    assert (problem.kind, problem.is_error) == ("same-file", True)
    assert problem.items == ("a000.jpg = ./a000.jpg", "a001.jpg = ./a001.jpg")
    found = read_competition(DataSettings(root=root, id="img_name", skip_broken=True))
    assert [row.id for row in found.broken] == ["./a000.jpg", "./a001.jpg"]
    assert len(found.train) == 8


def test_a_clip_does_not_conflict_with_an_image_of_the_same_name(tmp_path: Path) -> None:
    root = make_table(tmp_path)
    for row in range(8):
        (root / "train" / f"a{row:03d}.mp4").write_bytes(b"clip")
    labels_in_form(root, "{stem}")
    found = scan(root)
    assert (found.problems, found.media, found.unlabelled) == ([], "images", {})
    clips = scan(root, media="clips", test_dir="train", test="train.csv")
    assert [Path(path).suffix for path in clips.train["path"]] == [".mp4"] * 8


def test_a_file_name_that_is_not_text_is_listed_and_ignored(tmp_path: Path) -> None:
    root = make_table(tmp_path)
    (root / "train" / "b\udcff.jpg").write_bytes(b"x")
    assert [Path(name).name for name in scan(root).unlabelled["train"]] == ["b\ufffd.jpg"]


# ---- metadata.json ----------------------------------------------------------


def test_metadata_of_dfdc_is_a_label_file_with_originals_as_groups(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    records: dict[str, dict[str, str | None]] = {}
    for row in range(6):
        (folder / f"c{row}.mp4").write_bytes(b"clip")
        label = "FAKE" if row % 2 else "REAL"
        records[f"c{row}.mp4"] = {
            "label": label,
            "split": "train",
            "original": f"c{row - 1}.mp4" if row % 2 else None,
        }
    (folder / "metadata.json").write_text(json.dumps(records))
    (tmp_path / "sample.csv").write_text("filename,label\nc0.mp4,0.5\n")
    settings = DataSettings(
        root=tmp_path, train="train/metadata.json", test="sample.csv", test_dir="train", id="filename"
    )
    found = read_competition(settings)
    assert found.media == "clips"
    assert found.train["id"].tolist() == list(records)
    assert found.train["target"].tolist() == [0, 1] * 3
    assert found.train["group"].tolist() == ["", "c0.mp4", "", "c2.mp4", "", "c4.mp4"]
    named = read_competition(dataclasses.replace(settings, target="label"))
    assert named.train["group"].tolist() == found.train["group"].tolist()
    assert unused_originals(named) is None
    text = json.dumps(records).removesuffix("}") + ', "c0.mp4": {"label": "FAKE"}}'
    (folder / "metadata.json").write_text(text)
    with pytest.raises(DataError, match=r"1 ids of the train rows appear more than once, with different labels: c0"):
        read_competition(settings)


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".jp2", ".avif", ".ppm", ".tga", ".heic"])
def test_a_name_without_an_ending_finds_a_file_of_any_kind_of_image(tmp_path: Path, ending: str) -> None:
    root = make_table(tmp_path)
    labels_in_form(root, "{stem}")
    for path in (root / "train").iterdir():
        path.rename(path.with_suffix(ending))
    assert [Path(path).suffix for path in scan(root).train["path"]] == [ending] * 8


def test_equal_names_in_two_folders_need_ids_with_folders(tmp_path: Path) -> None:
    root = make_table(tmp_path)
    for folder in ("real", "fake"):
        (root / "train" / folder).mkdir()
    names = sorted(path for path in (root / "train").iterdir() if path.is_file())
    for row, path in enumerate(names):
        path.rename(root / "train" / ("fake" if row % 2 else "real") / names[row // 2].name)
    lines = [f"{names[row // 2].name},{row % 2}" for row in range(8)]
    (root / "train.csv").write_text("\n".join(["img_name,target", *lines]) + "\n")
    (problem,) = [one for one in scan(root).problems if one.kind == "spelling"]
    assert problem.remedy.endswith("and name it with [data] id, since several rows have the same name.")


def test_originals_in_a_table_that_are_not_used_are_reported(tmp_path: Path) -> None:
    root = make_table(tmp_path)
    table = pd.read_csv(root / "train.csv", dtype=str)
    reals = table["img_name"][table["target"] == "0"].tolist()
    table["original"] = [reals[0] if target == "1" else "" for target in table["target"]]
    table.to_csv(root / "train.csv", index=False)
    note = unused_originals(scan(root))
    assert note is not None
    assert "'original' names the rows that" in note
    assert 'Set [data] group = "original"' in note
    assert unused_originals(scan(root), "column:original") is None
    assert unused_originals(scan(root, group="original")) is None


def test_groups_are_the_same_with_spaces_and_in_another_unicode_form(tmp_path: Path) -> None:
    root = make_table(tmp_path)
    table = pd.read_csv(root / "train.csv", dtype=str)
    spellings = ["Ren\u00e9e", " Ren\u00e9e ", "Rene\u0301e"]
    table["person"] = [spellings[row % 3] for row in range(len(table))]
    table.to_csv(root / "train.csv", index=False)
    assert set(scan(root, group="person").train["group"]) == {"Ren\u00e9e"}


def test_the_label_column_of_a_csv_must_be_named(tmp_path: Path) -> None:
    root = make_table(tmp_path)
    (root / "train.csv").write_text((root / "train.csv").read_text().replace("target", "label"))
    with pytest.raises(DataError, match=r"no column 'target'; found 'img_name', 'label'"):
        scan(root)


# ---- anything at all --------------------------------------------------------


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return the file with some bytes changed, inserted, removed, or truncated."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, max(1, len(changed))))
        what = int(rng.integers(0, 4))
        inserted = [b"\0", b'"', b"\r", b",,", b";", b"\xff", b"\n\n", b"\\", b"{", b"["][int(rng.integers(0, 10))]
        if what == 0:
            changed[at : at + 1] = rng.bytes(1)
        elif what == 1:
            changed[at:at] = inserted * int(rng.integers(1, 4))
        elif what == 2:
            del changed[at : at + int(rng.integers(1, 30))]
        else:
            changed = changed[:at]
    return bytes(changed)


@pytest.mark.parametrize("name", ["train.csv", "sample_submission.csv"])
@pytest.mark.parametrize("form", ["csv", "json", "gzip"])
def test_a_damaged_table_is_read_or_a_named_error(tmp_path: Path, name: str, form: str) -> None:
    root = make_table(tmp_path)
    text = (root / name).read_text()
    if form == "json":
        rows = [line.split(",") for line in text.splitlines()[1:]]
        text = json.dumps([{"img_name": id_, "target": value} for id_, value in rows])
    whole = gzip.compress(text.encode()) if form == "gzip" else text.encode()
    for seed in range(25):
        (root / name).write_bytes(damaged(whole, np.random.default_rng(seed)))
        try:
            found = scan(root)
        except DataError as err:
            assert name in str(err)  # noqa: PT017 — either outcome is right
        else:
            assert set(found.train["target"]) <= {0, 1}


def test_labels_that_are_all_unusable_leave_no_row(tmp_path: Path) -> None:
    root = make_table(tmp_path)
    (root / "train.csv").write_text("img_name,target\na000.jpg,\n")
    assert [problem.kind for problem in scan(root).problems] == ["labels"]


def test_a_file_of_a_row_with_an_unusable_label_has_a_row(tmp_path: Path) -> None:
    root = make_table(tmp_path)
    lines = (root / "train.csv").read_text().splitlines()
    (root / "train.csv").write_text("\n".join([*lines[:2], f"{lines[2].split(',')[0]},6", *lines[3:-1]]) + "\n")
    found = scan(root)
    assert [problem.kind for problem in found.problems] == ["labels"]
    assert lines[2].split(",")[0] not in found.train["id"].tolist()
    assert [Path(path).name for path in found.unlabelled["train"]] == [lines[-1].split(",")[0]]


def test_the_column_of_invalid_labels_in_a_metadata_json_is_named(tmp_path: Path) -> None:
    make_table(tmp_path)
    records = {f"a{row:03d}.jpg": {"label": ("REAL", "FAKE", "UNKNOWN")[row % 3]} for row in range(8)}
    (tmp_path / "train" / "metadata.json").write_text(json.dumps(records))
    settings = DataSettings(root=tmp_path, train="train/metadata.json", test="", id="filename")
    with pytest.raises(DataError, match="The column 'label' has the values FAKE, REAL, UNKNOWN"):
        read_competition(settings)
