"""The files of one model in the prediction store: names, headers, and which of them exist."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from oof.errors import StoreError
from oof.ids import is_name

FORMAT_VERSION = 1
Part = Literal["oof", "test", "sealed"]
_PART_FILE = re.compile(r"(oof|test|sealed)\.(all|refit|fold\d+)(?:\.seed(\d+))?\.parquet")


@dataclass(frozen=True)
class PartKey:
    """The training that made predictions.

    label: "fold3", "refit" (all rows), or "all" (predictions made elsewhere, as a whole). seed: 0 for the first.
    """

    label: str
    seed: int = 0

    @classmethod
    def of(cls, fold: int | None, k: int, seed: int = 0) -> "PartKey":
        """Return the key of a fold, of the refit (fold k), or of predictions stored as a whole (None)."""
        return cls("all" if fold is None else "refit" if fold == k else f"fold{fold}", seed)

    @property
    def fold(self) -> int | None:
        """The fold; None for a refit, and for predictions stored as a whole."""
        return int(self.label.removeprefix("fold")) if self.label.startswith("fold") else None

    def file_name(self, part: Part) -> str:
        """Return the name of the file."""
        return f"{part}.{self.label}{f'.seed{self.seed}' if self.seed else ''}.parquet"


WHOLE = PartKey("all")


def parts_of(folder: Path) -> dict[Part, dict[PartKey, Path]]:
    """Return the files of a model: for each part, {key: path}."""
    found: dict[Part, dict[PartKey, Path]] = {part: {} for part in get_args(Part)}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _PART_FILE.fullmatch(path.name)
        if match:
            found[cast(Part, match[1])][PartKey(match[2], int(match[3] or 0))] = path
    return found


def whole_folds(keys: Iterable[PartKey], seeds: Sequence[int]) -> tuple[int, ...]:
    """Return the folds that were predicted by all of the given seeds."""
    there = set(keys)
    folds = sorted({key.fold for key in there if key.fold is not None})
    return tuple(fold for fold in folds if all(PartKey(f"fold{fold}", seed) in there for seed in seeds))


def model_names(folder: Path) -> list[str]:
    """Return the sorted names of the models in `folder`; folders of other programs are ignored."""
    found = folder.iterdir() if folder.is_dir() else []
    return sorted(path.name for path in found if is_name(path.name) and _is_model(path))


def _is_model(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    return any(path.name == "model.json" or _PART_FILE.fullmatch(path.name) for path in folder.iterdir())


def header_of(kind: str) -> dict[str, Any]:
    """Return the fields common to all headers."""
    return {"version": FORMAT_VERSION, "kind": kind}


def check_header(path: Path, header: Mapping[str, Any], kind: str) -> None:
    """Check that a file has a supported version, and the kind that its name states.

    Raises:
        StoreError: if it has not.
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
