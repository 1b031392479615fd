"""The exact AUC, compared with the pairwise definition and scikit-learn, including edge cases of floats and labels."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from oof.errors import PredictionError
from oof.metrics import roc_auc, roc_auc_columns
from tests.support.slow_scores import pairwise_auc, tied_scores

EDGES = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, 5e-324, -5e-324, 1e-45, 1e308, -1e308, 3.4e38, 1 + 2**-52, 1 - 2**-53]


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.booleans(), st.one_of(st.sampled_from(EDGES), st.floats(allow_nan=False))), min_size=2, max_size=60
    ),
    st.sampled_from([np.float32, np.float64]),
)
def test_auc_equals_the_pairwise_definition(rows: list[tuple[bool, float]], dtype: type[np.floating[Any]]) -> None:
    y = np.array([label for label, _ in rows])
    y[:2] = True, False
    with np.errstate(over="ignore", under="ignore"):
        scores = np.array([score for _, score in rows]).astype(dtype)
    assert roc_auc(y, scores) == pytest.approx(pairwise_auc(y, scores), abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("positives", [1, 50, 2500, 4950, 4999])
@pytest.mark.parametrize("kind", ["probabilities", "logits", "quantised", "nearly equal", "mixed magnitudes"])
def test_auc_equals_scikit_learn(kind: str, positives: int, dtype: type[np.floating[Any]]) -> None:
    rng = np.random.default_rng(positives)
    y = rng.permutation(np.arange(5000) < positives)
    logits = rng.normal(size=5000) + y
    scores = {
        "probabilities": 1 / (1 + np.exp(-logits)),
        "logits": logits,
        "quantised": np.round(logits),
        "nearly equal": 1 + logits * 1e-13,
        "mixed magnitudes": np.sign(logits) * 10.0 ** rng.uniform(-40, 4, 5000),
    }[kind].astype(dtype)
    assert roc_auc(y, scores) == pytest.approx(roc_auc_score(y, scores), abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_auc_equals_scikit_learn_on_many_rows(dtype: type[np.floating[Any]]) -> None:
    rng = np.random.default_rng(1)
    y = rng.random(300_000) < 0.8
    scores = (rng.normal(size=300_000) + y).astype(dtype)
    assert roc_auc(y, scores) == pytest.approx(roc_auc_score(y, scores), abs=1e-12)


def test_scores_over_the_whole_range_of_float64_are_ordered() -> None:
    # both signs over all magnitudes need more than 64 bits together with the label
    scores = np.array([-1e308, -5e-324, 5e-324, 1e308, np.inf, -np.inf])
    y = np.array([0, 1, 0, 1, 1, 0])
    assert roc_auc(y, scores) == pairwise_auc(y, scores)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64, np.float32, np.float64])
def test_every_kind_of_label_is_read(dtype: type) -> None:
    assert roc_auc(np.array([0, 1, 0, 1]).astype(dtype), np.array([0.1, 0.4, 0.4, 0.8])) == 0.875


def test_constant_scores_give_one_half() -> None:
    assert roc_auc(np.array([0, 1, 1]), np.zeros(3)) == 0.5


def test_negative_zero_equals_zero() -> None:
    assert roc_auc(np.array([0, 1]), np.array([0.0, -0.0])) == 0.5
    assert roc_auc(np.array([1, 0]), np.array([0.0, -0.0], np.float32)) == 0.5


def test_ranking_leaves_the_auc_unchanged() -> None:
    y, scores = tied_scores(np.random.default_rng(2), 1000)
    assert roc_auc(y, np.unique(scores, return_inverse=True)[1]) == roc_auc(y, scores)


def test_negating_the_scores_reverses_the_auc() -> None:
    y, scores = tied_scores(np.random.default_rng(3), 1000)
    assert roc_auc(y, -scores) == pytest.approx(1 - roc_auc(y, scores), abs=1e-15)


def test_inputs_are_not_changed_and_may_be_read_only_or_strided() -> None:
    y, scores = tied_scores(np.random.default_rng(4), 100)
    wide = np.repeat(scores[:, None], 3, axis=1)
    wide.flags.writeable = y.flags.writeable = False
    assert roc_auc(y[::2], wide[::2, 1]) == roc_auc(y[::2].copy(), scores[::2].copy())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_is_reported_with_its_row(dtype: type[np.floating[Any]]) -> None:
    with pytest.raises(PredictionError, match=r"score of row 2 is NaN \(2 of 4"):
        roc_auc(np.array([0, 1, 0, 1]), np.array([0.1, 0.2, np.nan, np.nan], dtype))
    with pytest.raises(PredictionError, match="row 1 is NaN"):
        roc_auc(np.array([0, 1]), -np.array([0.1, np.nan], dtype))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, 1, 1], "needs both classes; found 0 negatives and 3 positives"),
        ([0, 0, 0], "found 3 negatives and 0 positives"),
        ([0, 1, 2], "label of row 2 is .*2.*expected 0 or 1"),
        ([0, -1, 1], "label of row 1"),
        ([0.0, 0.5, 1.0], "label of row 1"),
        ([0.0, np.nan, 1.0], "label of row 1"),
        ([0, 1], "labels and scores of equal length"),
    ],
)
def test_wrong_labels_are_named(y: list[float], message: str) -> None:
    with pytest.raises(PredictionError, match=message):
        roc_auc(np.array(y), np.array([0.1, 0.2, 0.3]))
    if all(float(value).is_integer() for value in y):
        with pytest.raises(PredictionError, match=message):
            roc_auc(np.array(y, np.int8), np.array([0.1, 0.2, 0.3]))


def test_empty_input_is_an_error() -> None:
    with pytest.raises(PredictionError, match="at least 1"):
        roc_auc(np.array([], int), np.array([]))


def test_weights_count_as_copies_of_rows() -> None:
    rng = np.random.default_rng(5)
    y, scores = tied_scores(rng, 300)
    copies = rng.integers(0, 4, 300)
    expected = roc_auc(np.repeat(y, copies), np.repeat(scores, copies))
    assert roc_auc(y, scores, copies) == pytest.approx(expected, abs=1e-12)
    weights = rng.random(300)
    assert roc_auc(y, scores, weights) == pytest.approx(pairwise_auc(y, scores, weights), abs=1e-12)


@pytest.mark.parametrize("weights", [[1.0, -1.0, 1.0], [1.0, np.nan, 1.0], [1.0, 1.0]])
def test_wrong_weights_are_named(weights: list[float]) -> None:
    with pytest.raises(PredictionError, match="Weights must be 3 finite non-negative numbers"):
        roc_auc(np.array([0, 1, 1]), np.array([0.1, 0.2, 0.3]), np.array(weights))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("threads", [1, 3, None])
def test_columns_score_like_single_vectors(order: Any, threads: int | None) -> None:
    rng = np.random.default_rng(6)
    y = rng.random(4000) < 0.3
    matrix: NDArray[np.float32] = np.array(rng.normal(size=(4000, 19)) + y[:, None], np.float32, order=order)
    expected = [roc_auc(y, column) for column in matrix.T]
    assert roc_auc_columns(y, matrix, threads=threads).tolist() == expected


def test_nan_in_a_matrix_is_reported_with_row_and_column() -> None:
    matrix = np.zeros((5, 7))
    matrix[3, 6] = np.nan
    with pytest.raises(PredictionError, match="Column 6: The score of row 3 is NaN"):
        roc_auc_columns(np.array([0, 1, 0, 1, 1]), matrix)
    with pytest.raises(PredictionError, match="Expected a matrix of 4 rows"):
        roc_auc_columns(np.array([0, 1, 0, 1]), matrix)


_PROBE = "import sys; from oof.metrics import roc_auc; print('numba' in sys.modules, roc_auc([0, 1], [0.1, 0.2]))"


def test_a_read_only_installation_still_scores(tmp_path: Path) -> None:
    # numba finds no folder for its cache: the module's is a file, and so is the user's
    package = tmp_path / "moved" / "oof"
    source = Path(sys.modules["oof"].__file__ or "").parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__pycache__").write_text("")
    (tmp_path / "home").write_text("")
    home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", _PROBE],
        cwd=tmp_path / "moved",
        env=home | {"PYTHONPATH": str(tmp_path / "moved"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "False 1.0\n", done.stderr
