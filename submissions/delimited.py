"""Read CSV without loss: the raw text of every field as well as its value, and the dialect of the file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from oof.errors import SubmissionError, examples
from oof.ids import Ids
from oof.text_format import find_delimiter, other_format

_BOM = "\ufeff"
_SEPARATORS = ",\t;"

_QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"')


@dataclass(frozen=True, eq=False)
class Delimited:
    """A table of text with the dialect of its file.

    header: raw fields of the first line, (n_columns,). columns: raw fields of each column, including
    quotes, in the order of the header. separator, newline: as used in the first line.
    bom: whether the file begins with a byte order mark. final_newline: whether the last line ends with a newline.
    """

    path: Path
    header: tuple[str, ...]
    columns: Sequence[Sequence[str]]
    separator: str
    newline: str
    bom: bool
    final_newline: bool

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return column names without quotes but otherwise unchanged: Kaggle distinguishes ` y_pred` and `y_pred`."""
        return tuple(unquoted(field) for field in self.header)

    @property
    def rows(self) -> int:
        return len(self.columns[0])

    def column(self, name: str) -> Sequence[str]:
        """Return the raw fields of one column."""
        return self.columns[self.names.index(name)]

    def values(self, name: str) -> Ids:
        """Return the fields of one column as text without quotes, shape (n_rows,)."""
        return np.array([unquoted(field) for field in self.column(name)], dtype=object)


def unquoted(field: str) -> str:
    """Return the value of a raw field, without outer quotes and with doubled quotes unescaped."""
    return field[1:-1].replace('""', '"') if field[:1] == '"' else field


def first_line(text: str) -> str:
    """Return the first line that is not empty, without its end, which may be LF, CRLF or CR.

    >>> first_line("\\r\\rid,target\\ra,0.1")
    'id,target'
    """
    found = re.search(r"[^\r\n]+", text)
    return found[0] if found else ""


def read_bytes(path: Path, what: str) -> bytes:
    """Read a file once, so that exactly the checked bytes are sent, also from a pipe or a file that changes.

    Raises:
        SubmissionError: if the file does not exist or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as err:
        raise SubmissionError(
            f"There is no {what} at {path}. Correct the path; a sample submission is set in dfens.toml "
            f"([data] sample_submission), and dfens download downloads it."
        ) from err
    except IsADirectoryError as err:
        raise SubmissionError(f"The {what} {path} is a folder; expected a CSV file.") from err
    except (OSError, ValueError) as err:  # permissions, a name that is too long or contains NUL
        reason = err.strerror if isinstance(err, OSError) else err
        raise SubmissionError(
            f"The {what} {str(path)!r:.300} cannot be read ({reason}). Correct the path or the permissions."
        ) from err


def parse_delimited(data: bytes, path: Path, what: str) -> Delimited:
    """Parse a CSV with every field as text, keeping its quotes, separator, line ends and byte order mark.

    Args:
        data: the bytes of the file; UTF-8.
        path: path of the file, for messages.
        what: name of the file in messages, e.g. "sample submission".

    Raises:
        SubmissionError: if it is not UTF-8, empty, or has a line with more or fewer fields than the header.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as err:
        raise SubmissionError(
            f"The {what} {path} is not UTF-8 text (byte {err.start}). If it is a zip, unpack it; "
            f"if a spreadsheet program wrote it, save it again as 'CSV UTF-8'."
        ) from err
    bom = text.startswith(_BOM)
    text = text.removeprefix(_BOM)
    if not text.strip():
        raise SubmissionError(f"The {what} {path} is empty; expected a header and one line per id.")
    if (other := other_format(text)) is not None:
        raise SubmissionError(
            f"The {what} {path} contains {other} instead of a CSV; expected a header and one line per id. Get it "
            f"again, or save it as CSV."
        )
    separator = find_delimiter(text, _SEPARATORS, path, SubmissionError)
    ends = re.search(r"\r\n|\r|\n", text)
    header, columns = (_quoted_columns if '"' in text else _plain_columns)(text, separator, f"The {what} {path}")
    found = Delimited(
        path, tuple(header), columns, separator, ends.group() if ends else "\n", bom, text.endswith(("\n", "\r"))
    )
    if len(set(found.names)) < len(header):
        raise SubmissionError(
            f"The {what} {path} has two columns with the same name: {examples(list(found.names), 12)}."
        )
    return found


def _plain_columns(text: str, separator: str, what: str) -> tuple[list[str], list[list[str]]]:
    """Return header and columns of a text without quotes; a list per line would cost more than all the rest."""
    lines = list(filter(None, re.sub(r"\r\n?", "\n", text).split("\n")))
    header = lines[0].split(separator)
    wrong = [line.split(separator) for line in lines if line.count(separator) != len(header) - 1]
    _check_widths(header, wrong, len(lines) - 1, separator, what)
    flat = separator.join(lines[1:]).split(separator) if len(lines) > 1 else []
    return header, [flat[column :: len(header)] for column in range(len(header))]


def _quoted_columns(text: str, separator: str, what: str) -> tuple[list[str], list[list[str]]]:
    """Return header and columns of a text whose quoted fields may contain separators, newlines and doubled quotes."""
    mark = re.escape(separator)
    pattern = re.compile(rf"({_QUOTED.pattern}|[^{mark}\r\n]*)({mark}|\r\n|\r|\n|\Z)")
    lines: list[list[str]] = [[]]
    for field, end in pattern.findall(text):
        lines[-1].append(field)
        if end != separator:
            lines.append([])
    header, *body = [line for line in lines if line not in ([], [""])]
    for row, line in enumerate([header, *body]):
        for field in line:
            if field[:1] == '"' and _QUOTED.fullmatch(field) is None:
                raise SubmissionError(
                    f"{what}: the quotes of {field[:80]!r} in line {row + 1} are not closed. It may be truncated: get "
                    f"it again, or correct the line."
                )
    _check_widths(header, [line for line in body if len(line) != len(header)], len(body), separator, what)
    return header, [[line[column] for line in body] for column in range(len(header))]


def _check_widths(header: list[str], wrong: list[list[str]], rows: int, separator: str, what: str) -> None:
    if wrong:
        raise SubmissionError(
            f"{what} has {len(header)} columns, but {len(wrong)} of its {rows} rows have more or fewer; the first is "
            f"{separator.join(wrong[0])[:80]!r} with {len(wrong[0])}. It may be truncated: get it again."
        )
