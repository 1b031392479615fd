"""Ids stay text, unique, and are joined by value."""

import numpy as np
import pandas as pd
import pytest

from oof.errors import ConfigError, PredictionError
from oof.ids import as_ids, check_name, ids_fingerprint, join_positions


def ids(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


@pytest.mark.parametrize("text", ["00012", "1e5", "0385e4011520523", "1.2.826.0", "ä", " spaced "])
def test_ids_are_kept_exactly(text: str) -> None:
    assert as_ids(pd.Series([text, "other"]), "rows")[0] == text


@pytest.mark.parametrize("value", [12, None, float("nan"), ""])
def test_non_text_ids_are_refused_with_their_position(value: object) -> None:
    with pytest.raises(PredictionError, match="rows: id number 1 is"):
        as_ids(np.array(["a", value], dtype=object), "rows")


def test_duplicate_ids_are_named() -> None:
    with pytest.raises(PredictionError, match="1 of 3 ids are duplicate: a"):
        as_ids(["a", "b", "a"], "rows")


def test_fingerprint_depends_only_on_the_set() -> None:
    assert ids_fingerprint(ids("a", "b")) == ids_fingerprint(ids("b", "a"))
    assert ids_fingerprint(ids("ab", "c")) != ids_fingerprint(ids("a", "bc"))


def test_join_finds_each_id_in_any_order() -> None:
    found = ids("c", "a", "b")
    assert list(found[join_positions(ids("a", "b", "c"), found, "file")]) == ["a", "b", "c"]


def test_join_names_missing_and_extra_ids() -> None:
    with pytest.raises(PredictionError, match=r"OOF 'x' covers 1 of 3 ids; missing b, c\."):
        join_positions(ids("a", "b", "c"), ids("a"), "OOF 'x'")
    with pytest.raises(PredictionError, match="contains 1 ids that are not expected: z"):
        join_positions(ids("a"), ids("z", "a"), "file")
    assert list(join_positions(ids("a"), ids("z", "a"), "file", extra="ignore")) == [1]


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a" * 101, "ä", "a b"])
def test_names_that_could_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a folder name"):
        check_name(name, "model name")


def test_ids_of_a_damaged_file_are_named() -> None:
    """Duplicates and numbers ended in a traceback of pandas or of the message."""
    for extra in ("error", "ignore"):
        with pytest.raises(PredictionError, match=r"file contains 1 ids more than once: a\. Each id needs one row"):
            join_positions(ids("a", "b"), ids("a", "b", "a"), "file", extra=extra)
    with pytest.raises(PredictionError, match=r"covers 0 of 2 ids: it has 1\.0, 2\.0; expected 1, 2\."):
        join_positions(ids("1", "2"), np.array([1.0, 2.0]), "file")
    with pytest.raises(PredictionError, match="contains 1 ids that are not expected: None"):
        join_positions(ids("a"), np.array(["a", None], object), "file")
