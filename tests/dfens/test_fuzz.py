"""Whatever files, names, settings, encodings and links a project has: a documented exit code, and nothing is lost.

Each seed is one case. DFENS_FUZZ=1000 or DFENS_FUZZ=40-1000 takes others, for longer searches than the tests allow.
"""

import os
import shutil
import traceback
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dfens.cli import cli
from tests.support.fuzz import command_line, contents, damage, make_project

FIRST, _, LAST = os.environ.get("DFENS_FUZZ", "40").rpartition("-")
EXIT_CODES = {0, 1, 2, 3, 4}  # of README.md and dfens submit --help


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project on which the whole main job was done."""
    folder = make_project(tmp_path_factory.mktemp("fuzz") / "project")
    for step in ("folds", "train --threads 1", "blend", "submit --dry-run"):
        result = CliRunner().invoke(cli, ["-C", str(folder), *step.split()])
        assert result.exit_code == 0, result.output
    return folder


@pytest.mark.parametrize("seed", range(int(FIRST or 0), int(LAST)))
def test_no_input_ends_in_a_traceback(
    project: Path, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(seed)
    folder = tmp_path / "copy"
    shutil.copytree(project, folder, symlinks=True)
    damages = [damage(folder, rng) for _ in range(rng.integers(0, 3))]
    arguments = command_line(rng)
    before = contents(folder)
    result = CliRunner().invoke(cli, ["-C", str(folder), *arguments])
    after = contents(folder)
    case = f"seed {seed}: {damages}, dfens {arguments}\n{result.output}"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        trace = "".join(traceback.format_exception(result.exception))
        pytest.fail(f"{case}\n{trace}")
    assert result.exit_code in EXIT_CODES, case
    assert "Traceback" not in result.output, case
    if result.exit_code == 1:
        assert result.stderr or "Training would go wrong" in result.stdout, case
    kept = set(after.values())
    lost = [name for name, digest in before.items() if _is_precious(name) and digest not in kept]
    assert not lost, f"{case}\nlost: {lost}"
    for folder_path in folder.rglob("*"):  # so that pytest can remove it
        if folder_path.is_dir() and not folder_path.is_symlink():
            folder_path.chmod(0o755)


def _is_precious(name: str) -> bool:
    """Whether a file is the user's, or a result that took time: it may move, but its bytes must not be lost."""
    return not name.startswith("work/") or name.endswith((".parquet", ".safetensors", ".npz"))
