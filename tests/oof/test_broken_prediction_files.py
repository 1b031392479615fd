"""Files of predictions that are broken, packed twice or of another format are named, with what to do."""

import gzip
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from oof.errors import PredictionError
from oof.exchange.importing import ColumnChoice, read_predictions
from tests.oof.test_exchange_files import write, zip_of

packed = partial(gzip.compress, mtime=0)  # names of tests must not depend on the time


def test_a_pipe_is_reported_as_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.csv")
    with pytest.raises(PredictionError, match="m.csv is not a regular file"):
        read_predictions(tmp_path / "m.csv")


def test_text_that_is_not_utf8_and_names_that_are_too_long_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", id=np.array([b"\xffa", b"b"]), pred=np.array([0.5, 0.25]))
    with pytest.raises(PredictionError, match="the text in 'id' is not UTF-8"):
        read_predictions(tmp_path / "b.npz")
    with pytest.raises(PredictionError, match="cannot be read: .*too long"):
        read_predictions(tmp_path / ("x" * 300 + ".csv"))
    with pytest.raises(PredictionError, match="a header but no rows"):
        read_predictions(write(tmp_path / "h.csv", "id,fold,pred"))
    for text in ("0_3", "0.3_1", "\u0660.\u0663"):
        with pytest.raises(PredictionError, match="1 of 2 values of column 'pred' are not numbers"):
            read_predictions(
                write(tmp_path / "n.csv", "id,pred", "a,0.5", f"b,{text}"), ColumnChoice(predictions=("pred",))
            )


def test_types_of_arrays_in_an_npz(tmp_path: Path) -> None:
    path, ids = tmp_path / "a.npz", np.array(["a", "b"])
    np.savez(path, id=ids, pred=np.array([0.5, 0.25], np.longdouble))
    (values,) = read_predictions(path).predictions.values()
    assert values.tolist() == [0.5, 0.25]
    for wrong in (np.array([0.5, 0.25], complex), np.zeros(2, [("id", "U1"), ("pred", "f4")])):
        np.savez(path, id=ids, pred=wrong)
        with pytest.raises(PredictionError, match="'pred' has the type .*Expected an array of text or of real numbers"):
            read_predictions(path)


def test_python_objects_in_an_npz_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", id=np.array(["a", None], object), pred=np.array([0.5, 0.25]))
    with pytest.raises(PredictionError, match="Python objects.*Save text as np.array"):
        read_predictions(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n\n", "is empty"),
        ("a.csv", "id,pred\nä,0.5\n".encode("latin-1"), "not UTF-8"),
        ("a.csv", b"id,pred\na,0.5\nb\n", "the line `b` has 1 values, but the first line has 2"),
        ("a.csv.gz", b"\x1f\x8b no gzip", "cannot be read"),
        ("a.parquet", b"PAR1 cut", "cannot be read"),
        ("a.feather", b"", "cannot be read"),
        ("a.npz", b"PK cut", "no whole NPZ|cannot be read|Python objects"),
        ("a.pkl", b"x", "has an unknown format. A pickle can run arbitrary code"),
        ("a.xlsx", b"x", "has an unknown format. Write it as one of .csv"),
        ("a.csv", b'{"a": {"pred": 0.5}}', "contains JSON instead of a CSV. Save the predictions as a table"),
        ("a.csv", b"\xef\xbb\xbf\n[1, 2]\n", "contains JSON instead of a CSV"),
        ("a.zip", zip_of({"p.json": b'{"a": {"pred": 0.5}}'}), "a.zip contains JSON instead of a CSV"),
        ("a.csv", b"<!DOCTYPE html>\n<html>\n", "contains HTML or XML instead of a CSV"),
        ("a.tar.gz", packed(b"p.csv" + bytes(600)), "contains a binary format instead of a CSV"),
        ("a.zip", zip_of({"p.csv.gz": packed(b"id,pred")}), "packed twice: 'p.csv.gz' is a gzip file. Unpack"),
        ("a.zip", zip_of({"b.zip": zip_of({"p.csv": b""})}), "packed twice: 'b.zip' is a zip archive .*Unpack"),
        ("a.csv.gz", packed(packed(b"id,pred")), "packed twice: its content is a gzip file"),
        ("a.zip", zip_of({}), "is a zip archive without files"),
        ("a.csv", b"id,pred", "has a header but no rows"),
    ],
)
def test_broken_and_unknown_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PredictionError, match=message):
        read_predictions(tmp_path / name)
    with pytest.raises(PredictionError, match=r"nowhere\.csv does not exist"):
        read_predictions(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("id,pred\n1,a,0.5\n2,b,0.25\n", "1,a,0.5"),
        ("# fold 0\nid,pred\na,0.5\n", "id,pred"),
        ("sep=;\nid;x;pred\na;1;0.5\n", "id;x;pred"),
        ("id,x,pred\na,1,0.5\nb,1\n", "b,1"),
    ],
)
def test_a_line_with_more_or_fewer_values_than_the_header_is_shown(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(PredictionError, match=rf"the line `{line}` has . values, but the first line has"):
        read_predictions(tmp_path / "m.csv")
