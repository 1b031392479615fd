"""The files of one model in the prediction store: names, headers, and which of them exist."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

from oof.errors import StoreError
from oof.ids import is_name

FORMAT_VERSION = 1
Part = Literal["oof", "test", "sealed"]
_PART_FILE = re.compile(r"(oof|test|sealed)\.(all|fold(\d+))\.parquet")


def part_name(part: Part, fold: int | None) -> str:
    """Return the file name of the predictions of one fold model; fold None means a model stored as a whole."""
    return f"{part}.{'all' if fold is None else f'fold{fold}'}.parquet"


def parts_of(folder: Path) -> dict[Part, dict[int | None, Path]]:
    """Return the files of a model: for each part, {fold: path}; fold None means stored as a whole."""
    found: dict[Part, dict[int | None, Path]] = {part: {} for part in get_args(Part)}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _PART_FILE.fullmatch(path.name)
        if match:
            found[cast(Part, match[1])][None if match[2] == "all" else int(match[3])] = path
    return found


def model_names(folder: Path) -> list[str]:
    """Return the sorted names of the models in `folder`; folders of other programs are ignored."""
    found = folder.iterdir() if folder.is_dir() else []
    return sorted(path.name for path in found if is_name(path.name) and _is_model(path))


def _is_model(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    return any(path.name == "model.json" or _PART_FILE.fullmatch(path.name) for path in folder.iterdir())


def header_of(kind: str) -> dict[str, Any]:
    """Return the fields that every header has."""
    return {"version": FORMAT_VERSION, "kind": kind}


def check_header(path: Path, header: Mapping[str, Any], kind: str) -> None:
    """Check that a file has the version that this dfens reads, and the kind that its name says.

    Raises:
        StoreError: if it does not.
    """
    check_version(path, header)
    if header.get("kind") != kind:
        raise StoreError(
            f"{path} contains '{header.get('kind')}', not '{kind}' as its name says. Restore its name, or move it away."
        )


def check_version(path: Path, header: Mapping[str, Any]) -> None:
    """Raise StoreError if a file has a format version that this dfens does not read."""
    if header.get("version") != FORMAT_VERSION:
        raise StoreError(
            f"{path} has format version {header.get('version')}; this dfens reads {FORMAT_VERSION}. "
            f"Use the dfens that wrote it, or a newer one."
        )
