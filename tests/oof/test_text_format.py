"""Tables in text: the delimiter is found although names or values contain others, and other formats are named."""

from pathlib import Path

import numpy as np
import pytest

from oof.errors import DataError, DfensError, PredictionError, SubmissionError
from oof.exchange.prediction_files import read_predictions
from oof.text_format import find_delimiter, other_format
from submissions.table import build_table
from trainers.data.text_tables import read_text_table


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("id;prob,fake\na;0.5\n", ["id", "prob,fake"]),
        ("id\tprob, of a fake, 0 to 1\na\t0.5\n", ["id", "prob, of a fake, 0 to 1"]),
        ("id,real;fake;any\na,0.5\n", ["id", "real;fake;any"]),
        ('"id, as in train.csv, without .jpg";pred\na;0.5\n', ["id, as in train.csv, without .jpg", "pred"]),
        ('id;pred\n"a, b";0,5\n', ["id", "pred"]),
        ("id;pred;x,y\na;0,5;1\n", ["id", "pred", "x,y"]),
        ("[id],[pred]\na,0.5\n", ["[id]", "[pred]"]),
        ("<id>, <pred>\na, 0.5\n", ["<id>", "<pred>"]),
        ("<id>\t<pred>\na\t0.5\n", ["<id>", "<pred>"]),
    ],
)
def test_the_delimiter_is_the_one_that_every_line_has(tmp_path: Path, text: str, names: list[str]) -> None:
    (tmp_path / "m.csv").write_text(text)
    columns = read_text_table(tmp_path / "m.csv", "label file").columns
    assert list(columns) == names
    (values,) = read_predictions(tmp_path / "m.csv").predictions.values()
    assert values.tolist() == [0.5]


def test_two_equally_possible_delimiters_are_a_question(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("id;a,b\nx;0,5\ny;0,6\n")
    message = "m.csv: the columns may be separated by ',' or by ';'; each line .* Write names and values .* in quotes"
    with pytest.raises(PredictionError, match=message):
        read_predictions(path)
    with pytest.raises(DataError, match=message):
        read_text_table(path, "label file")
    with pytest.raises(SubmissionError, match=message):
        build_table(path, [], np.zeros(0))
    path.write_text('id;"a,b"\nx;"0,5"\ny;0,6\n')
    assert read_predictions(path).ids.tolist() == ["x", "y"]


def test_a_space_separates_only_without_other_delimiters() -> None:
    assert find_delimiter("image id,pred\na b,0.5", ", ", Path("m.csv"), DfensError) == ","
    assert find_delimiter("id pred\na 0.5", ", ", Path("m.csv"), DfensError) == " "


@pytest.mark.parametrize("text", ['"id"\n"a"\n"b"\n', '"id"\na;b,c\nb;d,c\n'])
def test_a_quoted_header_of_one_column_has_no_delimiter(text: str) -> None:
    assert find_delimiter(text, ",;", Path("m.csv"), DfensError) == ","


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a.mp4": {"label": "FAKE"}}', "JSON"),
        ('\n[{"id": "a"}]', "JSON"),
        ("[[1, 2], [3, 4]]", "JSON"),
        ('[null, {"id": "a"}]', "JSON"),
        ("[0],[1]\na,0.5", None),
        ("{'id': 'a'}", "JSON"),
        ("<!DOCTYPE html>\n<html>", "HTML or XML"),
        ('<html lang="en">\n<p>a, b</p>', "HTML or XML"),
        ("<?xml version='1.0'?>\n", "HTML or XML"),
        ("id\0pred", "a binary format"),
        ("[id],[pred]\n", None),
        ("<id>,<pred>\n", None),
        ("{id};{pred}\n", None),
        ("id,pred\n{},[]\n", None),
    ],
)
def test_other_formats_under_the_name_of_a_table_are_named(tmp_path: Path, text: str, found: str | None) -> None:
    assert other_format(text) == found
    if found is not None:
        (tmp_path / "m.csv").write_text(text)
        with pytest.raises(
            SubmissionError, match=rf"submission .*m\.csv contains {found} instead of a CSV; expected a"
        ):
            build_table(tmp_path / "m.csv", [], np.zeros(0))
    if found not in (None, "JSON"):
        with pytest.raises(
            DataError, match=rf"The label file .*m\.csv contains {found}\. Expected a table as CSV, Par"
        ):
            read_text_table(tmp_path / "m.csv", "label file")
