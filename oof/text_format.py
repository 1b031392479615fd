"""Recognise what a text file contains: a table and its delimiter, or another format under the name of a table."""

import re
from collections import Counter
from pathlib import Path

from oof.errors import DfensError

# not `[id],[pred]` or `<id>,<pred>`, which are headers
_JSON = re.compile(r"""\s*[\[{](?:\s*["'\[{\]}]|(?![^\[\]{}]*[\]}] *[,;|\t]))""")
_MARKUP = re.compile(r"\s*<(?![^<>]*> *[,;|\t])")
_HEAD = 1 << 22  # characters that are looked at; a header may be long
_ROWS = 100  # of them, to find the delimiter
_QUOTED = re.compile(r'"[^"]*"')


def other_format(text: str) -> str | None:
    """Return the format of a text that is not a table of lines: JSON, HTML or XML, a binary format; otherwise None.

    >>> other_format("<!DOCTYPE html>")
    'HTML or XML'
    """
    if "\0" in text[:4096]:
        return "a binary format"
    return "JSON" if _JSON.match(text) else "HTML or XML" if _MARKUP.match(text) else None


def find_delimiter(text: str, delimiters: str, path: Path, error: type[DfensError]) -> str:
    """Return the delimiter of a table from its header; the first rows decide if the header contains several.

    A space is a delimiter only if the header contains no other. Names and values may contain the others, so the
    delimiter is the one that every line contains equally often outside of quotes; of several, and if there is none,
    the most frequent in the header.

    Args:
        text: the table, without blank lines before the header.
        delimiters: those to look for; the first is that of a header without any.
        path: the file, for messages. error: class of the error to raise.

    Raises:
        error: if two delimiters are equally possible.

    >>> find_delimiter("id;real,fake\\na;0.5", ",;", Path("oof.csv"), DfensError)
    ';'
    """
    head = _QUOTED.sub('""', text[:_HEAD])
    header, *rows = filter(None, re.split(r"[\r\n]+", head, maxsplit=_ROWS)[:_ROWS])
    counts = Counter(header)
    found = [sign for sign in delimiters if sign in counts and sign != " "]
    if len(found) < 2:
        return found[0] if found else " " if " " in delimiters and " " in header else delimiters[0]
    even = [sign for sign in found if all(row.count(sign) == counts[sign] for row in rows)]
    first, *others = sorted(even or found, key=lambda sign: -counts[sign])
    if even and others and counts[others[0]] == counts[first]:
        raise error(
            f"{path}: the columns may be separated by {first!r} or by {others[0]!r}; each line contains both equally "
            f"often. Write names and values that contain one of them in quotes, or use only one of them."
        )
    return first
