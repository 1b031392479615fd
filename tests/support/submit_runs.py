"""Run `dfens submit` as a separate process in a folder with a competition, for tests that kill it or run many."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.kaggle_server import SLUG, KaggleServer
from tests.support.submissions import make_table

CONFIG = f"""
[competition]
slug = "{SLUG}"
[data]
layout = "table"
root = "data"
[submissions]
list_lag_s = 4.0
call_limit_s = 20.0
retry_first_s = 0.1
poll_first_s = 0.1
"""


def make_folder(folder: Path, rows: int = 200, more: str = "") -> Path:
    """Make a folder in which `dfens submit --file table.csv` works."""
    table = make_table(rows)
    (folder / "data").mkdir(parents=True)
    (folder / "dfens.toml").write_text(CONFIG + more)
    (folder / "table.csv").write_bytes(table.data)
    sample = "id,target\n" + "".join(f"{name},0\n" for name in table.ids)
    (folder / "data" / "sample_submission.csv").write_text(sample)
    return folder


def start(server: KaggleServer, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start dfens in the folder, with the server as its Kaggle."""
    environment = server.environment(folder) | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-m", "dfens", "-C", str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=folder,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Wait for the end, and return exit code and output."""
    out, err = process.communicate(timeout=900)
    return process.returncode, out + err


def submit(server: KaggleServer, folder: Path, arguments: Sequence[str] = ("--file", "table.csv")) -> tuple[int, str]:
    """Run `dfens submit` to its end."""
    return finish(start(server, folder, "submit", *arguments))
