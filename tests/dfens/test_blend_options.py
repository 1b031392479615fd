"""`dfens blend`: options beside the settings in dfens.toml, and the command that makes a blend again."""

import json
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dfens.cli import cli
from dfens.commands.blend import command as blend_options
from dfens.workspace.blend_command import blend_command
from ensemble.blend_store import BlendStore
from ensemble.settings import BlendSettings
from tests.support.ensemble import CONFIG, make_workspace


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["-C", str(folder), "blend", *arguments])


def test_options_switch_off_what_the_configuration_switches_on(tmp_path: Path) -> None:
    make_workspace(tmp_path, models=4)
    plain = run(tmp_path, "--json")
    path = tmp_path / "dfens.toml"
    text = '[blend]\nprune = true\nimportance_weighting = true\nmethods = ["boosted"]\nfeatures = ["group"]\n'
    path.write_text(path.read_text() + text)
    off = ("--no-prune", "--no-importance-weighting", "--methods", "none", "--features", "none")
    found = run(tmp_path, *off, "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["members"] == json.loads(plain.stdout)["members"]
    assert json.loads(found.stdout)["nested_score"] == json.loads(plain.stdout)["nested_score"]


@pytest.mark.parametrize(("option", "value"), [("--methods", "none,boosted"), ("--features", "group,none")])
def test_none_stands_alone(tmp_path: Path, option: str, value: str) -> None:
    make_workspace(tmp_path)
    found = run(tmp_path, option, value)
    assert found.exit_code == 2
    assert f"{option} {value}: write either none or names." in found.output


def test_a_stale_blend_is_made_again_by_the_command_that_status_names(tmp_path: Path) -> None:
    """Its options are repeated, except where dfens.toml has the same ones."""
    store, _, oof = make_workspace(tmp_path)
    config = tmp_path / "dfens.toml"
    config.write_text(config.read_text() + '[blend]\ntransform = "rank"\ncalibrate = "platt"\n')
    options = "--members m2,m0 --max-members 2 --transform logit --calibrate platt --prune --optimize average_precision"
    assert run(tmp_path, "--name", "mine", *options.split()).exit_code == 0
    blends = BlendStore(tmp_path / "work" / "ensemble")
    before = blends.facts("mine")
    store.save("m0", store.folds.ids, oof[:, 1], store.load("m0").test)
    status = CliRunner().invoke(cli, ["-C", str(tmp_path), "status", "--json"])
    command = json.loads(status.stdout)["next"]
    assert sorted(command.split(" --")) == sorted(
        ["dfens blend", "name mine", "members m2,m0", "max-members 2", "transform logit", "prune",
         "optimize average_precision"]
    )  # fmt: skip
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sample_submission.csv").write_text(
        "id,target\n" + "".join(f"t{row},0\n" for row in range(50))
    )
    refused = CliRunner().invoke(cli, ["-C", str(tmp_path), "submit", "mine", "--dry-run"]).stderr
    assert f"Run {command}, or submit it as it is with --stale." in " ".join(refused.split())
    assert run(tmp_path, *command.split()[2:]).exit_code == 0
    after = blends.facts("mine")
    assert after["settings"] == before["settings"]
    assert after["fingerprints"] != before["fingerprints"]
    assert [member["name"] for member in after["members"]] == ["m2", "m0"]


def test_every_setting_of_a_blend_is_an_option_or_only_in_the_configuration() -> None:
    settings = {
        "optimize": "log_loss", "transform": "prob", "members": ["a", "b"], "max_members": 2, "prune": True,
        "importance_weighting": True, "calibrate": "beta", "methods": ["ridge", "boosted"],
        "features": ["size", "my table.csv"],
    }  # fmt: skip
    assert {item.name for item in fields(BlendSettings)} == {*settings, "seed"}
    command = shlex.split(blend_command({"name": "b", "settings": {**settings, "seed": 3}}))
    assert command[:2] == ["dfens", "blend"]
    parsed = blend_options.make_context("blend", command[2:]).params
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in parsed.items()}
    assert {name: given[name] for name in settings} == settings
    assert given["name"] == "b"
    recorded: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    same = BlendSettings(**recorded)
    assert blend_command({"name": "b", "settings": settings}, same) == "dfens blend --name b"
    assert blend_command({"name": "b"}) == "dfens blend --name b"
    off = {
        "prune": False, "importance_weighting": False, "methods": [], "features": [], "members": [],
        "max_members": None,
    }  # fmt: skip
    assert blend_command({"name": "b", "settings": off}) == "dfens blend --name b"
    assert blend_command({"name": "b", "settings": off}, same) == (
        "dfens blend --name b --members all --max-members none --no-prune --no-importance-weighting --methods none "
        "--features none"
    )


def test_a_stale_blend_of_all_models_is_made_again_beside_a_limit_in_the_configuration(tmp_path: Path) -> None:
    store, folds, oof = make_workspace(tmp_path)
    assert run(tmp_path).exit_code == 0
    for fold in range(folds.k):
        rows = folds.rows(fold)
        store.save_oof("m1", folds.ids[rows], oof[rows, 1] / 2, fold=fold)
    (tmp_path / "dfens.toml").write_text(CONFIG + '[blend]\nmembers = ["m0", "m1"]\nmax_members = 1\n')
    advised = json.loads(CliRunner().invoke(cli, ["-C", str(tmp_path), "status", "--json"]).stdout)["next"]
    assert advised == "dfens blend --name blend --members all --max-members none"
    assert CliRunner().invoke(cli, ["-C", str(tmp_path), *shlex.split(advised)[1:]]).exit_code == 0
    facts = BlendStore(tmp_path / "work" / "ensemble").facts("blend")
    assert len(facts["members"]) == 3
    assert (facts["settings"]["members"], facts["settings"]["max_members"]) == ([], None)


@pytest.mark.parametrize("option", ["--members", "--methods", "--features"])
def test_an_empty_list_of_names_is_refused(tmp_path: Path, option: str) -> None:
    """An unset variable of the shell must not mean all models."""
    make_workspace(tmp_path)
    found = run(tmp_path, option, "")
    assert found.exit_code == 2
    assert f"'{option}': is empty" in found.stderr


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", ""])
def test_a_limit_that_is_no_number_of_members_is_refused(tmp_path: Path, value: str) -> None:
    make_workspace(tmp_path)
    found = run(tmp_path, "--max-members", value)
    assert found.exit_code == 2
    assert "is not a number of members" in found.stderr


def test_a_seed_out_of_range_is_named(tmp_path: Path) -> None:
    make_workspace(tmp_path)
    (tmp_path / "dfens.toml").write_text(CONFIG + "[blend]\nseed = -1\n")
    found = run(tmp_path, "--methods", "boosted")
    assert found.exit_code == 1
    assert "[blend] seed = -1 is out of range; it must be from 0 to 4294967295." in found.stderr
