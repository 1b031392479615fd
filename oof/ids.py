"""Row ids: always text, unique, joined by value and never by position."""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oof.errors import ConfigError, PredictionError, examples

Ids = NDArray[np.object_]
_ROUNDED = re.compile(r"\d\.\d+e\+?\d+", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def as_ids(values: Sequence[str] | NDArray[np.object_] | pd.Series, what: str) -> Ids:
    """Check that values are unique, non-empty text and return them as an object array, shape (n_rows,).

    A number is refused rather than turned into text: by then `00012` has already become 12.

    Raises:
        PredictionError: if ids are empty, not text or duplicate, naming `what` and the first of them.
    """
    ids = np.asarray(values, dtype=object)
    wrong = [i for i, value in enumerate(ids) if not isinstance(value, str) or not value]
    if wrong:
        remedy = (
            "Give each row an id (if it was NA or null, pandas.read_csv made it empty: read it with dtype=str, "
            "keep_default_na=False), and remove other rows, such as one of totals."
            if all(ids[i] is None or ids[i] == "" for i in wrong)
            else "Read the id column as text (dtype=str, keep_default_na=False) so that '00012' stays '00012', and NA "
            "stays NA."
        )
        raise PredictionError(
            f"{what}: id number {wrong[0]} is {ids[wrong[0]]!r}, and {len(wrong)} of {len(ids)} are not "
            f"non-empty text. {remedy}"
        )
    duplicate = pd.Index(ids).duplicated()
    if duplicate.any():
        found = sorted(set(ids[duplicate]))
        remedy = (
            "Large numbers were rounded when the file was written: save the ids as text."
            if all(_ROUNDED.fullmatch(value) for value in found)
            else "Each row needs a unique id; remove the duplicates."
        )
        raise PredictionError(
            f"{what}: {int(duplicate.sum())} of {len(ids)} ids are duplicate: {examples(found)}. {remedy}"
        )
    return ids


def ids_fingerprint(ids: Ids) -> str:
    """Return the fingerprint of a set of ids, independent of their order: 32 hexadecimal digits of SHA-256.

    >>> ids_fingerprint(np.array(["a", "b"], object)) == ids_fingerprint(np.array(["b", "a"], object))
    True
    """
    return text_fingerprint(sorted(ids))


def text_fingerprint(texts: Sequence[str]) -> str:
    """Return the fingerprint of a sequence of length-prefixed texts: 32 hexadecimal digits."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode()
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()[:32]


def labels_fingerprint(ids: Iterable[str], target: Iterable[object]) -> str:
    """Return the fingerprint of labelled rows, which does not depend on their order."""
    return text_fingerprint(sorted(f"{id_}\t{label}" for id_, label in zip(ids, target, strict=True)))


def spelling_note(unknown: Sequence[str] | Ids, known: Ids) -> str:
    """Return a sentence on how all unknown ids differ from known ones, or an empty string."""
    ways: dict[str, Callable[[str], str]] = {
        "spaces around them": str.strip,
        "quotes or signs around them": lambda text: text.strip("'\"=`"),
        "'\\' instead of '/'": lambda text: text.replace("\\", "/"),
        "upper and lower case": str.casefold,
        "the folder before them": lambda text: PurePosixPath(text.replace("\\", "/")).name,
        "leading zeros": lambda text: text.lstrip("0"),
        "the decimal point": lambda text: text.removesuffix(".0"),
        "the file ending": lambda text: PurePosixPath(text).stem,
        "the Unicode form of letters with accents": lambda text: unicodedata.normalize("NFC", text),
    }
    for what, reduce in ways.items():
        if {reduce(value) for value in unknown} <= {reduce(value) for value in known}:
            return f"They differ from the expected ids only in {what}: write them as in the label file. "
    return ""


def join_positions(wanted: Ids, found: Ids, what: str, *, extra: str = "error") -> NDArray[np.intp]:
    """Return the position in `found` of each wanted id, shape (len(wanted),).

    Args:
        wanted: unique ids in the order of the result.
        found: unique ids in any order.
        what: description of what was found, for messages.
        extra: "error" if `found` must not contain other ids, "ignore" if it may.

    Raises:
        PredictionError: if ids are missing, duplicate or (unless ignored) not wanted, naming some.
    """
    if len(wanted) == len(found) and (wanted == found).all():
        return np.arange(len(wanted))
    index = pd.Index(found)
    if not index.is_unique:
        doubled = list(map(str, index[index.duplicated()].unique()))
        raise PredictionError(
            f"{what} contains {len(doubled)} ids more than once: {examples(doubled)}. Each id needs one row: restore "
            f"the file, or make it again."
        )
    positions = index.get_indexer(pd.Index(wanted))
    missing = wanted[positions < 0]
    if 0 < len(missing) == len(wanted) and len(found):
        texts = list(map(str, found))  # a damaged file may contain numbers
        raise PredictionError(
            f"{what} covers 0 of {len(wanted)} ids: it has {examples(texts, 3)}; expected "
            f"{examples(list(wanted), 3)}. {spelling_note(texts, wanted)}Check that it belongs to this competition."
        )
    if len(missing):
        raise PredictionError(
            f"{what} covers {len(wanted) - len(missing)} of {len(wanted)} ids; missing "
            f"{examples(list(missing))}. Predict these rows, or remove them from the folds or test ids."
        )
    if extra == "error" and len(found) != len(wanted):
        unknown = (
            [str(value) for value in found if value not in set(wanted)]
            if len(found) < 10_000
            else list(map(str, index.difference(pd.Index(wanted))))
        )
        raise PredictionError(
            f"{what} contains {len(unknown)} ids that are not expected: {examples(unknown)}. "
            f"Expected the {len(wanted)} ids of this competition; check that the file belongs to it."
        )
    return positions


def data_columns(names: Sequence[str]) -> Sequence[str]:
    """Return the names of a table's columns without an empty one, which has row numbers next to two or more others.

    pandas writes them so. Next to one other column, the column without a name is the index with the ids.

    >>> data_columns(["", "id", "target"]), data_columns(["", "target"])
    (['id', 'target'], ['', 'target'])
    """
    named = [name for name in names if name]
    return named if len(named) > 1 else names


def is_name(name: str) -> bool:
    """Return whether a name is safe as a folder name."""
    return bool(_NAME.fullmatch(name))


def check_name(name: str, what: str) -> str:
    """Return a name that is safe as a folder name.

    Raises:
        ConfigError: if it is empty, too long, or contains anything but letters, digits and . _ -
    """
    if not is_name(name):
        raise ConfigError(
            f"{what} {name!r} cannot be a folder name. Use letters, digits, '.', '_' and '-', "
            f"beginning with a letter or digit, 100 characters at most."
        )
    return name


def check_case(names: Iterable[str], others: Iterable[str] = (), label: str = "'{}'") -> None:
    """Check that names of folders can be told from each other, and from those of other folders, without their case.

    Args:
        names: of folders that are about to be written; a name that is repeated, or is one of `others`, is no error.
        others: names of existing folders.
        label: how messages show a name.

    Raises:
        ConfigError: if two names differ only in case.
    """
    known = set(others)
    by_folded = {other.casefold(): other for other in known}
    for name in names:
        if name not in known and (other := by_folded.setdefault(name.casefold(), name)) != name:
            raise ConfigError(
                f"{label.format(name)} and {label.format(other)} differ only in case, and would share a folder on "
                f"macOS and Windows. Choose another name for {label.format(name)}."
            )
