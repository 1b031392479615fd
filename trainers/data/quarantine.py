"""The list of training files that a check found unreadable, kept so that training can leave them out."""

from collections.abc import Mapping
from pathlib import Path

from oof.errors import StoreError
from oof.files import read_json, write_json

VERSION = 1


def write_quarantine(path: Path, root: Path, reasons: Mapping[str, str]) -> None:
    """Write which files are unreadable and why.

    Args:
        path: of the list.
        root: the data folder, which the files are written relative to.
        reasons: by path of the file.
    """
    rows = []
    for file, reason in sorted(reasons.items()):
        try:
            facts = Path(file).stat()
        except FileNotFoundError:
            continue
        rows.append(
            {
                "path": Path(file).relative_to(root).as_posix(),
                "reason": reason,
                "size": facts.st_size,
                "mtime_ns": facts.st_mtime_ns,
            }
        )
    write_json(path, {"version": VERSION, "files": rows})


def read_quarantine(path: Path, root: Path) -> dict[str, str]:
    """Reasons by path of the file; a file that was replaced since then is no longer named.

    Raises:
        StoreError: a list of another version, or one that cannot be read.
    """
    if not path.exists():
        return {}
    stored = read_json(path)
    if stored.get("version") != VERSION:
        raise StoreError(f"{path} has version {stored.get('version')}; expected {VERSION}. Run dfens check again.")
    found = {}
    for row in stored["files"]:
        file = root / row["path"]
        try:
            facts = file.stat()
        except FileNotFoundError:
            continue
        if (facts.st_size, facts.st_mtime_ns) == (row["size"], row["mtime_ns"]):
            found[f"{root}/{row['path']}"] = row["reason"]
    return found
