"""`dfens download` against a server on this machine."""

import json
from pathlib import Path

import pytest
from click.testing import Result

from tests.support import commands
from tests.support.kaggle_server import KaggleServer
from tests.support.rights import without_root_rights

CONFIG = """
[competition]
slug = "multi-ffdi"
[data]
layout = "table"
root = "data"
[submissions]
retry_first_s = 0.05
retries = 1
"""


def run(folder: Path, *arguments: str, code: int = 0) -> Result:
    return commands.run(folder, "download", *arguments, code=code)


@pytest.fixture
def folder(tmp_path: Path, online: KaggleServer) -> Path:
    online.files = {"train.csv": b"id,target\n1,0\n", "train/1.jpg": b"picture", "inner.zip": b"PK"}
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "dfens.toml").write_text(CONFIG)
    return tmp_path / "job"


def test_all_files_are_downloaded_once(folder: Path, online: KaggleServer) -> None:
    first = run(folder).stdout
    assert f"3 files, 0.0 MB in {folder / 'data'}." in first
    assert "not unpacked: inner.zip" in first
    assert "Next: dfens check" in first
    assert (folder / "data" / "train" / "1.jpg").read_bytes() == b"picture"
    assert not list((folder / "work" / "submissions" / "download").glob("*.zip*"))
    calls = len(online.calls)
    assert run(folder).stdout.startswith("Nothing to do: 3 files")
    assert json.loads(run(folder, "--json").stdout)["fetched"] == 0
    assert len(online.calls) == calls


def test_unpacking_the_rest_of_an_archive_is_not_nothing(folder: Path) -> None:
    """The archive of a run that was killed while it unpacked is used again."""
    run(folder, "--keep-archive")
    (folder / "data" / "train.csv").unlink()
    found = run(folder, "--keep-archive")
    assert found.stdout.startswith("3 files, 0.0 MB in")
    assert (folder / "data" / "train.csv").exists()
    assert run(folder, "--keep-archive").stdout.startswith("Nothing to do: 3 files")
    (folder / "data" / "train.csv").unlink()
    assert run(folder, "--file", "train.csv").stdout.startswith("1 file, 0.0 MB in")
    assert run(folder, "--file", "train.csv").stdout.startswith("Nothing to do: 1 file")


def test_the_archive_is_kept_on_request(folder: Path) -> None:
    run(folder, "--keep-archive")
    assert (folder / "work" / "submissions" / "download" / "multi-ffdi.zip").exists()


def test_single_files_and_the_list(folder: Path, online: KaggleServer) -> None:
    assert json.loads(run(folder, "--list", "--json").stdout)["files"]["train.csv"] == 14
    assert "train/1.jpg" in run(folder, "--list").stdout
    run(folder, "--file", "train.csv", "--file", "train/1.jpg")
    assert {path.name for path in (folder / "data").rglob("*") if path.is_file()} == {"train.csv", "1.jpg"}
    assert "has no file tran.csv; it has" in run(folder, "--file", "tran.csv", code=1).stderr


def test_rules_not_accepted_are_code_1_with_the_link(folder: Path, online: KaggleServer) -> None:
    online.fail("DownloadDataFiles", status=403, message="You must accept this competition's rules", shape="flat")
    said = run(folder, code=1).stderr
    assert "https://www.kaggle.com/competitions/multi-ffdi/rules" in said
    assert "Traceback" not in said


def test_a_data_root_that_cannot_be_written_is_named(folder: Path, online: KaggleServer) -> None:
    (folder / "data").write_text("in the way")
    for arguments in ((), ("--file", "train.csv")):
        said = run(folder, *arguments, code=1).stderr
        assert f"{folder / 'data'} cannot be written" in said
        assert f"{folder / 'data'} is a file where a folder is expected: move it away, or choose another folder" in said
    (folder / "data").unlink()
    assert json.loads(run(folder, "--json").stdout)["fetched"] == 0  # the archive was already there


def test_an_unsafe_archive_unpacks_nothing(folder: Path, online: KaggleServer) -> None:
    online.files = {"../evil.txt": b"x", "good.txt": b"y"}
    assert "'../evil.txt' (leads outside)" in run(folder, code=1).stderr
    assert not list(folder.rglob("*.txt"))


@pytest.mark.parametrize("arguments", [(), ("--file", "train.csv")])
def test_a_data_folder_that_cannot_be_written_is_named(folder: Path, arguments: tuple[str, ...]) -> None:
    data = folder / "data"
    data.mkdir(mode=0o555)
    with without_root_rights():
        refused = run(folder, *arguments, code=1).stderr
    assert f"{data}/train.csv cannot be written (Permission denied). Correct the permissions of {data}" in refused
    data.rmdir()
    for goal in ("disk/data", "data"):  # of a disk that is not mounted; a loop
        data.symlink_to(goal)
        assert f"{data} is a link to a folder that does not exist" in run(folder, *arguments, code=1).stderr
        data.unlink()
    state = folder / "work" / "submissions"
    (state / "download" / "lock").unlink()
    state.rename(folder / "elsewhere")
    state.write_text("a file")
    assert f"{state} is a file where a folder is expected" in run(folder, *arguments, code=1).stderr
