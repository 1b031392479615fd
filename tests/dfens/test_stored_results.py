"""Results that commands store for the report: those of a file that was edited or replaced count as absent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dfens.report.clips import ModalityScore
from dfens.report.inputs import ChosenFinals
from dfens.workflows import stored_results as results
from dfens.workspace.paths import Workspace
from oof.files import read_header, write_parquet
from oof.folds import make_folds
from oof.ids import labels_fingerprint
from tests.support.edits import edit_json

IDS = np.array([f"{row}.jpg" for row in range(8)], object)
Read = Callable[[Workspace], Any]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path)
    (tmp_path / "dfens.toml").write_text("")
    folds = make_folds(IDS, np.arange(8) % 2, k=2, seed=0)
    found.predictions.save_folds(folds)
    found.predictions.save_test_ids(np.array(["t"], object))
    labels = labels_fingerprint(folds.ids, folds.target)
    results.save_finals(found, ChosenFinals(("1 a", "2 b"), 0.9, 0.01, 0.6, ("1 a", "2 b"), {"1": 0.8}))
    results.save_modalities(found, [], [ModalityScore("m", ("picture",), 0.9, None, None, 3)])
    results.save_fold_gap(found, 0.9, {"clusters": 0.8}, labels)
    results.save_duplicates(found, IDS, np.array([*"aabbcdef"], object), labels)
    return found


def read_gap(workspace: Workspace) -> object:
    return results.read_fold_gap(workspace, workspace.predictions.folds)


def read_duplicates(workspace: Workspace) -> object:
    return results.read_duplicates(workspace, workspace.predictions.folds)


def test_results_are_read_back(workspace: Workspace) -> None:
    finals, (modalities, _) = results.read_finals(workspace), results.read_modalities(workspace)
    assert finals is not None
    assert (finals.pair, finals.public_scores) == (("1 a", "2 b"), {"1": 0.8})
    assert modalities == (ModalityScore("m", ("picture",), 0.9, None, None, 3),)
    assert str(read_gap(workspace)) == "FoldGap(random_auc=0.9, group='clusters', grouped_auc=0.8)"
    assert str(read_duplicates(workspace)).startswith("DuplicateSets(sets=2")


@pytest.mark.parametrize("value", [None, "x", [], [[1]], {}, {"a": []}, True, float("nan")])
@pytest.mark.parametrize(
    ("file", "keys", "read", "absent"),
    [
        ("submissions/finals.json", ("finals", "expected"), results.read_finals, None),
        ("submissions/finals.json", ("finals", "pair"), results.read_finals, None),
        ("submissions/finals.json", ("finals", "public_scores", "1"), results.read_finals, None),
        ("reports/compare/modalities.json", ("scores", 0, "clips_without_sound"), results.read_modalities, ((), ())),
        ("reports/groups.json", ("random",), read_gap, None),
    ],
)
def test_an_edited_result_counts_as_absent(
    workspace: Workspace, file: str, keys: tuple[str | int, ...], read: Read, absent: object, value: object
) -> None:
    edit_json(workspace.work_dir / file, keys, value)
    assert read(workspace) == absent


def test_a_replaced_table_of_duplicates_counts_as_absent(workspace: Workspace) -> None:
    path = workspace.duplicates_path()
    write_parquet(path, pd.DataFrame({"name": ["a"]}), read_header(path))
    assert read_duplicates(workspace) is None
