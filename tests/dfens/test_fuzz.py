"""With any files, names, settings, encodings and links, commands end with a documented exit code and lose nothing.

Each seed is one case. DFENS_FUZZ=1000 or DFENS_FUZZ=40-1000 takes others, for longer searches than the tests allow.
"""

import dataclasses
import json
import os
import shutil
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.support.fuzz import command_line, contents, damage, environment, make_project, run_command
from tests.support.kaggle_server import KaggleServer, Submission
from tests.support.rights import without_root_rights

FIRST, _, LAST = os.environ.get("DFENS_FUZZ", "60").rpartition("-")
EXIT_CODES = {0, 1, 2, 3, 4, 5}  # of README.md and dfens submit --help
SHARES = {0: 0.25, 1: 0.25}  # minimum shares in a search of some length
ended: Counter[int] = Counter()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Submission]]:
    """A project on which the whole pipeline was run, up to a score on Kaggle, and its submissions on Kaggle."""
    folder = make_project(tmp_path_factory.mktemp("fuzz") / "project")
    with pytest.MonkeyPatch.context() as patch:
        kaggle = _kaggle(tmp_path_factory.mktemp("home"), patch, [])
        for step in ("folds", "train --threads 1", "blend", "submit --wait"):
            result = run_command(folder, step.split())
            assert result.code == 0, result
        kaggle.add("made-elsewhere.csv", score="0.9")
        kaggle.close()
    return folder, kaggle.submissions


def _kaggle(home: Path, patch: pytest.MonkeyPatch, submissions: list[Submission]) -> KaggleServer:
    """Start a server that has these submissions, and set the environment for it."""
    kaggle = KaggleServer()
    kaggle.slug, kaggle.entered = "tiny", ["tiny"]
    kaggle.submissions = [dataclasses.replace(item) for item in submissions]
    for name, value in kaggle.environment(home).items():
        if name != "PATH":
            patch.setenv(name, value)
    return kaggle


@pytest.mark.parametrize("seed", range(int(FIRST or 0), int(LAST)))
def test_no_input_ends_in_a_traceback(
    project: tuple[Path, list[Submission]], tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    (made, submissions), folder = project, tmp_path / "copy"
    shutil.copytree(made, folder, symlinks=True)
    damages = [damage(folder, rng) for _ in range(rng.choice([0, 0, 1, 2]))]
    arguments, variables = command_line(rng), environment(rng)
    before = contents(folder)
    kaggle = _kaggle(tmp_path / "home", monkeypatch, submissions)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with without_root_rights():
        result = run_command(folder, arguments)
        after_it = run_command(folder, ["status"])
    kaggle.close()
    _give_rights_back(folder)
    case = f"seed {seed}: {damages}, {variables}, dfens {arguments}\n{result.out}\n{result.err}"
    for one in (result, after_it):
        if one.error is not None:
            pytest.fail(f"{case}\n{''.join(traceback.format_exception(one.error))}")
        assert one.code in EXIT_CODES, case
        assert "Traceback" not in one.out + one.err, case
    if result.code == 1:
        assert result.err or "Training would go wrong" in result.out or '"ok": false' in result.out, case
    if "--json" in arguments and result.code == 0:
        json.loads(result.out)
    kept = set(contents(folder).values())
    lost = [name for name, digest in before.items() if _is_precious(name) and digest not in kept]
    assert not lost, f"{case}\nlost: {lost}"
    ended[result.code or 0] += 1


def test_the_cases_reach_success_and_failure() -> None:
    cases = sum(ended.values())
    if cases < 40:
        pytest.skip("only some cases were run")
    print(f"exit codes of {cases} cases: {dict(sorted(ended.items()))}")
    for code, share in SHARES.items():
        assert ended[code] >= share * cases, ended


def _give_rights_back(folder: Path) -> None:
    """Let pytest remove the folder."""
    for path in sorted(folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


def _is_precious(name: str) -> bool:
    """Return whether a file is the user's or an expensive result; it may be moved, but its content must not be lost."""
    return not name.startswith("work/") or name.endswith((".parquet", ".safetensors", ".npz"))
