"""Random damage to a project folder, and random command lines, for the test that no input ends in a traceback."""

import contextlib
import gzip
import hashlib
import io
import os
import shutil
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfens.cli import cli
from tests.support.commands import LINEAR_CONFIG
from tests.support.competitions import make_table

ODD = (
    "", " ", ".", "..", "/", "-", "--", "~", "~nobody", "a/b", "../x", "a\0b", "a\nb", "x" * 300, "ü" * 200, "名",
    "\ud800", "pixels", "blend", "pixel", "None", "nan", "inf", "-1", "0", "1e400", "9" * 40, "[red]", "{blend",
    "{0}", "%s", "$HOME", "data/train.csv", "dfens.toml", "work", "work/oof", "mine.csv", "missing.csv", "data",
    "a,b", ",", "0-4", "0-1", "2,1", "pixels,trees", "1000", "0.9", "image_size=4", "new.csv", "new.npz", "rank",
    "log_loss", "pixels", "trees", "blend",
)  # fmt: skip
VALUES = (
    '"x"', '""', "1", "-1", "0", "1.5", "inf", "nan", "true", "[]", '["x"]', "{}", "{ a = 1 }", "1979-05-27",
    "99999999999", '"../.."', '"~nobody"', '"a\\u0000b"', '"none"', '"auto"', '"column:person"', '"duplicates"',
    '"clusters"', '"log_loss"',
)  # fmt: skip
KEYS = {
    "competition": ("slug", "metric", "submissions_per_day", "max_parameters", "nonsense"),
    "data": ("layout", "root", "train", "train_dir", "test", "test_dir", "id", "target", "path", "group", "phase",
             "sample_submission", "skip_broken", "validation"),
    "folds": ("k", "seed", "group"),
    "models.pixels": ("kind", "image_size", "classifier", "seed", "decode", "preset", "backbone", "c", "nonsense"),
    "blend": ("optimize", "transform", "members", "max_members", "prune", "seed", "importance_weighting"),
    "submit": ("message",),
    "submissions": ("ledger", "id_column", "prediction_column", "lowest", "highest", "public_share", "wait_limit_s"),
    "train": ("epochs", "image_size", "tta", "nonsense"),
}  # fmt: skip
COMMANDS = (
    "status",
    "status --json",
    "check",
    "check --decode --threads 1",
    "folds",
    "folds --k 3 --force",
    "folds --seed 1",
    "train --threads 1",
    "train --model ODD",
    "train --fold ODD",
    "train --force --threads 1",
    "oof list",
    "oof list --json",
    "oof import ODD",
    "oof import mine.csv",
    "oof import ODD --oof mine.csv",
    "oof import new --oof mine.csv --test ODD",
    "oof import mine.csv --id-column ODD --prediction-column ODD",
    "oof export --out ODD",
    "oof export --out new.csv",
    "oof export --out new.npz --test",
    "oof export --models ODD --out new.parquet",
    "oof archive ODD",
    "oof archive pixels",
    "oof diversity",
    "oof diversity --models ODD",
    "oof shift",
    "blend",
    "blend --members ODD",
    "blend --name ODD",
    "blend --optimize ODD",
    "blend --transform rank -v",
    "submit --dry-run",
    "submit ODD --dry-run",
    "submit ODD",
    "submit --file ODD --dry-run",
    "submit --file mine.csv",
    "submit --message ODD --dry-run",
    "submissions list",
    "submissions list --json",
    "submissions show ODD",
    "submissions show 1000",
    "submissions diff ODD ODD",
    "submissions diff 1000 mine.csv",
    "submissions rebuild 1000",
    "submissions rebuild ODD --out ODD",
    "submissions select --draws 100",
    "submissions leaderboard ODD",
    "submissions leaderboard 0.9",
    "submissions sync",
    "download",
    "download --list",
    "download --file ODD",
    "download --file train.csv --force",
    "submit",
    "submit --again",
    "submit trees --wait",
    "submit pixels --message ODD",
    "compare pixels trees",
    "compare pixels ODD",
    "diagnose pixels",
    "diagnose ODD",
    "groups --threads 1",
    "groups --model ODD",
    "cache --dry-run",
    "cache --model ODD",
    "ablate pixels --set ODD --threads 1",
    "ablate pixels --set image_size=4 --threads 1",
    "ablate pixels --set c=ODD",
    "init",
    "init ODD",
    "init --force",
    "init --competition ODD",
    "recipes",
    "report",
    "report --out ODD",
    "extract --dry-run",
    "ODD",
    "-C ODD status",
    "completion bash",
    "completion ODD",
    "doctor --offline",
    "cache --model pixels",
    "extract --model ODD",
)
# faults of the machine, or of the user who runs dfens
ENVIRONMENTS: tuple[dict[str, str], ...] = (
    {"HOME": "/nonexistent"}, {"HOME": "relative"}, {"TZ": "Nowhere/Else"}, {"COLUMNS": "1"}, {"COLUMNS": "many"},
    {"NO_COLOR": "1"}, {"http_proxy": "http://me:pass/word@[::1"}, {"http_proxy": "me:pass#word@host:port"},
    {"KAGGLE_API_TOKEN": "KGAT_\n\x7f"}, {"KAGGLE_USERNAME": ""}, {"KAGGLE_KEY": "k\u00e9y"},
    {"KAGGLE_CONFIG_DIR": "/dev/null"}, {"OMP_NUM_THREADS": "none"}, {"XDG_CACHE_HOME": "/dev/full"},
)  # fmt: skip
SILENT = ("completion", "recipes")  # commands that have no option --json  # fmt: skip


