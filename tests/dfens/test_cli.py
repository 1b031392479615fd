"""The command line: help, exit codes, where output goes, and what --help does not load."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dfens.cli import cli
from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.workspace.paths import Workspace
from oof.errors import DfensError
from trainers.runtime.signals import Stopped

ROOT = Path(__file__).parents[2]
HEAVY = {
    "torch",
    "timm",
    "torchvision",
    "kaggle",
    "kagglesdk",
    "sqlalchemy",
    "sklearn",
    "scipy",
    "pandas",
    "numba",
    "pydantic",
}


def commands(group: click.Command, path: str = "dfens") -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its full name, including those of groups."""
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            found = group.get_command(context, name)
            assert found is not None
            yield f"{path} {name}", found
            yield from commands(found, f"{path} {name}")


def test_every_command_has_help_and_a_line_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, command in commands(cli):
        assert command.help, f"{name} has no help text"
        if name.count(" ") == 1:
            assert f"`{name}" in readme, f"README.md does not name {name}"
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.name} has no help text"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from dfens.cli import cli; cli(['--help'], standalone_mode=False);"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert not loaded & (HEAVY | {"numpy", "rich"})
    assert "submit" in done.stdout


def test_the_command_lets_threads_sleep_before_it_loads_a_library() -> None:
    """OpenMP reads its wait policy once, when the first library that uses it is loaded."""
    code = (
        "import os, sys; from dfens import __main__ as program\n"
        "program.cli = lambda **_: print(os.environ['OMP_WAIT_POLICY'], {'numpy', 'torch'} & set(sys.modules))\n"
        "program.main()"
    )
    unset = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=unset, cwd=ROOT)
    assert done.stdout == "PASSIVE set()\n", done.stderr


