"""Only safe archives are unpacked, and an interrupted unpacking resumes."""

import errno
import os
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from oof.errors import DataError, DfensError
from submissions.kaggle.unpack import Destination, move_aside, unpack
from tests.support.archives import make_zip


@pytest.mark.parametrize(
    "name",
    ["dfens.toml", "work/submissions/ledger.sqlite", "/".join([".", "work", "x"]), "/".join(["a", "..", "work", "y"])],
)
def test_an_archive_cannot_become_a_file_of_dfens(name: str, tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"good.txt": b"good", name: b"evil"})
    to = Destination(tmp_path, protected=(tmp_path / "dfens.toml", tmp_path / "work"))
    with pytest.raises(DataError, match="a file of dfens|leads outside"):
        unpack(archive, to)
    assert not (tmp_path / "good.txt").exists()


@pytest.mark.parametrize("names", [("a", "./a"), ("a/b", "a//b")])
def test_two_spellings_of_one_name_are_duplicates(names: tuple[str, str], tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {name: name.encode() for name in names})
    with pytest.raises(DataError, match=r"\(duplicate\)"):
        unpack(archive, Destination(tmp_path / "here"))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("../evil.txt", "leads outside"),
        ("a/../../evil.txt", "leads outside"),
        ("/etc/evil.txt", "absolute"),
        ("C:\\evil.txt", "absolute"),
        ("..\\evil.txt", "leads outside"),
    ],
)
def test_members_that_lead_outside_are_refused(name: str, fault: str, tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"good.txt": b"good", name: b"evil"})
    with pytest.raises(DataError, match=rf"1 members that are not safe.*{fault}.*Nothing was unpacked"):
        unpack(archive, Destination(tmp_path / "in" / "here"))
    assert not list(tmp_path.rglob("*.txt"))


def test_links_and_duplicate_members_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {}, links={"out": "/etc", "out/passwd": "x"})
    with pytest.raises(DataError, match=r"'out' \(a link\), 'out/passwd' \(a link\), 'out' \(a file and a folder\)"):
        unpack(archive, Destination(tmp_path / "here"))
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as twice:
        twice.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            twice.writestr("a", b"2")
    with pytest.raises(DataError, match=r"'a' \(duplicate\)"):
        unpack(tmp_path / "y.zip", Destination(tmp_path / "here"))


def test_a_bomb_is_refused_by_its_declared_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "x.zip", {"zeros": bytes(50 << 20)})
    assert archive.stat().st_size < 100_000
    monkeypatch.setattr("submissions.kaggle.unpack.shutil.disk_usage", lambda path: SimpleNamespace(free=100 << 20))
    with pytest.raises(
        DfensError, match=r"needs 50.0 MiB, but the disk of .* has only 100.0 MiB free. Nothing was unpacked"
    ):
        unpack(archive, Destination(tmp_path / "here"))
    assert not list((tmp_path / "here").iterdir())


def test_a_bomb_that_declares_too_small_a_size_is_not_unpacked_beyond_it(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"zeros": bytes(5 << 20)})
    data = archive.read_bytes()
    archive.write_bytes(data.replace(struct.pack("<L", 5 << 20), struct.pack("<L", 1000)))
    with pytest.raises(DataError, match="is not a readable ZIP file"):
        unpack(archive, Destination(tmp_path / "here"))
    assert not [path for path in (tmp_path / "here").rglob("*") if path.is_file()]


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"a": np.random.default_rng(0).bytes(10_000)})
    with zipfile.ZipFile(archive, "a") as opened:
        for number in range(3):
            again = opened.getinfo("a")
            copied = zipfile.ZipInfo(f"b{number}")
            for name in ("CRC", "compress_size", "file_size", "header_offset", "compress_type"):
                setattr(copied, name, getattr(again, name))
            opened.filelist.append(copied)
            opened.NameToInfo[copied.filename] = copied
        opened._didModify = True  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="overlapping members, as in a ZIP bomb"):
        unpack(archive, Destination(tmp_path / "here"))


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"a": np.random.default_rng(0).bytes(100_000)})
    data = bytearray(archive.read_bytes())
    data[5000] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(DataError, match=r"Run dfens download --force"):
        unpack(archive, Destination(tmp_path / "here"))
    archive.write_bytes(data[:50_000])
    with pytest.raises(DataError, match="not a readable ZIP file"):
        unpack(archive, Destination(tmp_path / "here"))
    assert not [path for path in (tmp_path / "here").rglob("*") if path.is_file()]


def test_unpacking_resumes_after_an_interruption(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"a": b"1", "b/c": b"2", "d": b"3"})
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a").write_bytes(b"1")
    (tmp_path / "here" / "d").write_bytes(b"9")
    done = unpack(archive, Destination(tmp_path / "here"))
    assert (done.written, done.kept) == (1, ("d",))  # a differing file is the user's, never a partial one of dfens
    assert (tmp_path / "here" / "d").read_bytes() == b"9"


@pytest.mark.parametrize("force", [False, True])
def test_resuming_needs_space_only_for_files_that_are_missing(
    force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_zip(tmp_path / "x.zip", {"a": bytes(50 << 20), "b": bytes(20 << 20)})
    here, free = tmp_path / "here", 100 << 20  # 64 MiB of which stay free
    to = Destination(here, tmp_path / "aside" if force else None)
    here.mkdir()
    (here / "a").write_bytes(bytes(50 << 20))
    monkeypatch.setattr("submissions.kaggle.unpack.shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    assert unpack(archive, to).written == 1
    (here / "a").unlink()
    with pytest.raises(DfensError, match=r"needs 50.0 MiB, but the disk of .* has only 100.0 MiB free"):
        unpack(archive, to)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EXDEV])
def test_a_file_is_copied_aside_only_to_another_disk(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(source: object, path: object) -> None:
        raise OSError(number, os.strerror(number), str(source), None, str(path))

    (tmp_path / "x").write_text("old")
    monkeypatch.setattr("os.rename", rename)
    if number == errno.EXDEV:
        assert move_aside(tmp_path / "x", tmp_path / "y").read_text() == "old"
        assert not (tmp_path / "x").exists()
    else:
        with pytest.raises(PermissionError):
            move_aside(tmp_path / "x", tmp_path / "y")
        assert [path.name for path in tmp_path.iterdir()] == ["x"]
