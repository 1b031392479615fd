"""A submitted file is rebuilt byte for byte, or a message says what has changed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oof.files import file_sha256
from submissions.rebuild import Source, rebuild
from submissions.table import SubmissionTable, build_table, values_fingerprint

IDS = np.array(["00001", "00002", "1e5"], dtype=object)
VALUES = np.array([0.1, 1 / 3, 0.7])


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample_submission.csv"
    path.write_bytes(b"id,p\r\n1e5,0\r\n00001,0\r\n00002,0\r\n")
    return path


def submitted(sample: Path) -> tuple[SubmissionTable, dict[str, Any]]:
    provenance = {
        "source": "blend",
        "name": "b7",
        "members": {"m1": {"weight": 0.6, "fingerprint": "a" * 64}, "m2": {"weight": 0.4, "fingerprint": "b" * 64}},
        "blend_fingerprint": values_fingerprint(IDS, VALUES),
        "sample_sha256": file_sha256(sample),
    }
    return build_table(sample, IDS, VALUES), provenance


SAME = {"m1": "a" * 64, "m2": "b" * 64}


def test_the_first_source_with_the_same_predictions_gives_the_same_bytes(sample: Path) -> None:
    table, provenance = submitted(sample)
    order = [2, 0, 1]

    def sources() -> Iterator[Source]:
        yield Source("blend 'b7'", IDS, VALUES + 0.01)
        yield Source("blend 'b7' in the archive", IDS[order], VALUES[order])
        raise AssertionError("a third source is not needed")

    found = rebuild(provenance, table.sha256, sample, sources(), SAME)
    assert found.table is not None
    assert found.table.data == table.data
    assert found.source == "blend 'b7' in the archive"
    assert found.changes == ()


def test_changed_and_lost_members_are_named_with_their_hashes(sample: Path) -> None:
    table, provenance = submitted(sample)
    found = rebuild(
        provenance, table.sha256, sample, [Source("blend 'b7'", IDS, VALUES + 0.01)], {"m1": "c" * 64, "m2": None}
    )
    assert found.table is None
    now = values_fingerprint(IDS, VALUES + 0.01)[:12]
    assert found.changes == (
        f"No stored test predictions have the fingerprint {provenance['blend_fingerprint'][:12]} that was submitted: "
        f"blend 'b7' has {now}.",
        "Member 'm1' has different predictions: aaaaaaaaaaaa then, cccccccccccc now.",
        "Member 'm2' (bbbbbbbbbbbb) is no longer in the store.",
    )


def test_a_change_in_the_last_bit_of_one_prediction_is_detected(sample: Path) -> None:
    table, provenance = submitted(sample)
    changed = VALUES.copy()
    changed[1] = np.nextafter(changed[1], 1)
    assert rebuild(provenance, table.sha256, sample, [Source("x", IDS, changed)], SAME).table is None


def test_a_changed_sample_is_reported(sample: Path) -> None:
    table, provenance = submitted(sample)
    before = file_sha256(sample)[:12]
    sample.write_bytes(b"id,p\n1e5,0\n00001,0\n00002,0\n")
    found = rebuild(provenance, table.sha256, sample, [Source("x", IDS, VALUES)], SAME)
    assert found.table is None
    (change,) = found.changes
    assert "sample_submission.csv has changed" in change
    assert f"{before} then, {file_sha256(sample)[:12]} now" in change
    sample.write_bytes(b"id,p\r\n1e5,0\r\n00001,0\r\n")
    (change,) = rebuild(provenance, table.sha256, sample, [Source("x", IDS, VALUES)], SAME).changes
    assert "has changed" in change


def test_changed_settings_are_suspected_if_all_else_is_equal(sample: Path) -> None:
    table, provenance = submitted(sample)
    found = rebuild(provenance, "0" * 64, sample, [Source("x", IDS, VALUES)], SAME)
    assert found.table is None
    assert "but the bytes differ" in found.changes[0]
    assert table.sha256 != "0" * 64


def test_a_missing_source_is_reported(sample: Path) -> None:
    table, provenance = submitted(sample)
    found = rebuild(provenance, table.sha256, sample, [], SAME)
    assert found.changes[0].endswith("and none are stored under this name.")
