"""Edit stored files as a user might by hand."""

import json
from collections.abc import Sequence
from pathlib import Path


def edit_json(path: Path, keys: Sequence[str | int], value: object) -> None:
    """Replace the value at the end of a chain of keys, at least one, in a JSON file."""
    stored = json.loads(path.read_text())
    inner = stored
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(stored))
