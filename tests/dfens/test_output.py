"""Output errors change neither exit code nor results; tables fit the terminal; files of users are not overwritten."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from dfens.cli import cli
from dfens.terminal import TerminalProgress, amount_done, make_console, printable
from dfens.views.tables import make_table
from dfens.workspace.paths import Workspace
from oof.store import PredictionStore
from tests.support.ensemble import make_workspace


def dfens(
    *arguments: str, out: int | None = None, error: int | None = None, **environment: str
) -> tuple[int, str, str]:
    """Run dfens as a process; out and error are descriptors, None to collect."""
    done = subprocess.run(
        [sys.executable, "-m", "dfens", *arguments],
        stdout=subprocess.PIPE if out is None else out,
        stderr=subprocess.PIPE if error is None else error,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        check=False,
    )
    return done.returncode, (done.stdout or b"").decode("latin-1"), (done.stderr or b"").decode("latin-1")


@pytest.fixture(scope="module")
def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("arguments", [("--help",), ("recipes",), ("recipes", "--json")])
def test_output_to_a_full_disk_is_a_warning(full: int, arguments: tuple[str, ...]) -> None:
    code, _, error = dfens(*arguments, out=full)
    assert (code, error) == (0, "Warning: standard output could not be written (No space left on device).\n")


def test_a_closed_pipe_is_not_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert dfens("recipes", out=writer) == (0, "", "")
    os.close(writer)


def test_errors_keep_their_exit_code_even_if_they_cannot_be_written(tmp_path: Path, full: int) -> None:
    assert dfens("-C", str(tmp_path), "folds", error=full)[0] == 1
    assert dfens("-C", str(tmp_path), "no-such-command", error=full)[0] == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_characters_missing_in_an_encoding_are_replaced(tmp_path: Path, encoding: str) -> None:
    store, _, _ = make_workspace(tmp_path)
    store.save_model("half", "linear", {})
    code, out, error = dfens("-C", str(tmp_path), "status", PYTHONIOENCODING=encoding)
    assert (code, error) == (0, "")
    assert "imported" in out or "OOF only" in out or "complete" in out
    code, out, _ = dfens("-C", str(tmp_path), "status", "--json", PYTHONIOENCODING=encoding)
    assert code == 0
    assert json.loads(out)["models"]


def test_a_closed_output_does_not_affect_files(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    command = f'"{sys.executable}" -m dfens -C "{tmp_path}" oof export --out out.csv >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", command], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=False
    )
    assert done.returncode == 0
    assert (tmp_path / "out.csv").read_text().startswith("id,target,fold,m0,m1,m2\n")


def test_optional_columns_are_left_out_on_a_narrow_terminal_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows = [{"name": "a" * 20, "score": 0.5, "first": "x" * 15, "second": "y" * 15}]
    console = make_console(stderr=False)
    with console.capture() as captured:
        console.print(make_table(rows, optional=["first", "second"]))
    assert max(map(len, captured.get().splitlines()[:4])) <= 40
    assert "0.50000" in captured.get()
    assert "xxx" not in captured.get()
    assert "Not shown in 40 columns: first, second." in " ".join(captured.get().split())


def test_colors_respect_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    console = make_console(stderr=True)
    with console.capture() as captured:
        console.print("Error:", style="bold red")
    assert "31m" not in captured.get()
    monkeypatch.delenv("NO_COLOR")
    console = make_console(stderr=True)
    with console.capture() as captured:
        console.print("Error:", style="bold red")
    assert "31m" in captured.get()


def test_progress_without_a_terminal_is_a_line_that_reads_well(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 30.0, 42.0])
    monkeypatch.setattr("dfens.terminal.time.monotonic", lambda: next(times))
    out = io.StringIO()
    progress = TerminalProgress(Console(file=out, width=80))
    with progress.task("tiny fold 0", total=120, unit="step") as task:
        task.advance(20, epoch="2/10")
        task.advance(1)
    assert out.getvalue().splitlines() == [
        "tiny fold 0: 20 of 120 steps (17 %), 2 min 30 s left, epoch 2/10",
        "tiny fold 0: 21 of 120 steps (18 %), 3 min 18 s left",
    ]


@pytest.mark.parametrize(
    ("done", "total", "unit", "text"),
    [
        (3e6, 12e6, "B", "3.0 of 12.0 MB (25 %)"),
        (1, 1, "file", "1 of 1 file (100 %)"),
        (2, None, "file", "2 files"),
        (2, 5, "files", "2 of 5 files (40 %)"),
        (2, 5, "", "2 of 5 (40 %)"),
    ],
)
def test_amounts_have_units_in_the_plural(done: float, total: float | None, unit: str, text: str) -> None:
    assert amount_done(done, total, unit) == text


def test_ids_are_shown_unchanged_but_cannot_control_the_terminal() -> None:
    console = make_console(stderr=False)
    with console.capture() as captured:
        console.print(make_table([{"id": "clip:id:b [red]", "team": "x\x1b[2J\u009b"}]))
    assert "clip:id:b [red]" in captured.get()
    assert "x\\x1b[2J\\x9b" in captured.get()
    assert printable("tab\tline\n") == "tab\tline\n"


def test_paths_in_options_are_relative_to_the_folder_of_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    make_workspace(project)
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(elsewhere))
    for out, where in (("wide.csv", project), ("~/home.csv", elsewhere), (str(elsewhere / "full.csv"), elsewhere)):
        result = CliRunner().invoke(cli, ["-C", str(project), "oof", "export", "--out", out])
        assert result.exit_code == 0, result.output
        assert (where / Path(out).name).exists()
    (elsewhere / "wide.csv").write_text("id,m9\nnot,these\n")
    result = CliRunner().invoke(cli, ["-C", str(project), "oof", "import", "wide.csv", "--replace"])
    assert result.exit_code == 0, result.output
    assert "m9" not in PredictionStore(project / "work" / "oof").names()


def test_a_path_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    project, odd = tmp_path / "project", tmp_path / os.fsdecode(b"p\xe9")
    for folder in (project, odd):
        folder.mkdir()
    make_workspace(project)
    name = os.fsdecode(b"s\xe9.csv")
    (project / name).write_text("id,target\n")
    (project / "data").mkdir()
    (project / "data" / "sample_submission.csv").write_text("id,target\nt0,0\n")
    for arguments in (
        ["-C", str(odd), "status"],
        ["-C", str(project), "submit", "--dry-run", "--file", name],
        ["-C", str(project), "oof", "import", name],
        ["-C", str(project), "oof", "export", "--out", name],
    ):
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 1, result.output
        assert "is not UTF-8. Rename that file or folder." in result.stderr


def test_a_file_of_the_user_is_not_replaced_without_force(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    (tmp_path / "mine.csv").write_text("mine")
    arguments = ["-C", str(tmp_path), "oof", "export", "--out", "mine.csv"]
    refused = CliRunner().invoke(cli, arguments)
    assert refused.exit_code == 1
    assert f"{tmp_path / 'mine.csv'} exists. Choose another name, or give --force to replace it." in refused.stderr
    assert (tmp_path / "mine.csv").read_text() == "mine"
    assert CliRunner().invoke(cli, [*arguments, "--force"]).exit_code == 0
    (tmp_path / "page.json").write_text("mine")
    report = CliRunner().invoke(cli, ["-C", str(tmp_path), "report", "--out", "page.html"])
    assert report.exit_code == 1
    assert (tmp_path / "page.json").read_text() == "mine"


def test_init_keeps_every_earlier_file(tmp_path: Path) -> None:
    (tmp_path / "dfens.toml").write_text("first")
    for text in ("first", "second"):
        (tmp_path / "dfens.toml").write_text(text)
        assert CliRunner().invoke(cli, ["-C", str(tmp_path), "init", "--force"]).exit_code == 0
    assert (tmp_path / "dfens.toml.old").read_text() == "first"
    assert (tmp_path / "dfens.toml.old-2").read_text() == "second"


def test_plots_of_different_comparisons_have_different_paths(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.compare_plot(["a", "b"], "gains").parent.name == "a-vs-b"
    long = ["x" * 95, "first"], ["x" * 95, "other"]
    first, other = (workspace.compare_plot(names, "gains") for names in long)
    assert first != other
    assert len(first.parent.name) == 100
