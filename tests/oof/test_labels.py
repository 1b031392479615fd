"""Labels: the same values in label files and in the targets of imported predictions."""

from pathlib import Path

import numpy as np
import pytest

from oof.exchange.prediction_columns import is_class_zero
from oof.exchange.prediction_files import read_predictions
from oof.labels import KNOWN_LABELS, LABEL_OF_WORD, parse_labels
from tests.support.competitions import make_table
from trainers.data.layouts import read_competition
from trainers.data.settings import DataSettings


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["0", "1"], [0, 1]),
        (["0.000e+00", "1.0E+00", "+1.", "1,0"], [0, 1, 1, 1]),
        (["FALSE", "TRUE", "true"], [0, 1, 1]),
        (["REAL", "FAKE", " fake "], [0, 1, 1]),
        (["bonafide", "spoof"], [0, 1]),
        (["1_0", "0_1", "١", "inf", "1e", "0x1", "2", ""], [-1] * 8),
        (["genuine", "SYNTHETIC"], [0, 1]),
        (["no", "Yes"], [0, 1]),
        (["neg", "positive"], [0, 1]),
        (["TRUE", "FAKE", "REAL"], [-1, 1, 0]),  # "true" may mean a genuine image here
        (["yes", "genuine"], [-1, 0]),
    ],
)
def test_labels_in_every_common_spelling(texts: list[str], expected: list[int]) -> None:
    assert parse_labels(np.array(texts, object)).tolist() == expected


def words() -> list[tuple[str, str]]:
    return [tuple(pair.split(" and ")) for pair in KNOWN_LABELS.split(", ")]  # type: ignore[misc]


def test_the_known_labels_are_those_of_the_table() -> None:
    assert words()[0] == ("0", "1")
    for zero, one in words()[1:]:
        assert (LABEL_OF_WORD[zero], LABEL_OF_WORD[one]) == (0, 1)
    assert set(LABEL_OF_WORD) - {word for pair in words() for word in pair} == {"bona-fide", "neg", "pos"}


@pytest.mark.parametrize(("zero", "one"), words())
def test_label_files_and_imported_targets_accept_the_same_words(zero: str, one: str, tmp_path: Path) -> None:
    make_table(tmp_path, rows=8, test_rows=2)
    lines = (tmp_path / "train.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines]
    ids, target = rows[0].index("img_name"), rows[0].index("target")
    expected = {row[ids]: int(row[target]) for row in rows[1:]}
    for row in rows[1:]:
        row[target] = one.upper() if row[target] == "1" else zero
    (tmp_path / "train.csv").write_text("\n".join(map(",".join, rows)) + "\n")
    train = read_competition(DataSettings(layout="table", root=tmp_path, id="img_name")).train
    assert dict(zip(train["id"], train["target"].tolist(), strict=True)) == expected

    predictions = [f"{row[ids]},{row[target]},0.{position}" for position, row in enumerate(rows[1:], 1)]
    (tmp_path / "oof.csv").write_text("\n".join(["img_name,target,pred", *predictions]) + "\n")
    found = read_predictions(tmp_path / "oof.csv")
    assert found.target is not None
    assert dict(zip(found.ids, found.target.astype(int).tolist(), strict=True)) == expected


def test_the_class_in_the_name_of_a_column_is_read_from_the_same_table() -> None:
    for word, label in LABEL_OF_WORD.items():
        assert is_class_zero(f"prob_{word}") == (label == 0)
    assert not is_class_zero("prob_0")
    assert not is_class_zero("prob_other")


def test_labels_of_many_rows_are_read_by_distinct_value() -> None:
    texts = np.array(["fake", " Real", "other"], object)[np.random.default_rng(0).integers(0, 3, 5_000)]
    slow = [{"fake": 1, "real": 0}.get(text.strip().lower(), -1) for text in texts]
    np.testing.assert_array_equal(parse_labels(texts), slow)
