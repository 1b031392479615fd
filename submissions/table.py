"""Build the submission table: join predictions to the sample submission by id, check them, and write it exactly."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import SubmissionError, examples
from oof.files import atomic_path
from oof.ids import Ids, data_columns
from submissions.delimited import Delimited, parse_delimited, read_bytes

# what every CSV reader accepts as a number: Python's float also accepts 0_3 and digits of other scripts
_NUMBER = re.compile(r"(?ai)[ \t]*[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)[ \t]*")
_ROUNDING = 1e-9  # a weighted mean of probabilities may exceed 1 by a few units in the last place


@dataclass(frozen=True, eq=False)
class SubmissionTable:
    """A checked submission.

    data: the bytes of the file. ids: (n_rows,) in the order of the file. predictions: (n_rows,) float64.
    column: name of the prediction column. sample_sha256: hash of the sample submission used for the check.
    notes: what is unusual but harmless.
    """

    data: bytes
    ids: Ids
    predictions: NDArray[np.float64]
    column: str
    sample_sha256: str = ""
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Return the number of predictions."""
        return len(self.ids)

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the bytes, which identifies a file that was already sent."""
        return sha256_of(self.data)

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        with atomic_path(path) as part:
            part.write_bytes(self.data)


def build_table(
    sample: Path,
    ids: Sequence[str] | Ids,
    predictions: NDArray[Any],
    *,
    id_column: str = "",
    default_id: str = "",
    prediction_column: str = "",
    lowest: float = 0.0,
    highest: float = 1.0,
) -> SubmissionTable:
    """Return the sample submission with its predictions replaced.

    Header, order, id text, quotes, separator, line ends and byte order mark are the same as in
    the sample, for readers that are strict about any of them. Predictions are
    written with the fewest digits that read back as the same float32 or float64, without exponent.

    Args:
        sample: the sample submission, CSV.
        ids: (n_rows,) text, in any order.
        predictions: (n_rows,) float32 or float64 for these ids.
        id_column: id column of the sample; by default `default_id` if the sample has this column, otherwise its first.
        prediction_column: prediction column of the sample; by default the only other one. Further columns keep the
            sample's values, also row numbers in a column without a name.
        lowest, highest: allowed range; predictions outside by less than 1e-9 are set to the limit.

    Raises:
        SubmissionError: if ids are missing, extra or duplicate, if predictions are NaN, infinite, out of range or
            constant (with examples), or if the sample has several targets and none is named.
    """
    sample_data = read_bytes(sample, "sample submission")
    table = parse_delimited(sample_data, sample, "sample submission")
    id_name, column = _columns(table, id_column, default_id, prediction_column)
    wanted = table.values(id_name)
    _check_unique(wanted, f"The sample submission {sample}", "Get the file again.")
    found = _texts(ids)
    values = np.asarray(predictions)
    if values.shape != found.shape or values.dtype.kind not in "fiub":
        raise SubmissionError(
            f"Expected one number for each of the {len(found)} ids; found predictions of shape {values.shape}, "
            f"type {values.dtype}."
        )
    values = values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)
    positions = _join(wanted, found, "The predictions", "Predict these rows, or correct [data] sample_submission.")
    values = _moved_inside(values[positions], lowest, highest)
    check_values(wanted, values, lowest=lowest, highest=highest)
    quoted = table.rows > 0 and all(field[:1] == '"' for field in table.column(column))
    texts = number_texts(values)
    columns = list(table.columns)
    columns[table.names.index(column)] = [f'"{text}"' for text in texts] if quoted else texts
    kept = [name for name in data_columns(table.names) if name not in (id_name, column)]
    notes = (f"Only '{column}' is filled; other columns keep the sample's values: {examples(kept)}.",) if kept else ()
    data = _bytes(table, columns)
    return SubmissionTable(data, wanted, values.astype(np.float64), column, sha256_of(sample_data), notes)


def validate_file(
    path: Path,
    sample: Path,
    *,
    id_column: str = "",
    default_id: str = "",
    prediction_column: str = "",
    lowest: float = 0.0,
    highest: float = 1.0,
) -> SubmissionTable:
    """Check a submission file made elsewhere against the sample; its bytes are not changed.

    A different order of rows or columns is harmless, since Kaggle joins by id and by name; it is mentioned
    in `notes`. Arguments and errors as in `build_table`; a header that differs from the sample's
    and non-numeric values are errors, too.
    """
    sample_data, data = read_bytes(sample, "sample submission"), read_bytes(path, "submission file")
    expected = parse_delimited(sample_data, sample, "sample submission")
    id_name, column = _columns(expected, id_column, default_id, prediction_column)
    table = parse_delimited(data, path, "submission file")
    if table.separator != expected.separator:
        raise SubmissionError(
            f"The columns of {path} are separated by {table.separator!r}, those of the sample submission by "
            f"{expected.separator!r}, which Kaggle expects. Save it again with {expected.separator!r}."
        )
    if set(table.names) != set(expected.names):
        same = {name.strip() for name in table.names} == {name.strip() for name in expected.names}
        names = [map(repr, item.names) if same else item.names for item in (table, expected)]
        raise SubmissionError(
            f"{path} has the columns {', '.join(names[0])}; the sample submission has {', '.join(names[1])}. "
            f"Kaggle accepts only these names{', including spaces' if same else ''}: correct the header."
        )
    ids, wanted = table.values(id_name), expected.values(id_name)
    positions = _join(wanted, ids, str(path), "Create the file from the sample submission, reading ids as text.")
    values = _moved_inside(_numbers(table, id_name, column), lowest, highest)
    check_values(ids, values, lowest=lowest, highest=highest)
    notes = []
    if table.names != expected.names:
        notes.append(f"The columns are in a different order from the sample ({', '.join(table.names)}).")
    if (positions != np.arange(len(positions))).any():
        notes.append("The rows are in a different order from the sample; Kaggle joins them by id.")
    for habit, name in (("newline", "line end"), ("bom", "byte order mark")):
        if getattr(table, habit) != getattr(expected, habit):
            notes.append(f"The {name} differs from the sample's.")
    return SubmissionTable(data, ids, values, column, sha256_of(sample_data), tuple(notes))


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of bytes, as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def values_fingerprint(ids: Sequence[str] | Ids, predictions: NDArray[Any]) -> str:
    """Return the SHA-256 of predictions and ids, sorted by id, so that equal predictions have equal fingerprints.

    The ledger records it for a blend's test predictions (`blend_fingerprint`). float32 and
    float64 have different fingerprints, since they are written differently.
    """
    texts, values = _texts(ids), np.asarray(predictions)
    order = np.argsort(texts.astype(str), kind="stable")
    digest = hashlib.sha256(values.dtype.newbyteorder("<").str.encode())
    digest.update("\0".join(texts[order]).encode())
    digest.update(np.ascontiguousarray(values[order]).astype(values.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def check_values(ids: Ids, values: NDArray[Any], *, lowest: float, highest: float) -> None:
    """Refuse NaN, infinite, out of range and constant predictions, naming the first few ids.

    Raises:
        SubmissionError: listing all problems in one message.
    """
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        outside = finite & ((values < lowest) | (values > highest))
    faults = []
    for name, rows in (("NaN", np.isnan(values)), ("infinite", np.isinf(values))):
        if rows.any():
            faults.append(f"{int(rows.sum())} of {len(values)} predictions are {name}: {_shown(ids, values, rows)}.")
    if outside.any():
        faults.append(
            f"{int(outside.sum())} of {len(values)} predictions are outside {lowest:g} to {highest:g}: "
            f"{_shown(ids, values, outside)}; all are between {values[finite].min():g} and {values[finite].max():g}. "
            f"Submit probabilities or ranks, or set [submissions] lowest and highest."
        )
    if not faults and len(values) > 1 and (values == values[0]).all():
        faults.append(
            f"All {len(values)} predictions are {values[0]:g}, so they do not rank the rows. "
            f"Check for an untrained model, or for an unchanged sample submission."
        )
    if not len(values):
        faults.append("There are no rows to predict.")
    if faults:
        raise SubmissionError(" ".join(faults))


def number_texts(values: NDArray[Any]) -> list[str]:
    """Return each float as the shortest decimal that reads back as the same value, never with an exponent.

    >>> number_texts(np.array([1e-05, 0.1, 1.0, -0.0]))
    ['0.00001', '0.1', '1.0', '0.0']
    >>> number_texts(np.array([0.1], dtype=np.float32))
    ['0.1']
    """
    values = values + values.dtype.type(0)  # turns -0.0 into 0.0
    if values.dtype == np.float32:
        return [np.format_float_positional(value, unique=True, trim="0") for value in values]
    texts = [repr(value) for value in values.tolist()]
    return [
        np.format_float_positional(np.float64(text), unique=True, trim="0") if "e" in text else text for text in texts
    ]


def _columns(table: Delimited, id_column: str, default_id: str, prediction_column: str) -> tuple[str, str]:
    """Return the names of the id column and the prediction column."""
    for wanted in filter(None, (id_column, prediction_column)):
        if wanted not in table.names:
            raise SubmissionError(
                f"The sample submission {table.path} has no column '{wanted}'; it has {', '.join(table.names)}. "
                f"Correct the column name in dfens.toml."
            )
    id_name = id_column or default_id_column(table, default_id, prediction_column)
    if prediction_column and id_name == prediction_column:
        raise SubmissionError(
            f"'{id_name}' cannot be both the id and the prediction column of the sample submission {table.path}. "
            f"Correct [submissions] id_column or prediction_column."
        )
    if not id_column and _repeats(table, id_name):
        unique = [name for name in data_columns(table.names) if not _repeats(table, name)]
        if len(unique) == 1:
            raise SubmissionError(
                f"The first column of the sample submission {table.path}, '{id_name}', does not contain ids: its "
                f"values repeat. Those of '{unique[0]}' do not. Name it: [submissions] id_column = \"{unique[0]}\"."
            )
    if prediction_column:
        return id_name, prediction_column
    others = [name for name in data_columns(table.names) if name != id_name]
    if len(others) != 1:
        raise SubmissionError(
            f"The sample submission {table.path} has {len(others)} columns in addition to the id '{id_name}': "
            f"{examples(others, 12) or 'none'}. dfens fills one: name it with [submissions] prediction_column."
        )
    return id_name, others[0]


def default_id_column(table: Delimited, default_id: str = "", prediction_column: str = "") -> str:
    """Return `default_id` if a sample submission has this column, otherwise the first that may contain ids.

    The columns of the predictions and of row numbers do not.
    """
    if default_id and default_id in table.names:
        return default_id
    found = [name for name in data_columns(table.names) if not prediction_column or name != prediction_column]
    return (found or table.names)[0]


def _repeats(table: Delimited, name: str) -> bool:
    return len(set(table.column(name))) < table.rows


def _texts(ids: Sequence[str] | Ids) -> Ids:
    found = np.empty(len(ids), dtype=object)
    found[:] = ids
    wrong = [value for value in found if not isinstance(value, str)]
    if wrong:
        raise SubmissionError(
            f"{len(wrong)} of {len(found)} ids are not text, the first is {wrong[0]!r}. "
            f"Read the id column as text (dtype=str), so that '00012' stays '00012'."
        )
    return found


def _check_unique(ids: Ids, what: str, remedy: str) -> None:
    count = len(ids) - len(set(ids))
    if count:
        doubled = [value for value, times in Counter(ids).items() if times > 1]
        raise SubmissionError(f"{what} has {count} ids more than once: {examples(sorted(doubled))}. {remedy}")


def _join(wanted: Ids, found: Ids, what: str, remedy: str) -> NDArray[np.intp]:
    """Return the position in `found` of each wanted id, or raise one error that lists all mismatches."""
    _check_unique(found, what, "Each id needs one prediction: remove the duplicates.")
    places = {value: position for position, value in enumerate(found)}
    positions = np.array([places.pop(value, -1) for value in wanted], dtype=np.intp)
    missing, extra = list(wanted[positions < 0]), list(places)
    if not missing and not extra:
        return positions
    faults = []
    if missing:
        faults.append(f"{len(missing)} of {len(wanted)} ids are missing: {examples(missing)}.")
    if extra:
        faults.append(f"{len(extra)} ids are not in the sample submission: {examples(extra)}.")
    raise SubmissionError(f"{what}: {' '.join(faults)} {_cause(missing, extra)}{remedy}")


def _without_zeros(text: str) -> str:
    return text.lstrip("0") or "0"


def _without_ending(text: str) -> str:
    return text.rpartition(".")[0]


def _cause(missing: list[str], extra: list[str]) -> str:
    """Return a guess why ids differ (zeros, spaces, an ending, case, Unicode form, a folder), or an empty string."""
    left = set(extra)
    for what, same in (
        ("upper and lower case", str.casefold),
        ("the Unicode form of letters with accents", lambda text: unicodedata.normalize("NFC", text)),
        ("the folder before them", lambda text: PurePosixPath(text.replace("\\", "/")).name),
    ):
        if {same(text) for text in extra} & {same(text) for text in missing}:
            return f"The ids seem to differ only in {what}. "
    for cause, changed in (
        ("lost their leading zeros", _without_zeros),
        ("lost their ending", _without_ending),
    ):
        if any(changed(text) != text and changed(text) in left for text in missing[:1000]):
            return f"The ids seem to have {cause}. "
        bare = {changed(text) for text in extra[:1000] if changed(text) != text}
        if cause != "lost their leading zeros" and bare.intersection(missing):
            return f"The ids of the sample seem to have {cause}. "
    if any(text.strip() != text and text.strip() in left for text in missing[:1000]):
        return "The ids seem to have lost the spaces around them. "
    if {text.strip() for text in extra[:1000]}.intersection(missing):
        return "There seem to be spaces around the ids, which the sample does not have. "
    return ""


def _numbers(table: Delimited, id_name: str, column: str) -> NDArray[np.float64]:
    texts = table.values(column)
    wrong = [row for row, text in enumerate(texts) if not _NUMBER.fullmatch(text)]
    if not wrong:
        return texts.astype(np.float64)
    names = table.values(id_name)
    raise SubmissionError(
        f"{table.path}: {len(wrong)} of {table.rows} values of '{column}' are not numbers: "
        f"{examples([f'{names[row]}: {texts[row]!r}' for row in wrong])}. Write numbers with a decimal point, one per "
        f"id."
    )


def _moved_inside(values: NDArray[Any], lowest: float, highest: float) -> NDArray[Any]:
    """Set values that exceed a limit only by rounding to the limit."""
    near = (values >= lowest - _ROUNDING) & (values <= highest + _ROUNDING)
    return np.where(near, np.clip(values, lowest, highest), values).astype(values.dtype)


def _shown(ids: Ids, values: NDArray[Any], rows: NDArray[np.bool_]) -> str:
    return examples([f"{ids[row]} ({values[row]:g})" for row in np.flatnonzero(rows)])


def _bytes(table: Delimited, columns: list[Sequence[str]]) -> bytes:
    lines = [table.separator.join(table.header), *map(table.separator.join, zip(*columns, strict=True))]
    text = table.newline.join(lines) + (table.newline if table.final_newline else "")
    return (("\ufeff" if table.bom else "") + text).encode("utf-8")
