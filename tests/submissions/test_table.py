"""The submission table: joined by id, checked, and written exactly in the format of the sample submission."""

import csv
import hashlib
import io
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from oof.errors import SubmissionError
from submissions.delimited import parse_delimited
from submissions.table import build_table, default_id_column, number_texts, validate_file, values_fingerprint

PLAIN = "id,target\na,0\nb,0\nc,0\n"


def write(folder: Path, text: str, name: str = "sample_submission.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def plain_table(folder: Path, values: list[float], ids: list[str] | None = None, text: str = PLAIN) -> bytes:
    return build_table(write(folder, text), ids or ["a", "b", "c"], np.array(values)).data


# formats of sample submissions of real competitions, and their ids
SHAPES = {
    "leading zeros": ("BraTS21ID,MGMT_value\n{0},0.5\n{1},0.5\n{2},0.5\n", ["00001", "00013", "00997"]),
    "hex ids that parse as numbers": ("id,target\n{0},0.5\n{1},0.5\n{2},0.5\n", ["0385e4011520523", "1e5", "0e10"]),
    "quoted header and ids": ('"id","sentiment"\n"{0}",0\n"{1}",0\n"{2}",0\n', ["12311_10", "8348_2", "5828_4"]),
    "all quoted": ('"id","target"\r\n"{0}","0"\r\n"{1}","0"\r\n"{2}","0"\r\n', ["00012", "7.0", "x"]),
    "dotted ids": ("StudyInstanceUID,p\n{0},0\n{1},0\n{2},0\n", ["1.2.826.0.1.3680043.8.498.469", "1.2", "1.20"]),
    "byte order mark": ("\ufeffimg_name,y_pred\n{0},0\n{1},0\n{2},0\n", ["a.jpg", "b.jpg", "c.jpg"]),
    "byte order mark, quoted, CRLF": ('\ufeff"id","p"\r\n"{0}",0\r\n"{1}",0\r\n"{2}",0\r\n', ["a", "b", "c"]),
    "no newline at the end": ("id,p\n{0},0\n{1},0\n{2},0", ["a", "b", "c"]),
    "target first": ("target,id\n0,{0}\n0,{1}\n0,{2}\n", ["a", "b", "c"]),
    "tabs": ("id\tp\n{0}\t0\n{1}\t0\n{2}\t0\n", ["a,1", "b,2", "c,3"]),
    "commas and quotes in ids": ('id,p\n"{0}",0\n"{1}",0\n"{2}",0\n', ["a,b", 'say ""hi""', "two\nlines"]),
    "words of absence": ("id,p\n{0},0\n{1},0\n{2},0\n", ["NA", "null", "None"]),
    "letters of other alphabets": ("id,p\n{0},0\n{1},0\n{2},0\n", ["图1.jpg", "Ünï", "ё"]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_everything_but_the_predictions_is_kept_exactly(tmp_path: Path, shape: str) -> None:
    text, raw = SHAPES[shape]
    text = text.format(*raw)
    ids = [value.replace('""', '"') for value in raw]
    sample = write(tmp_path, text)
    target_first = shape == "target first"
    found = build_table(sample, ids[::-1], np.array([0.25, 0.5, 0.75]), id_column="id" if target_first else "")
    expected = text
    for value, prediction in zip(raw, ["0.75", "0.5", "0.25"], strict=True):
        for before, after in (
            (f'"{value}","0"', f'"{value}","{prediction}"'),
            (f'"{value}",0', f'"{value}",{prediction}'),
            (f"\n0,{value}", f"\n{prediction},{value}"),
            (f"\n{value},0.5", f"\n{value},{prediction}"),
            (f"\n{value},0", f"\n{value},{prediction}"),
            (f"\n{value}\t0", f"\n{value}\t{prediction}"),
        ):
            if before in expected:
                expected = expected.replace(before, after)
                break
    assert found.data == expected.encode()
    assert list(found.ids) == ids
    assert found.rows == 3
    assert found.sha256 == hashlib.sha256(expected.encode()).hexdigest()
    out = tmp_path / "out.csv"
    found.write(out)
    assert out.read_bytes() == found.data
    again = validate_file(out, sample, id_column="id" if target_first else "")
    assert again.sha256 == found.sha256
    assert again.notes == ()
    np.testing.assert_array_equal(again.predictions, [0.75, 0.5, 0.25])


def test_only_the_named_target_of_several_is_filled(tmp_path: Path) -> None:
    sample = write(tmp_path, "uid,ETT - Abnormal,CVC - Normal\n1.2,0.0,7\n1.3,0.0,8\n")
    ids, values = ["1.3", "1.2"], np.array([0.5, 0.25])
    with pytest.raises(SubmissionError, match=r"2 columns in addition to the id 'uid': ETT - Abnormal, CVC - Normal"):
        build_table(sample, ids, values)
    found = build_table(sample, ids, values, prediction_column="ETT - Abnormal")
    assert found.data == b"uid,ETT - Abnormal,CVC - Normal\n1.2,0.25,7\n1.3,0.5,8\n"
    with pytest.raises(SubmissionError, match="no column 'EET'; it has uid, ETT - Abnormal, CVC - Normal"):
        build_table(sample, ids, values, prediction_column="EET")


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=30, unique=True),
    st.sampled_from([np.float32, np.float64]),
)
def test_numbers_read_back_as_the_same_float_and_have_no_exponent(values: list[float], kind: type) -> None:
    found: NDArray[np.floating] = np.array(values, dtype=kind)
    texts = number_texts(found)
    assert not any("e" in text or "," in text for text in texts)
    np.testing.assert_array_equal(np.array([kind(text) for text in texts]), found)


def test_numbers_have_the_fewest_digits() -> None:
    assert number_texts(np.array([0.1, 1e-7, 1 / 3], np.float32)) == ["0.1", "0.0000001", "0.33333334"]
    assert number_texts(np.array([0.1, 1e-7, 1 / 3])) == ["0.1", "0.0000001", "0.3333333333333333"]


def test_another_reader_reads_the_same_predictions(tmp_path: Path) -> None:
    ids = ["00012", "1e5", 'a "b"', "c,d", "e\nf"]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([["id", "p"], *([value, 0] for value in ids)])
    values = np.random.default_rng(0).random(5)
    found = build_table(write(tmp_path, text.getvalue()), ids, values)
    table = pd.read_csv(io.BytesIO(found.data), dtype=str)  # numbers as pandas 2 reads them may be off by the last bit
    assert list(table["id"]) == ids
    np.testing.assert_array_equal(table["p"].map(float).to_numpy(), values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.1, np.nan, 0.2], r"1 of 3 predictions are NaN: b \(nan\)"),
        ([0.1, np.inf, -np.inf], r"2 of 3 predictions are infinite: b \(inf\), c \(-inf\)"),
        ([0.1, 1.5, -0.5], r"2 of 3 predictions are outside 0 to 1: b \(1.5\), c \(-0.5\); all are between -0.5 and"),
        ([0.5, 0.5, 0.5], "All 3 predictions are 0.5, so they do not rank the rows"),
    ],
)
def test_values_that_cannot_be_submitted_are_named(tmp_path: Path, values: list[float], message: str) -> None:
    with pytest.raises(SubmissionError, match=message):
        plain_table(tmp_path, values)
    path = write(tmp_path, "id,target\n" + "".join(f"{i},{v}\n" for i, v in zip("abc", values, strict=True)), "x.csv")
    with pytest.raises(SubmissionError, match=message):
        validate_file(path, tmp_path / "sample_submission.csv")


