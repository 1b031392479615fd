"""Sources for pyarrow's readers: no thread of pyarrow may need the interpreter, which may be about to exit."""

import ast
import errno
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oof.native_sources import native_file, native_reader

ROOT = Path(__file__).parents[2]
READERS = {"read_table", "read_schema", "read_csv", "open_csv", "ParquetFile"}
MODULES = {"pq", "parquet", "csv", "feather", "pa"}


def test_a_reader_owns_a_copy_of_the_bytes() -> None:
    data = bytes(range(256)) * 10
    before = sys.getrefcount(data)
    reader = native_reader(data)
    assert sys.getrefcount(data) == before
    assert reader.read() == data
    assert native_reader(b"").read() == b""


def test_a_file_is_opened_by_pyarrow_also_if_its_name_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.parquet"  # the byte E9, as Python decodes it
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "a.parquet")
    (tmp_path / "a.parquet").rename(path)
    assert type(native_file(path)) is pa.OSFile
    assert pq.read_table(native_file(path)).column("a").to_pylist() == [1, 2]


def test_an_error_of_opening_is_that_of_the_operating_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        native_file(tmp_path / "none")
    assert (caught.value.errno, caught.value.strerror) == (errno.ENOENT, "No such file or directory")
    with pytest.raises(IsADirectoryError):
        native_file(tmp_path)


def test_every_reader_of_pyarrow_gets_such_a_source() -> None:
    found = 0
    for package in ("oof", "ensemble", "trainers", "submissions", "dfens"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                    continue
                names = set(ast.unparse(call.func.value).split("."))
                if call.func.attr in READERS and names & MODULES:
                    source = ast.unparse(call.args[0])
                    assert source.startswith(("native_file(", "native_reader(")), f"{path}: {ast.unparse(call)}"
                    found += 1
    assert found >= 7