def test_importing_dfens_loads_nothing_heavy() -> None:
    code = "import sys, dfens; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {name.split(".")[0] for name in done.stdout.split()} & (HEAVY | {"numpy", "click", "rich"})


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that raises the exception named by its argument."""

    @click.command("fail", help="Fails.")
    @click.argument("how")
    @pass_workspace
    def command(workspace: Workspace, console: Console, how: str) -> None:
        console.show({"how": how, "nan": float("nan"), "path": Path("a")}, [f"result {how}"])
        console.say("beside")
        errors: dict[str, BaseException] = {
            "named": DfensError("Found a, expected [b], do c."),
            "interrupted": KeyboardInterrupt(),
            "stopped": Stopped(),
            "memory": MemoryError("Unable to allocate 439. MiB"),
            "bug": ZeroDivisionError("bug"),
        }
        if how in errors:
            raise errors[how]

    known = type(cli).get_command
    monkeypatch.setattr(
        type(cli), "get_command", lambda self, ctx, name: command if name == "fail" else known(self, ctx, name)
    )


@pytest.mark.usefixtures("failing")
def test_a_named_error_ends_with_1_and_no_traceback() -> None:
    result = CliRunner().invoke(cli, ["fail", "named"])
    assert result.exit_code == 1
    assert "Error: Found a, expected [b], do c." in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("failing")
def test_a_full_memory_is_named() -> None:
    result = CliRunner().invoke(cli, ["fail", "memory"])
    assert result.exit_code == 1
    assert "The memory of this machine is full (Unable to allocate 439. MiB). Set smaller" in result.stderr
    assert "Traceback" not in result.output


def test_a_removed_current_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = CliRunner().invoke(cli, ["status"])
    assert result.exit_code == 1
    assert "The current folder no longer exists." in result.stderr


@pytest.mark.usefixtures("failing")
def test_an_interruption_ends_with_130() -> None:
    result = CliRunner().invoke(cli, ["fail", "interrupted"])
    assert result.exit_code == 130
    assert "run the same command again to resume" in result.stderr


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize(("rank", "lines"), [(None, 1), ("0", 1), ("1", 0)])
def test_every_command_stopped_by_sigterm_ends_with_143(
    rank: str | None, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rank is not None:  # under torchrun, one of the processes reports
        for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}.items():
            monkeypatch.setenv(name, value)
    result = CliRunner().invoke(cli, ["fail", "stopped"])
    assert result.exit_code == 143
    assert result.stderr.count("Stopped by SIGTERM; everything is saved.") == lines
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("failing")
def test_an_unexpected_exception_keeps_its_traceback() -> None:
    assert isinstance(CliRunner().invoke(cli, ["fail", "bug"]).exception, ZeroDivisionError)


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("arguments", [["--json", "fail", "x"], ["fail", "x", "--json"]])
def test_only_json_goes_to_stdout(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert json.loads(result.stdout) == {"how": "x", "nan": None, "path": "a"}
    assert result.stderr == "beside\n"


def test_wrong_usage_ends_with_2() -> None:
    assert CliRunner().invoke(cli, ["folds", "--k", "one"]).exit_code == 2
    assert CliRunner().invoke(cli, ["fold"]).exit_code == 2


@pytest.mark.parametrize(("word", "answer"), [("trian", "Did you mean 'train'?"), ("xyz", "dfens --help lists them")])
def test_a_misspelt_command_is_answered_with_the_nearest_one(word: str, answer: str) -> None:
    result = CliRunner().invoke(cli, [word])
    assert result.exit_code == 2
    assert f"No such command '{word}'. {answer}" in result.stderr


@pytest.mark.parametrize("command", ["folds", "train", "blend", "report"])
def test_a_folder_without_configuration_names_init(tmp_path: Path, command: str) -> None:
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), command])
    assert result.exit_code == 1
    assert f"There is no dfens.toml in {tmp_path}. Run dfens init to write one" in result.stderr
    assert "dfens oof import" in result.stderr


def test_the_folder_may_be_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "deepfakes").mkdir()
    assert CliRunner().invoke(cli, ["-C~/deepfakes", "init"]).exit_code == 0
    assert (tmp_path / "deepfakes" / "dfens.toml").exists()
    found = CliRunner().invoke(cli, ["-C", "~no-such-user/deepfakes", "init"])
    assert found.exit_code == 2
    assert "The home folder in '~no-such-user/deepfakes' is unknown" in found.stderr


def test_init_writes_a_recipe_and_never_overwrites(tmp_path: Path) -> None:
    first = CliRunner().invoke(cli, ["-C", str(tmp_path), "init", "--competition", "my-contest"])
    assert first.exit_code == 0
    text = (tmp_path / "dfens.toml").read_text()
    assert 'slug = "my-contest"' in text
    again = CliRunner().invoke(cli, ["-C", str(tmp_path), "init"])
    assert again.exit_code == 1
    assert "exists" in again.stderr
    forced = CliRunner().invoke(cli, ["-C", str(tmp_path), "init", "--force"])
    assert forced.exit_code == 0
    assert (tmp_path / "dfens.toml.old").read_text() == text


@pytest.mark.parametrize(
    ("options", "download", "expected"),
    [
        ((), True, "put the data into {folder}/data (dfens{at} download does this), then run dfens{at} check"),
        (("--recipe", "table"), False, "put the data into {folder}/data, then run dfens{at} check"),
        (("--recipe", "table", "--competition", "x"), True, "put the data into {folder}/data (dfens{at} download"),
        (("--recipe", "demo"), False, "dfens demo {folder}, which generates the data"),
        (("--recipe", "demo-av"), False, "dfens demo --recipe demo-av {folder}, which generates the data"),
    ],
)
def test_the_step_after_init_fits_the_recipe(
    tmp_path: Path, options: tuple[str, ...], download: bool, expected: str
) -> None:
    result = CliRunner().invoke(cli, ["init", str(tmp_path), *options])
    assert result.exit_code == 0
    assert f"Next: {expected.format(folder=tmp_path, at=f' -C {tmp_path}')}" in result.stdout.replace("\n", " ")
    assert (" download does this" in result.stdout.replace("\n", " ")) == download


def test_the_step_after_init_in_the_current_folder_needs_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "(dfens download does this), then run dfens check" in CliRunner().invoke(cli, ["init"]).stdout.replace(
        "\n", " "
    )


def test_a_failed_init_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk or a kill between renaming the old file and writing the new one would leave no dfens.toml."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "dfens.toml").write_text("# mine\n")
    monkeypatch.setattr(Path, "write_bytes", full)
    failed = CliRunner().invoke(cli, ["-C", str(tmp_path), "init", "--force"])
    assert failed.exit_code == 1
    assert (tmp_path / "dfens.toml").read_text() == "# mine\n"


def test_the_advice_of_a_refused_init_names_no_other_file(tmp_path: Path) -> None:
    for _ in range(2):
        result = CliRunner().invoke(cli, ["init", str(tmp_path / "sub")])
    assert "or add --force to this command" in result.stderr.replace("\n", " ")


def test_init_refuses_an_invalid_slug(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["init", str(tmp_path), "--competition", 'a"b'])
    assert result.exit_code == 1
    assert "is not a competition slug" in result.stderr


@pytest.mark.parametrize(
    ("command", "former", "name"),
    [
        ("check", "--workers", "--threads"),
        ("blend", "--toward-test", "--importance-weighting"),
        ("diagnose m0", "--suspects", "--max-issues"),
    ],
)
def test_a_renamed_option_is_read_with_a_note(
    command: str, former: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[object] = []
    known = cli.get_command(click.Context(cli), command.split()[0])
    assert known is not None
    option = next(item for item in known.params if name in item.opts)
    given = [former] if isinstance(option, click.Option) and option.is_flag else [f"{former}=3"]
    monkeypatch.setattr(known, "callback", lambda **options: received.append(options[str(option.name)]))
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), *command.split(), *given])
    assert result.exit_code == 0, result.output
    assert received == [True if given == [former] else 3]
    assert result.stderr == f"{former} is now named {name}.\n"
    apart = given if len(given[0]) == len(former) else [former, "3"]
    assert CliRunner().invoke(cli, ["-C", str(tmp_path), *command.split(), *apart]).exit_code == 0
    assert received[0] == received[1]
    both = CliRunner().invoke(cli, ["-C", str(tmp_path), *command.split(), *given, given[0].replace(former, name)])
    assert both.exit_code == 2
    assert f"{former} is the former name of {name}, which is given, too. Remove {former}." in both.stderr


def test_an_option_of_another_command_is_not_renamed(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "folds", "--toward-test"])
    assert result.exit_code == 2
    assert "No such option" in result.stderr


@pytest.mark.parametrize(
    ("given", "received"),
    [
        (["--name", "--toward-test"], ("--toward-test", None)),
        (["--name", "--importance-weighting", "--toward-test"], ("--importance-weighting", True)),
        (["--toward-test", "--name=--toward-test"], ("--toward-test", True)),
        (["-v", "--name", "--", "--toward-test"], ("--", True)),
    ],
)
def test_the_value_of_an_option_is_never_renamed(
    given: list[str], received: tuple[str, bool | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[object, object]] = []
    known = cli.get_command(click.Context(cli), "blend")
    assert known is not None
    keep = lambda **options: found.append((options["name"], options["importance_weighting"]))  # noqa: E731
    monkeypatch.setattr(known, "callback", keep)
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "blend", *given])
    assert result.exit_code == 0, result.output
    assert found == [received]
    is_renamed = "--toward-test is now named --importance-weighting.\n"
    assert result.stderr == (is_renamed if received[1] else "")