def test_a_wider_range_can_be_set_and_rounding_errors_are_accepted(tmp_path: Path) -> None:
    sample = write(tmp_path, PLAIN)
    found = build_table(sample, ["a", "b", "c"], np.array([-7.5, 0.0, 7.5]), lowest=-np.inf, highest=np.inf)
    assert b"a,-7.5\n" in found.data
    assert b"c,1.0\n" in plain_table(tmp_path, [0.0, 0.5, np.nextafter(1.0, 2)])


def test_missing_extra_and_duplicate_ids_are_named(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match=r"1 of 3 ids are missing: c\. 1 ids are not in the sample submission: d"):
        plain_table(tmp_path, [0.1, 0.2, 0.3], ["a", "b", "d"])
    with pytest.raises(SubmissionError, match="1 ids are not in the sample submission: d"):
        plain_table(tmp_path, [0.1, 0.2, 0.3, 0.4], ["a", "b", "c", "d"])
    with pytest.raises(SubmissionError, match="1 ids more than once: a"):
        plain_table(tmp_path, [0.1, 0.2, 0.3, 0.4], ["a", "b", "c", "a"])
    with pytest.raises(SubmissionError, match="sample submission .* has 1 ids more than once: a"):
        plain_table(tmp_path, [0.1, 0.2], ["a", "b"], "id,p\na,0\nb,0\na,0\n")
    with pytest.raises(SubmissionError, match="1 of 2 ids are not text, the first is 12"):
        build_table(write(tmp_path, PLAIN), ["a", 12], np.array([0.1, 0.2]))  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("ids", "sample_ids", "cause"),
    [
        (["1", "13"], ["00001", "00013"], "The ids seem to have lost their leading zeros"),
        (["a", "b"], ["a.jpg", "b.jpg"], "The ids seem to have lost their ending"),
        (["a.jpg", "b.jpg"], ["a", "b"], "The ids of the sample seem to have lost their ending"),
        (["a", "b"], [" a", " b"], "The ids seem to have lost the spaces around them"),
        (["A.JPG", "B.JPG"], ["a.jpg", "b.jpg"], "The ids seem to differ only in upper and lower case"),
        (["e\u0301", "b"], ["\u00e9", "b"], "The ids seem to differ only in the Unicode form"),
        (["test\\a.jpg", "test\\b.jpg"], ["a.jpg", "b.jpg"], "The ids seem to differ only in the folder before them"),
    ],
)
def test_the_cause_of_wrong_ids_is_guessed(tmp_path: Path, ids: list[str], sample_ids: list[str], cause: str) -> None:
    sample = write(tmp_path, "id,p\n" + "".join(f"{value},0\n" for value in sample_ids))
    with pytest.raises(SubmissionError, match=cause):
        build_table(sample, ids, np.array([0.1, 0.2]))


