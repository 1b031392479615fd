"""The list of training files that a check found unreadable, so that training can leave them out."""

from collections.abc import Mapping
from pathlib import Path

from oof.errors import StoreError
from oof.files import read_json, write_json

VERSION = 1


def write_quarantine(path: Path, root: Path, reasons: Mapping[str, str]) -> None:
    """Write the list of unreadable files with reasons.

    Args:
        path: path of the list.
        root: the data folder; files inside it are written relative to it.
        reasons: reason by path of the file.
    """
    rows = []
    for file, reason in sorted(reasons.items()):
        try:
            facts = Path(file).stat()
        except OSError:  # removed in the meantime, which the check reports
            continue
        rows.append(
            {
                "path": file.removeprefix(f"{root}/"),
                "reason": reason,
                "size": facts.st_size,
                "mtime_ns": facts.st_mtime_ns,
            }
        )
    write_json(path, {"version": VERSION, "files": rows})


def read_quarantine(path: Path, root: Path) -> dict[str, str]:
    """Return reasons by path of the file; files replaced since then are left out.

    Raises:
        StoreError: if the list has another version or cannot be read.
    """
    if not path.exists():
        return {}
    try:
        stored = read_json(path)
        if stored.get("version") != VERSION:
            raise StoreError(f"{path} has version {stored.get('version')}; expected {VERSION}. Run dfens check again.")
        rows = [(str(row["path"]), str(row["reason"]), (row["size"], row["mtime_ns"])) for row in stored["files"]]
    except (OSError, AttributeError, KeyError, TypeError) as err:
        raise StoreError(f"{path} cannot be read as a list of files ({err!r}). Run dfens check again.") from err
    found = {}
    for name, reason, stamp in rows:
        file = root / name  # an absolute name remains unchanged
        try:
            facts = file.stat()
        except (OSError, ValueError):
            continue
        if (facts.st_size, facts.st_mtime_ns) == stamp:
            found[name if Path(name).is_absolute() else f"{root}/{name}"] = reason
    return found
