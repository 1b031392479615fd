"""Groups from a column of originals: a fake is never apart from the real it was made from, however it is named."""

import unicodedata
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from trainers.data.originals import Texts, column_groups
from trainers.data.row_names import RowNames


def originals(value_of_real: str) -> tuple[Texts, Texts, NDArray[np.int64], Texts]:
    """Return 8 reals with 2 fakes each, as in DFDC's metadata: values, ids, targets, paths."""
    reals = [f"r{row}.mp4" for row in range(8)]
    fakes = [f"f{row:02d}.mp4" for row in range(16)]
    values = [value_of_real.format(id=real) for real in reals] + [reals[row // 2] for row in range(16)]
    ids = np.array(reals + fakes, object)
    return np.array(values, object), ids, np.array([0] * 8 + [1] * 16), np.array([f"/d/{id_}" for id_ in ids], object)


@pytest.mark.parametrize("value", ["", "-1", "{id}", " ", "nan", "None"])
def test_a_fake_shares_the_group_of_its_real(value: str) -> None:
    found = column_groups(*originals(value))
    assert found.names[:8].tolist() == [f"f{2 * row:02d}.mp4" for row in range(8)]
    assert found.names[8:].tolist() == [f"f{2 * (row // 2):02d}.mp4" for row in range(16)]
    assert (found.originals, found.made_of_them, found.unknown) == (8, 16, 0)
    assert found.note == "16 rows share the group of the 8 rows that they were made from"


def test_originals_are_found_although_labels_are_1_for_reals() -> None:
    values, ids, target, paths = originals("")
    found = column_groups(values, ids, 1 - target, paths, "original")
    np.testing.assert_array_equal(found.names, column_groups(values, ids, target, paths, "original").names)
    assert found.originals


def test_a_fake_of_a_fake_shares_the_group_of_the_first_real() -> None:
    values, ids, target, paths = originals("")
    values[23] = "f00"  # named by its stem
    found = column_groups(values, ids, target, paths)
    assert len(set(found.names[[0, 8, 9, 23]])) == 1
    assert found.names[7] != found.names[23]


NONE_WORDS = ("NaT", "[]", "unknown", "REAL", "#N/A", "-1.00", "?", "0", "pristine")


@pytest.mark.parametrize("value", NONE_WORDS)
def test_words_for_no_original_leave_reals_apart(value: str) -> None:
    found = column_groups(*originals(value))
    assert found.names[:8].tolist() == [f"f{2 * row:02d}.mp4" for row in range(8)]
    assert (found.originals, found.made_of_them, found.unknown) == (8, 16, 0)
    assert ("'pristine' is taken to mean no original" in str(found.note)) == (value == "pristine")


SPELLINGS: dict[str, Callable[[str], str]] = {
    "case": str.upper,
    "quotes": lambda name: f"['{name}']",
    "invisible characters": lambda name: f"\ufeff{name}\u200b",
    "slash": lambda name: f"./real//{name}/",
    "URL": lambda name: f"https://host/{name}?raw=1",
    "leading zeros": lambda name: str(int(name[1:-4])),
    "Unicode form": lambda name: unicodedata.normalize("NFD", name.replace("r", "\u00e9")),
    "self": lambda name: name,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_originals_in_another_spelling_are_found(spelling: str) -> None:
    values, ids, target, paths = originals("" if spelling != "self" else "./Real//{id}")
    values[8:] = [SPELLINGS[spelling](value) for value in values[8:]]
    if spelling == "leading zeros":
        ids[:8] = paths[:8] = [f"{row:05d}.mp4" for row in range(8)]
    elif spelling == "Unicode form":
        ids[:8] = paths[:8] = [f"\u00e9{row}.mp4" for row in range(8)]
    found = column_groups(values, ids, target, paths)
    assert found.names[:8].tolist() == found.names[8::2].tolist() == found.names[9::2].tolist()
    assert len(set(found.names[:8])) == 8


@pytest.mark.parametrize("value", ["{name}", "real/{name}", "/kaggle/input/real/{name}", "FAKE\\..\\real\\{name}"])
def test_the_real_is_found_among_files_of_the_same_name(value: str) -> None:
    paths = [f"/d/{kind}/{row}.png" for kind in ("real", "fake", "swap") for row in range(6)]
    values = ["" if row < 6 else value.format(name=f"{row % 6}.png") for row in range(18)]
    ids = [f"x{row}" for row in range(18)]
    target = np.repeat([0, 1, 1], 6)
    found = column_groups(np.array(values, object), np.array(ids, object), target, np.array(paths, object))
    assert found.names[:6].tolist() == found.names[6:12].tolist() == found.names[12:].tolist()
    assert len(set(found.names)) == 6


@pytest.mark.parametrize("separator", [";", ", ", "|", "+", " ", "_"])
def test_a_fake_of_two_originals_shares_the_group_of_both(separator: str) -> None:
    values, ids, target, paths = originals("")
    values[8:] = [f"r{row // 4 * 2}{separator}r{row // 4 * 2 + 1}" for row in range(16)]
    found = column_groups(values, ids, target, paths)
    assert found.names.tolist() == [f"f{row // 2 * 4:02d}.mp4" for row in range(8)] + [
        f"f{row // 4 * 4:02d}.mp4" for row in range(16)
    ]


def test_a_long_chain_of_fakes_ends_at_its_real() -> None:
    ids = np.array([f"{chain}-{step}" for chain in range(6) for step in range(6)], object)
    values = np.array([f"{chain}-{step - 1}" if step else "" for chain in range(6) for step in range(6)], object)
    found = column_groups(values, ids, np.array([0, 1, 1, 1, 1, 1] * 6), ids)
    assert found.names.tolist() == np.repeat(ids[::6], 6).tolist()


def test_reals_with_a_group_of_their_own_share_it_and_their_fakes() -> None:
    values, ids, target, paths = originals("")
    values[:8] = [f"person {row // 2}" for row in range(8)]
    found = column_groups(values, ids, target, paths)
    assert found.names[:8].tolist() == [f"f{row // 2 * 4:02d}.mp4" for row in range(8)]
    assert found.names[8:].tolist() == [f"f{row // 4 * 4:02d}.mp4" for row in range(16)]


def test_copies_of_reals_share_their_group() -> None:
    values, ids, target, paths = (np.r_[item, item[:8]] for item in originals(""))
    values[24:] = ids[:8]
    ids[24:] = paths[24:] = [f"copy{row}.mp4" for row in range(8)]
    found = column_groups(values, ids, target, paths)
    assert found.names[24:].tolist() == found.names[:8].tolist() == found.names[8:24:2].tolist()


def test_reals_are_apart_if_no_original_is_among_the_rows() -> None:
    values, ids, target, paths = originals("-1")
    values[8:] = [f"gone{row // 2}" for row in range(16)]
    found = column_groups(values, ids, target, paths)
    assert len(set(found.names)) == 16
    assert found.names[8] == found.names[9] == "gone0"


def test_a_missing_original_in_two_spellings_is_one() -> None:
    values, ids, target, paths = originals("")
    values[22:] = ["Gone.mp4", "./gone"]
    found = column_groups(values, ids, target, paths)
    assert found.names[22] == found.names[23]
    assert found.unknown == 2


def test_fakes_of_the_same_missing_real_share_a_group() -> None:
    values, ids, target, paths = originals("")
    found = column_groups(values[1:], ids[1:], target[1:], paths[1:])
    assert found.names[7] == found.names[8] == "f00.mp4"
    assert found.unknown == 2
    assert "2 name an original that is not among the rows" in str(found.note)


def test_small_numbers_that_look_like_ids_are_ordinary_groups() -> None:
    ids = np.array([str(row) for row in range(40)], object)
    values = np.array([str(row % 10) if row % 7 else "" for row in range(40)], object)
    found = column_groups(values, ids, np.arange(40) % 2, ids)
    assert found.note == "6 of 40 rows have no value in 'group', so each of them is its own group"
    assert found.names[3] == found.names[13] == "3"
    assert found.names[7] == "row 7"


@pytest.mark.parametrize("text", ["nan", "NaN", "None", "NA", "null", "<NA>", "NaT", "n/a", " ", ""])
def test_rows_without_a_value_are_not_one_group(text: str) -> None:
    ids = np.array([f"x{row:02d}" for row in range(24)], object)
    values = np.array([f"person {row // 4}" if row % 4 else text for row in range(24)], object)
    found = column_groups(values, ids, np.arange(24) // 2 % 2, ids, "person")
    assert found.names.tolist() == [f"person {row // 4}" if row % 4 else f"row x{row:02d}" for row in range(24)]
    written = f" ({text!r})" if text else ""
    assert found.note == f"6 of 24 rows have no value in 'person'{written}, so each of them is its own group"


@pytest.mark.parametrize("text", ["nana", "nano", "none of them", "North", "0", "unknown", "no"])
def test_other_words_are_groups(text: str) -> None:
    ids = np.array([f"x{row:02d}" for row in range(24)], object)
    values = np.array([f"person {row // 4}" if row % 4 else text for row in range(24)], object)
    found = column_groups(values, ids, np.arange(24) // 2 % 2, ids, "person")
    assert found.names.tolist() == values.tolist()
    assert found.note is None


def test_a_name_that_several_reals_share_names_all_of_them() -> None:
    names = np.array(["a/1.png", "b/1.png", "c/1.png", "2.png"], object)
    rows = RowNames(np.array(["w", "x", "y", "z"], object), np.array([0, 0, 1, 0]), names)
    assert rows.rows_of("1.jpg") == [0, 1]
    assert rows.rows_of("b/1.jpg") == [1]
    assert rows.rows_of("y") == [2]
    assert rows.rows_of("2;gone") == [3]
    assert rows.rows_of("2_gone") == rows.rows_of("") == rows.rows_of("gone") == []


def test_names_that_differ_after_a_dot_are_different() -> None:
    values, ids, target, paths = originals("")
    ids[:8] = [f"clip.{'abcdefgh'[row]}x" for row in range(8)]
    paths[:8] = [f"/d/{id_}.mp4" for id_ in ids[:8]]
    values[8:] = [ids[row // 2] for row in range(16)]
    assert len(set(column_groups(values, ids, target, paths).names)) == 8
    values[22:] = ["gone.one", "gone.two"]  # neither is among the rows
    assert len(set(column_groups(values, ids, target, paths).names)) == 10


def test_a_file_name_in_every_folder_is_found_by_its_folders_alone() -> None:
    paths = np.array([f"/d/clip{row}/frames/0.png" for row in range(400)], object)
    ids = np.array([f"x{row}" for row in range(400)], object)
    names = RowNames(ids, np.arange(400) % 2, paths)
    assert names.rows_of("CLIP8/frames/0.png") == [8]
    assert names.rows_of("clip7/frames/0") == [7]
    assert names.rows_of("other/frames/0.png") == []  # 400 rows have this name


@pytest.mark.parametrize("ids_of", ["{row:05d}", "{row}", "{row:05d}.jpg"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("method", "groups"), ("fakeType", "groups"), ("source_dataset", "groups"), ("video", "doubt")),
        *(("original", "originals"), ("made_from", "originals")),
    ],
)
@pytest.mark.parametrize("first", [0, 1])
def test_numbers_name_originals_only_if_nothing_else_fits(ids_of: str, name: str, expected: str, first: int) -> None:
    """Numbers 1 to 4 of fakes, where rows 1 to 4 are reals: the name of the column decides what they are.

    All reals have the value 0, which may be the name of the first of them.
    """
    ids = np.array([ids_of.format(row=row + first) for row in range(60)], object)
    values = np.array(["0"] * 30 + [str(row % 4 + 1) for row in range(30)], object)
    found = column_groups(values, ids, np.repeat([0, 1], 30), ids, name)
    assert (found.originals > 0) == (expected == "originals")
    if expected == "originals":
        assert found.names[1 - first] == found.names[30]
    else:
        assert found.names.tolist() == [f"row {id_}" for id_ in ids[:30]] + values[30:].tolist()
    assert ("The numbers in 'video' are taken as names of groups" in str(found.note)) == (expected == "doubt")


@pytest.mark.parametrize("none", ["", "0", "-1", "nan"])
@pytest.mark.parametrize("name", ["video", ""])
def test_numbers_with_gaps_name_originals(name: str, none: str) -> None:
    """Ten of thirty reals have fakes, whose column has their numbers without leading zeros."""
    ids = np.array([f"{row:05d}" for row in range(50)], object)
    originals = np.random.default_rng(4).permutation(30)[:10]
    assert 0 in originals  # its fakes have the value 0
    values = np.array([none] * 30 + [str(originals[row // 2]) for row in range(20)], object)
    found = column_groups(values, ids, np.repeat([0, 1], [30, 20]), ids, name)
    assert found.originals == 10
    assert found.names[30:].tolist() == [f"{originals[row // 2]:05d}" for row in range(20)]
