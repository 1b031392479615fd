"""The names that docs/formats.md describes."""

import re
from pathlib import Path

_DOCS = Path(__file__).parents[2] / "docs" / "formats.md"


def documented(begin: str = "", end: str = "") -> set[str]:
    """Return all words in backticks between two texts of the page, without its blocks of code."""
    text = re.sub(r"(?ms)^```.*?^```", "", _DOCS.read_text())
    start = text.index(begin)
    text = text[start : text.index(end, start)] if end else text[start:]
    return {word for quoted in re.findall(r"`([^`]+)`", text) for word in re.findall(r"\w+", quoted)}
