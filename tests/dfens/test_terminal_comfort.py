"""Output of every command: `--json`, tables within 80 columns, colours that respect NO_COLOR."""

import json
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dfens.cli import cli
from dfens.workspace.paths import Workspace
from docs.reference import walk_commands
from submissions.ledger import Ledger
from submissions.upload import new_entry
from tests.support.ensemble import make_workspace

COMMANDS = {" ".join(path): command for path, command in walk_commands() if not isinstance(command, click.Group)}
# commands that need only stores, with their arguments
SHOWN = (
    "status",
    "recipes",
    "completion bash",
    "oof list",
    "oof diversity --leave-one-out",
    "oof shift",
    "blend --name again",
    "compare m0 m1 m2",
    "submissions list",
    "submissions show 1005",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stored models with names of the usual length, their blend, and scored submissions."""
    folder = tmp_path_factory.mktemp("comfort")
    make_workspace(folder)
    (folder / "dfens.toml").write_text('[competition]\nslug = "tiny"\n[models.m0]\nkind = "linear"\n')
    result = CliRunner().invoke(cli, ["-C", str(folder), "blend"])
    assert result.exit_code == 0, result.output
    ledger = Ledger(Workspace(folder).ledger_path())
    for ref in range(1000, 1006):
        entry = ledger.add(new_entry("tiny", blend="a-blend-with-a-long-name", message="first try with everything"))
        ledger.update(entry.key, status="complete", ref=ref, public_score=ref / 2000, nested_score=ref / 1900)
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_option_json(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert "--json" in options


@pytest.mark.parametrize("line", SHOWN)
def test_every_result_is_json_on_request(folder: Path, line: str) -> None:
    result = CliRunner().invoke(cli, ["-C", str(folder), *line.split(), "--json"])
    assert result.exit_code == 0, result.output
    assert isinstance(json.loads(result.stdout), dict)


@pytest.mark.parametrize("line", SHOWN)
def test_tables_fit_80_columns_and_respect_no_color(folder: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("COLUMNS", "80"), ("FORCE_COLOR", "1"), ("TERM", "xterm-256color"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(cli, ["-C", str(folder), *line.split()])
    assert result.exit_code == 0, result.output
    assert not re.search(r"\x1b\[(?:[\d;]*;)?(?:3[0-7]|4[0-7]|9[0-7]|38|48)[;m]", result.output)
    plain = re.sub(r"\x1b\[[\d;]*m", "", result.stdout)
    rules = [text.rstrip() for text in plain.splitlines() if re.fullmatch(r" *─+ *", text)]
    assert all(len(rule) <= 80 for rule in rules)
    assert rules or line in ("submissions show 1005", "completion bash")