def test_a_file_in_another_order_is_reported_and_left_unchanged(tmp_path: Path) -> None:
    sample = write(tmp_path, PLAIN)
    path = write(tmp_path, "target,id\r\n3e-1,c\r\n0.1,a\r\n0.2,b\r\n", "mine.csv")
    found = validate_file(path, sample)
    assert found.data == path.read_bytes()
    assert list(found.ids) == ["c", "a", "b"]
    np.testing.assert_array_equal(found.predictions, [0.3, 0.1, 0.2])
    assert [note.split(" ")[1] for note in found.notes] == ["columns", "rows", "line"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,score\na,0.1\nb,0.2\nc,0.3\n", "has the columns id, score; the sample submission has id, target"),
        ("id,target\na,0.1\nb,x\nc,\n", "2 of 3 values of 'target' are not numbers: b: 'x', c: ''"),
        ('id,target\na,0.1\nb,0.3\nc,"0.57', "the quotes of .* in line 4 are not closed"),
        ('id,target\na,"0.5\nb,"0.17\nc,0.1\n', "not closed|have more or fewer"),
        ("id,target\na,0.1\nb\nc,0.3\n", "1 of its 3 rows have more or fewer; the first is 'b' with 1"),
        ("", "is empty"),
        ("id,id\na,0.1\n", "two columns with the same name"),
        ("id,target\na,0.1\nb,0.2\n", "1 of 3 ids are missing: c"),
        ("id;target\na;0.1\nb;0.2\nc;0.3\n", "separated by ';', those of the sample submission by ','"),
        ("\nid\ttarget\na\t0.1\nb\t0.2\nc\t0.3\n", r"separated by '\\t', those of the sample submission by ','"),
    ],
)
def test_a_file_with_errors_is_refused(tmp_path: Path, text: str, message: str) -> None:
    sample = write(tmp_path, PLAIN)
    with pytest.raises(SubmissionError, match=message):
        validate_file(write(tmp_path, text, "mine.csv"), sample)


