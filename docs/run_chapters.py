"""Run the commands of the nine chapters in a scratch folder, in the order of the guide.

    python -m docs.run_chapters FOLDER [--images N] [--chapter 5] [--skip ablate.sh]

Every shell and Python snippet that a chapter includes is run as it is printed, on the demo of images and on that of
clips; the pseudo-labels of chapter 9 on a copy of the demo, with the settings that the chapter shows. Commands that
need Kaggle are left out and listed. `make test` only parses the commands; this takes about half
an hour on two cores, and minutes with `--images 80`.
"""

import argparse
import os
import re
import shlex
import shutil
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
    "pseudo.sh": "pseudo", "last-steps.sh": "demo",
}  # fmt: skip
_NEEDS_KAGGLE = ("dfens download", "dfens submit --wait")


def snippets(chapter: Path) -> list[Path]:
    """Return the shell and Python snippets that a chapter includes, in their order."""
    return [SNIPPETS / name for name in _INCLUDE.findall(chapter.read_text(encoding="utf-8"))]


def runnable(snippet: Path, images: int | None) -> tuple[str, list[str]]:
    """Return the commands of a snippet to run, and those left out because they need Kaggle."""
    text, left_out = snippet.read_text(encoding="utf-8"), []
    if snippet.suffix == ".py":
        return f"{shlex.quote(sys.executable)} {shlex.quote(str(snippet))}", []
    lines = []
    for line in text.splitlines():
        if line.startswith(_NEEDS_KAGGLE):
            left_out.append(line)
        elif line.startswith("dfens demo ") and images is not None:
            lines.append(f"{line} --images {images}")
        else:
            lines.append(line)
    return "\n".join(lines), left_out


def prepare_tables(folder: Path, images: int | None) -> None:
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


def prepare_pseudo(folder: Path, images: int | None) -> None:
    """Copy the demo with its trained models, and add the setting of chapter 9 for pseudo-labels.

    Models of few images are less sure than that setting requires, so its confidence is lower for them.
    """
    copy = folder / "pseudo"
    if copy.exists():
        return
    shutil.copytree(folder / "demo", copy)
    shown = (SNIPPETS / "repeats.toml").read_text(encoding="utf-8").splitlines()
    setting = next(line for line in shown if line.startswith("pseudo = "))
    if images is not None:
        setting = setting.replace("confidence = 0.9", "confidence = 0.5")
    config = copy / "dfens.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("\n[train]", f"\n[train]\n{setting}\n#", 1), encoding="utf-8")


_PREPARE = {"two-modalities.sh": prepare_tables, "pseudo.sh": prepare_pseudo}


def run(folder: Path, images: int | None, chapters: Collection[int] = (), skip: Collection[str] = ()) -> int:
    """Run every snippet of some chapters (default all) but those to skip; return the number that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    bin_dir = folder / ".bin"
    bin_dir.mkdir(exist_ok=True)
    for name, command in (("dfens", f'"{sys.executable}" -m dfens "$@"'), ("python", f'"{sys.executable}" "$@"')):
        (bin_dir / name).write_text(f"#!/bin/sh\nexec {command}\n")
        (bin_dir / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{bin_dir}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    failed = 0
    for number, chapter in enumerate(CHAPTERS, start=1):
        for snippet in snippets(chapter):
            if snippet.name in skip or (chapters and number not in chapters):
                continue
            if snippet.name in _PREPARE:
                _PREPARE[snippet.name](folder, images)
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
    parser.add_argument("--chapter", type=int, action="append", default=[], metavar="N", help="run only this chapter")
    parser.add_argument("--skip", action="append", default=[], metavar="NAME", help="snippet to leave out")
    options = parser.parse_args()
    sys.exit(1 if run(options.folder.resolve(), options.images, options.chapter, options.skip) else 0)
