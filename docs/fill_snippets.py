"""Put the shared snippets into the pages that show them, so that they read well on a forge and on the site alike.

    python -m docs.fill_snippets

A page marks where a snippet belongs by a comment, followed by the snippet itself:

    <!-- snippet: train.sh -->
    (the text of docs/snippets/train.sh; code in a fence, tables as they are)
    <!-- end -->

or a part of a file, from the line that contains one text to the line that contains another:

    <!-- part of README.md as sh: make setup … dfens submit --wait -->
    <!-- end -->

The text between the comments is replaced by that of the file. Change the file, then run this; a test compares both.
"""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent
SNIPPETS = DOCS / "snippets"
MARKER = re.compile(r"^<!-- snippet: (\S+) -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)
PART = re.compile(r"^<!-- part of (\S+) as (\w+): ([^\n]+) … ([^\n]+) -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)
_LANGUAGES = {".sh": "sh", ".toml": "toml", ".py": "python"}


def filled(page: str) -> str:
    """Return the text of a page with every marked snippet as its file has it."""
    return PART.sub(_part, MARKER.sub(lambda found: _block(found[1]), page))


def _block(name: str) -> str:
    text = (SNIPPETS / name).read_text(encoding="utf-8").strip("\n")
    language = _LANGUAGES.get(Path(name).suffix)
    body = text if language is None else f"```{language}\n{text}\n```"
    return f"<!-- snippet: {name} -->\n\n{body}\n\n<!-- end -->"


def _part(found: re.Match[str]) -> str:
    name, language, first, last = found.groups()
    lines = (DOCS.parent / name).read_text(encoding="utf-8").splitlines()
    begin = next(place for place, line in enumerate(lines) if first in line)
    end = next(place for place, line in enumerate(lines) if place >= begin and last in line)
    head = found[0].partition("\n")[0]
    text = "\n".join(lines[begin : end + 1])
    return f"{head}\n\n```{language}\n{text}\n```\n\n<!-- end -->"


def main() -> None:
    """Refresh all pages."""
    for path in sorted(DOCS.rglob("*.md")):
        if "_build" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        if filled(text) != text:
            path.write_text(filled(text), encoding="utf-8")


if __name__ == "__main__":
    main()