def test_files_that_are_not_text_are_refused(tmp_path: Path) -> None:
    sample = write(tmp_path, PLAIN)
    with pytest.raises(SubmissionError, match=r"There is no submission file at .*nowhere\.csv"):
        validate_file(tmp_path / "nowhere.csv", sample)
    with pytest.raises(SubmissionError, match="is a folder"):
        validate_file(tmp_path, sample)
    zipped = tmp_path / "x.csv"
    zipped.write_bytes(b"PK\x03\x04\xff\xfe\x00")
    with pytest.raises(SubmissionError, match="not UTF-8 text"):
        validate_file(zipped, sample)


def test_fingerprints_follow_the_values_and_not_the_order() -> None:
    values = np.array([0.1, 0.2, 0.3])
    first = values_fingerprint(["a", "b", "c"], values)
    assert values_fingerprint(["c", "a", "b"], values[[2, 0, 1]]) == first
    assert values_fingerprint(["a", "b", "c"], values[::-1]) != first
    assert values_fingerprint(["a", "b", "c"], values.astype(np.float32)) != first


def test_half_a_million_rows_take_a_few_seconds_at_most(tmp_path: Path) -> None:
    ids = [f"{number:08x}.jpg" for number in range(500_000)]
    sample = write(tmp_path, "img_name,y_pred\n" + "".join(f"{value},0.5\n" for value in ids))
    started = time.process_time()
    found = build_table(sample, ids[::-1], np.random.default_rng(0).random(500_000, np.float32))
    assert found.rows == 500_000
    assert time.process_time() - started < 8


@pytest.mark.parametrize("text", ["0_3", "0.3_1", "\u0660.\u0663", "[0.3]", "0,3", "0x1p-2", "1 2", ""])
def test_numbers_in_python_syntax_are_refused(tmp_path: Path, text: str) -> None:
    sample = write(tmp_path, PLAIN)
    path = write(tmp_path, f'id,target\na,0.1\nb,"{text}"\nc,0.3\n', "mine.csv")
    with pytest.raises(SubmissionError, match="1 of 3 values of 'target' are not numbers: b: "):
        validate_file(path, sample)


@pytest.mark.parametrize("text", ["1e-3", "+.5", " 0.25 ", "1.", "0"])
def test_usual_spellings_of_numbers_are_accepted(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, f"id,target\na,0.1\nb,{text}\nc,0.3\n", "mine.csv")
    assert validate_file(path, write(tmp_path, PLAIN)).predictions[1] == float(text)


def test_a_space_in_a_header_is_a_different_name(tmp_path: Path) -> None:
    path = write(tmp_path, PLAIN.replace("id,target", "id, target").replace(",0", ",0.5"), "mine.csv")
    with pytest.raises(SubmissionError, match="has the columns 'id', ' target'.*including spaces"):
        validate_file(path, write(tmp_path, PLAIN))


def test_the_id_and_the_prediction_column_are_different_columns(tmp_path: Path) -> None:
    sample, values = write(tmp_path, "target,id\n0.1,a\n0.2,b\n"), np.array([0.7, 0.8])
    assert build_table(sample, ["a", "b"], values, prediction_column="target").data == b"target,id\n0.7,a\n0.8,b\n"
    with pytest.raises(SubmissionError, match="'id' cannot be both the id and the prediction column"):
        build_table(sample, ["a", "b"], values, id_column="id", prediction_column="id")