def make_project(folder: Path) -> Path:
    """Make a folder with data and a dfens.toml in which every command can run."""
    make_table(folder / "data", rows=16, test_rows=4, size=16)
    (folder / "dfens.toml").write_text(LINEAR_CONFIG)
    rows = [f"a{row:03d}.jpg,{row % 2},{row / 16}" for row in range(16)]
    (folder / "mine.csv").write_text("\n".join(["img_name,target,mine", *rows]) + "\n")
    return folder


def command_line(rng: np.random.Generator) -> list[str]:
    """Draw a command line; ODD in a command is replaced by an unusual word. Every third one has --json."""
    words = COMMANDS[rng.integers(len(COMMANDS))].split()
    found = [word.replace("ODD", ODD[rng.integers(len(ODD))]) for word in words]
    return [*found, "--json"] if rng.random() < 0.33 and "--json" not in found and found[0] not in SILENT else found


def environment(rng: np.random.Generator) -> dict[str, str]:
    """Draw environment variables, mostly none."""
    return ENVIRONMENTS[rng.integers(len(ENVIRONMENTS))] if rng.random() < 0.15 else {}


@dataclass(frozen=True)
class Ended:
    """Outcome of a command: exit code (None after an unexpected exception) and output."""

    code: int | None
    out: str
    err: str
    error: BaseException | None


