"""Run the commands of the nine chapters in a scratch folder, in the order of the guide.

    python -m docs.run_chapters FOLDER [--images N] [--skip ablate.sh]

Every shell and Python snippet that a chapter includes is run as it is printed, on the demo of images and on that of
clips. Commands that need Kaggle are left out and listed. `make test` only parses the commands; this takes about half
an hour on two cores, and minutes with `--images 80`.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from docs.fill_snippets import SNIPPETS
from oof.store import PredictionStore

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "docs" / "guide").glob("*.md"))
_INCLUDE = re.compile(r"^<!-- snippet: (\S+\.(?:sh|py)) -->$", re.MULTILINE)
# where a snippet is run, relative to the scratch folder; all others in the scratch folder itself
_FOLDERS = {
    "extract.sh": "av", "leaks.sh": "av", "read-record.py": "av", "clip-budget.sh": "av", "two-modalities.sh": "two",
    "last-steps.sh": "demo", "picture.sh": "",
}  # fmt: skip
_NEEDS_KAGGLE = ("dfens download", "dfens submit --wait")
_NEEDS_SETTINGS = ("pseudo.sh",)  # settings shown earlier in the chapter, which are added to the dfens.toml of the demo


def snippets(chapter: Path) -> list[Path]:
    """Return the shell and Python snippets that a chapter includes, in their order."""
    return [SNIPPETS / name for name in _INCLUDE.findall(chapter.read_text(encoding="utf-8"))]


def runnable(snippet: Path, images: int | None) -> tuple[str, list[str]]:
    """Return the commands of a snippet to run, and those left out because they need Kaggle or other settings."""
    text, left_out = snippet.read_text(encoding="utf-8"), []
    if snippet.suffix == ".py":
        return f"{shlex.quote(sys.executable)} {shlex.quote(str(snippet))}", []
    lines = []
    for line in text.splitlines():
        if line.startswith(_NEEDS_KAGGLE) or snippet.name in _NEEDS_SETTINGS:
            left_out.append(line)
        elif line.startswith("dfens demo ") and images is not None:
            lines.append(f"{line} --images {images}")
        else:
            lines.append(line)
    return "\n".join(lines), left_out


def prepare(folder: Path) -> None:
    """Write the tables that chapter 8 imports: predictions of two models of the clip demo."""
    two = folder / "two"
    if two.exists():
        return
    two.mkdir()
    store = PredictionStore(folder / "av" / "work" / "oof")
    for name in ("picture", "sound"):
        model = store.load(name)
        table = pd.DataFrame({"id": store.folds.ids, "target": store.folds.target, "fold": store.folds.fold})
        table.assign(prediction=model.oof).to_csv(two / f"{name}_oof.csv", index=False)
        pd.DataFrame({"id": store.test_ids, "prediction": model.test}).to_csv(two / f"{name}_test.csv", index=False)


def run(folder: Path, images: int | None, skip: Collection[str] = ()) -> int:
    """Run every snippet but those to skip; return the number that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    bin_dir = folder / ".bin"
    bin_dir.mkdir(exist_ok=True)
    for name, command in (("dfens", f'"{sys.executable}" -m dfens "$@"'), ("python", f'"{sys.executable}" "$@"')):
        (bin_dir / name).write_text(f"#!/bin/sh\nexec {command}\n")
        (bin_dir / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{bin_dir}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    failed = 0
    for chapter in CHAPTERS:
        for snippet in snippets(chapter):
            if snippet.name in skip:
                continue
            if snippet.name == "two-modalities.sh":
                prepare(folder)
            text, left_out = runnable(snippet, images)
            started = time.monotonic()
            done = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", text],
                cwd=folder / _FOLDERS.get(snippet.name, ""), env=environment, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            failed += done.returncode != 0
            state = "ok" if done.returncode == 0 else f"FAILED with {done.returncode}"
            print(f"{chapter.stem:24} {snippet.name:20} {time.monotonic() - started:6.0f} s  {state}", flush=True)
            for line in left_out:
                print(f"{'':24} left out: {line}")
            if done.returncode != 0:
                print(done.stdout[-2000:], done.stderr[-2000:], sep="\n", file=sys.stderr)
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, help="training rows of the demos, fewer than usual")
    parser.add_argument("--skip", action="append", default=[], metavar="NAME", help="snippet to leave out")
    options = parser.parse_args()
    sys.exit(1 if run(options.folder.resolve(), options.images, options.skip) else 0)