def test_the_id_column_of_the_data_is_that_of_the_sample_if_it_has_one_of_this_name(tmp_path: Path) -> None:
    sample, values = write(tmp_path, "kind,id,target\nx,b,0\ny,a,0\n"), np.array([0.7, 0.8])
    found = build_table(sample, ["a", "b"], values, default_id="id", prediction_column="target")
    assert found.data == b"kind,id,target\nx,b,0.8\ny,a,0.7\n"
    with pytest.raises(SubmissionError, match="2 of 2 ids are missing: x, y"):
        build_table(sample, ["a", "b"], values, id_column="kind", default_id="id", prediction_column="target")
    sample = write(tmp_path, "name,target\nb,0\na,0\n")
    assert build_table(sample, ["a", "b"], values, default_id="id").data == b"name,target\nb,0.8\na,0.7\n"


def test_row_numbers_of_pandas_are_neither_ids_nor_predictions(tmp_path: Path) -> None:
    sample, values = write(tmp_path, ",id,target\n0,b,0\n1,a,0\n"), np.array([0.7, 0.8])
    found = build_table(sample, ["a", "b"], values)
    assert (found.data, found.column) == (b",id,target\n0,b,0.8\n1,a,0.7\n", "target")
    assert default_id_column(parse_delimited(sample.read_bytes(), sample, "sample")) == "id"
    mine = write(tmp_path, ",id,target\n0,b,0.8\n1,a,0.7\n", "mine.csv")
    assert validate_file(mine, sample).predictions.tolist() == [0.8, 0.7]
    sample = write(tmp_path, ",id,target,note\n0,b,0,x\n1,a,0,y\n")
    with pytest.raises(SubmissionError, match="2 columns in addition to the id 'id': target, note"):
        build_table(sample, ["a", "b"], values)
    sample = write(tmp_path, ",target,id\n0,0,b\n1,0,a\n")
    with pytest.raises(SubmissionError, match="'target', does not contain ids.*id_column = \"id\""):
        build_table(sample, ["a", "b"], values)


def test_ids_without_a_name_are_those_of_a_data_frame_with_an_index(tmp_path: Path) -> None:
    sample = write(tmp_path, ",target\nb,0\na,0\n")
    assert build_table(sample, ["a", "b"], np.array([0.7, 0.8])).data == b",target\nb,0.8\na,0.7\n"


def test_a_sample_without_ids_in_its_first_column_is_reported(tmp_path: Path) -> None:
    sample = write(tmp_path, "y_pred,img_name\n0.5,a\n0.5,b\n")
    with pytest.raises(SubmissionError, match="'y_pred', does not contain ids.*id_column = \"img_name\""):
        build_table(sample, ["a", "b"], np.array([0.1, 0.2]))


def test_spaces_around_ids_are_named_as_the_cause(tmp_path: Path) -> None:
    path = write(tmp_path, "id,target\na ,0.1\nb ,0.2\nc ,0.3\n", "mine.csv")
    with pytest.raises(SubmissionError, match="There seem to be spaces around the ids, which the sample does not have"):
        validate_file(path, write(tmp_path, PLAIN))


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    data = b"id,target\na,0.1\nb,0.2\nc,0.3\n"
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    found = validate_file(Path(f"/dev/fd/{reader}"), write(tmp_path, PLAIN))
    os.close(reader)
    assert found.data == data


@pytest.mark.parametrize("name", ["x" * 300 + ".csv", "sample_submission.csv/x.csv", "a\0b"])
def test_a_path_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    sample = write(tmp_path, PLAIN)
    with pytest.raises(SubmissionError, match="submission file .* cannot be read"):
        validate_file(tmp_path / name, sample)


def test_a_sample_whose_names_contain_another_separator_is_filled(tmp_path: Path) -> None:
    sample = write(tmp_path, "id;real,fake\na;0\nb;0\n")
    found = build_table(sample, ["b", "a"], np.array([0.5, 0.25]))
    assert found.data == b"id;real,fake\na;0.25\nb;0.5\n"
    assert validate_file(write(tmp_path, found.data.decode(), "mine.csv"), sample).column == "real,fake"