def run_command(folder: Path, arguments: list[str]) -> Ended:
    """Run a command as the console script does, whose streams never fail."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "replace") for _ in range(2))
    code: int | None = None
    error: BaseException | None = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli(["-C", str(folder), *arguments], prog_name="dfens")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException as unknown:
            error = unknown
    return Ended(code, _text_of(out), _text_of(err), error)


def _text_of(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def damage(folder: Path, rng: np.random.Generator) -> str:
    """Change a setting, or a file or folder of the project; return a description of the change."""
    if rng.random() < 0.3:
        return _change_setting(folder / "dfens.toml", rng)
    images = (folder / "data" / "train", folder / "data" / "test")
    paths = sorted(path for path in folder.rglob("*") if not path.is_symlink())
    some = [path for path in paths if path.parent not in images or rng.random() < 0.1]  # images are all alike
    path = some[rng.integers(len(some))]
    kinds = _DAMAGE if path.is_file() else _FOLDER_DAMAGE
    kind = list(kinds)[rng.integers(len(kinds))]
    kinds[kind](path, rng)
    return f"{kind} {path.relative_to(folder)}"


def _change_setting(config: Path, rng: np.random.Generator) -> str:
    section = list(KEYS)[rng.integers(len(KEYS))]
    key = KEYS[section][rng.integers(len(KEYS[section]))]
    line = f"{key} = {VALUES[rng.integers(len(VALUES))]}"
    text = config.read_text(errors="replace")
    lines = [old for old in text.splitlines() if not (old.startswith(f"{key} =") and _section_of(text, old) == section)]
    header = f"[{section}]"
    if header not in lines:
        lines.append(header)
    lines.insert(lines.index(header) + 1, line)
    config.write_text("\n".join(lines) + "\n")
    return f"{header} {line}"


def _section_of(text: str, line: str) -> str:
    before = text[: text.index(line)].splitlines()
    return next((old.strip("[]") for old in reversed(before) if old.startswith("[")), "")


def _replace_by(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _as_folder(path: Path, rng: np.random.Generator) -> None:
    path.unlink()
    path.mkdir()


def _dangling(path: Path, rng: np.random.Generator) -> None:
    _replace_by(path)
    path.symlink_to("nothing-here")


def _loop(path: Path, rng: np.random.Generator) -> None:
    _replace_by(path)
    path.symlink_to(path.name)


def _as_file(path: Path, rng: np.random.Generator) -> None:
    shutil.rmtree(path)
    path.write_text("a file")


def _another(path: Path, rng: np.random.Generator) -> None:
    others = sorted(other for other in path.parent.parent.rglob(f"*{path.suffix}") if other.is_file() and other != path)
    if others:
        shutil.copy(others[rng.integers(len(others))], path)


def _renamed(path: Path, rng: np.random.Generator) -> None:
    path.rename(path.with_name(unicodedata.normalize("NFD", "é") + path.name))


def _elsewhere(path: Path, rng: np.random.Generator) -> None:
    place = path.parent / f"real-{path.name}"
    path.rename(place)
    path.symlink_to(place.name)


def _not_utf8(path: Path, rng: np.random.Generator) -> None:
    name = [b"\xff\xfe", b"a\xe9.jpg", b"a\xe9.parquet", b"\x1b[2J.json"][rng.integers(4)]
    (path / os.fsdecode(name)).write_bytes(b"x")


_DAMAGE = {
    "empty": lambda path, rng: path.write_bytes(b""),
    "cut": lambda path, rng: path.write_bytes(path.read_bytes()[: int(rng.integers(0, 200))]),
    "noise": lambda path, rng: path.write_bytes(rng.bytes(int(rng.integers(1, 500)))),
    "bad UTF-8 in": lambda path, rng: path.write_bytes(path.read_bytes() + b"\xff\xfe\x80,\xc3\n"),
    "NUL in": lambda path, rng: path.write_bytes(path.read_bytes()[:40] + b"\0\0" + path.read_bytes()[40:]),
    "UTF-16": lambda path, rng: path.write_bytes(path.read_bytes().decode("latin-1").encode("utf-16")),
    "CR lines": lambda path, rng: path.write_bytes(b"\r" + path.read_bytes().replace(b"\n", b"\r")),
    "other JSON": lambda path, rng: path.write_text(["[]", "null", "3", '"x"', "{}"][rng.integers(5)]),
    "no rights": lambda path, rng: path.chmod(0),
    "removed": lambda path, rng: path.unlink(),
    "folder for": _as_folder,
    "dangling link": _dangling,
    "link to itself": _loop,
    "another file for": _another,
    "gzip of": lambda path, rng: path.write_bytes(gzip.compress(path.read_bytes())),
    "name in another Unicode form for": _renamed,
    "hard link to": lambda path, rng: path.with_name(f"copy-{path.name}").hardlink_to(path),
    "elsewhere, by a link": _elsewhere,
}
_FOLDER_DAMAGE = {
    "removed folder": lambda path, rng: shutil.rmtree(path),
    "file for folder": _as_file,
    "dangling link for folder": _dangling,
    "stray folders in": lambda path, rng: [
        (path / name).mkdir() for name in (".ipynb_checkpoints", "lost+found", "new")
    ],
    "stray file in": lambda path, rng: (path / "notes.txt").write_text("by hand"),
    "read-only": lambda path, rng: path.chmod(0o555),
    "no rights for": lambda path, rng: path.chmod(0),
    "a name that is not UTF-8 in": _not_utf8,
}


def contents(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file by its path, links not followed."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
