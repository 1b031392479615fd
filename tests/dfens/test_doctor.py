"""`dfens doctor` shows the environment and never a secret."""

import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dfens.cli import cli
from dfens.workflows.doctor import _devices, credentials_found
from submissions.kaggle.credentials import find_secrets


def test_doctor_shows_versions_and_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_very_secret")
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "doctor", "--offline", "--json"])
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert facts["torch"].startswith("2.")
    assert facts["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert facts["Kaggle credentials"].startswith("KAGGLE_API_TOKEN (environment)")
    assert facts["dfens.toml"].startswith("none here")
    assert "unknown" not in facts["devices"]
    assert "very_secret" not in result.output


@pytest.mark.parametrize("text", ["[competition", "[submision]\nretries = 4\n", '[models.a]\nkind = "nothing"\n'])
def test_a_broken_dfens_toml_is_one_row(text: str, tmp_path: Path) -> None:
    (tmp_path / "dfens.toml").write_text(text)
    result = CliRunner().invoke(cli, ["-C", str(tmp_path), "doctor", "--offline", "--json"])
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert facts["dfens.toml"].startswith(f"{tmp_path / 'dfens.toml'} cannot be used: ")
    assert facts["faces in clips"].startswith(("unknown: ", "centre crop"))
    assert facts["torch"].startswith("2.")


def test_a_pipe_as_credentials_is_named_instead_of_waited_for(tmp_path: Path) -> None:
    (tmp_path / ".kaggle").mkdir()
    for name in ("access_token", "kaggle.json"):
        os.mkfifo(tmp_path / ".kaggle" / name)
    found = credentials_found({"HOME": str(tmp_path)})
    assert (
        f"The credentials in {tmp_path / '.kaggle' / 'access_token'} cannot be used: it is not a regular file." in found
    )
    assert (
        f"The credentials in {tmp_path / '.kaggle' / 'kaggle.json'} cannot be used: it is not a regular file." in found
    )
    assert not find_secrets({"HOME": str(tmp_path)})


def test_credentials_are_named_in_the_clients_order(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert credentials_found(home).startswith("none (create")
    config = tmp_path / ".config" / "kaggle"
    config.mkdir(parents=True)
    (config / "kaggle.json").write_text('{"username": "me", "key": "secret-key"}')
    assert credentials_found(home) == str(config / "kaggle.json")
    found = credentials_found(home | {"KAGGLE_USERNAME": "me", "KAGGLE_KEY": "secret-key"})
    assert found == f"KAGGLE_USERNAME and KAGGLE_KEY (environment); also {config / 'kaggle.json'}"
    (config / "kaggle.json").write_text("{}")
    assert credentials_found(home) == (
        f"none usable; The credentials in {config / 'kaggle.json'} cannot be used: it has no username and key."
    )


def test_emulated_bfloat16_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A T4 passes torch's default check, but training uses float16 there."""
    (tmp_path / "torch.py").write_text(
        "class cuda:\n"
        "    device_count = staticmethod(lambda: 1)\n"
        "    get_device_name = staticmethod(lambda i: 'Tesla T4')\n"
        "    get_device_properties = staticmethod(lambda i: type('P', (), {'total_memory': 16 * 2**30}))\n"
        "    is_bf16_supported = staticmethod(lambda including_emulation=True: including_emulation)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert _devices() == "Tesla T4, 16 GiB, bf16 False"
