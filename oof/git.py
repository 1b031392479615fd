"""The git state of a project folder, recorded with predictions and submissions."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class GitState:
    """A commit, and whether tracked files differ from it; untracked files (data, workspaces) do not count."""

    commit: str
    dirty: bool


def git_state(folder: Path) -> GitState | None:
    """Return the git state of a folder, or None outside of a repository or without git."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return GitState(commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no")))
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
