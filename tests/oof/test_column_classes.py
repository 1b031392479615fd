"""Columns named after a class, and numbers that accompany predictions, are never predictions by a guess."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from oof.errors import PredictionError
from oof.exchange.importing import ColumnChoice, read_predictions
from tests.oof.test_column_roles import HARD, KNOWN, LOGITS, VALUES, save


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prob_real": 1 - VALUES}, "'prob_real' is named after class 0 .*save 1 - probability"),
        ({"GENUINE": 1 - VALUES}, "'GENUINE' is named after class 0"),
        ({"logit_0": -LOGITS, "logit_1": LOGITS}, "'logit_0' and 'logit_1' do not sum to 1.*softmax"),
        ({"0": LOGITS, "1": LOGITS + VALUES}, "'0' and '1' do not sum to 1"),
        ({"real_logit": LOGITS, "fake_logit": VALUES}, "'real_logit' and 'fake_logit' do not sum to 1"),
        ({"real_esrgan_pred": VALUES, "original_size_pred": 1 - VALUES**2}, ""),
        ({"p_real": LOGITS, "p_fake": VALUES}, "'p_real' and 'p_fake' do not sum to 1"),
        (
            {"prob_0": VALUES / 2, "prob_1": VALUES / 2, "prob_2": 1 - VALUES},
            "prob_0, prob_1, prob_2 sum to 1 in every row, so they are the probabilities of 3 classes",
        ),
        ({"label": HARD, "score": np.maximum(VALUES, 1 - VALUES)}, "'score' .* the confidence in the class in 'label'"),
        (
            {"label": np.where(HARD == 1, "LABEL_1", "LABEL_0"), "score": np.maximum(VALUES, 1 - VALUES)},
            "'score' .* the confidence in the class in 'label'|'label' is called like a target",
        ),
        (
            {"prediction": np.where(HARD == 1, "artificial", "human"), "confidence": np.maximum(VALUES, 1 - VALUES)},
            "'confidence' .* the confidence in the class in 'prediction'",
        ),
        (
            {"pred": np.where(HARD == 1, "FAKE", "REAL"), "confidence": np.maximum(VALUES, 1 - VALUES)},
            "'confidence' .* the confidence in the class in 'pred'",
        ),
        ({"pred": [f"{value:.1%}" for value in VALUES]}, "60 of 60 values of column 'pred' are not numbers: '"),
        ({"pred": [*VALUES[1:], "#DIV/0!"], "pred_tta": VALUES}, "1 of 60 values of column 'pred' are not numbers"),
        ({"pred": [f"[{value}, {1 - value}]" for value in VALUES]}, "values of column 'pred' are not numbers"),
    ],
)
def test_outputs_that_are_not_the_probability_of_class_1_are_named(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    path = save(tmp_path / "m.csv", pd.DataFrame({"id": KNOWN, **columns}))
    for for_test in (False, True):
        if not message:
            assert len(read_predictions(path, for_test=for_test).predictions) == 2
            continue
        with pytest.raises(PredictionError, match=message):
            read_predictions(path, for_test=for_test)
    chosen = ColumnChoice(predictions=tuple(columns)[-1:])
    if pd.api.types.is_numeric_dtype(pd.Series(columns[chosen.predictions[0]])):
        assert len(read_predictions(path, chosen, for_test=True).predictions) == 1


@pytest.mark.parametrize(
    "name",
    "real_prob realProb P(real) real_mean pred_real_prob prob_real_1 authentic p_authentic authenticity original_score "
    "human_prob pristine liveness bona_fide bonafide_score neg_prob not_fake_prob 1-minus-fake prob_0 p0 LABEL_0 "
    "class0_prob".split(),
)
def test_a_probability_of_the_real_class_is_refused_unless_it_is_confirmed(tmp_path: Path, name: str) -> None:
    """Test predictions have no target that would show the inversion."""
    path = save(tmp_path / "m.csv", pd.DataFrame({"id": KNOWN, name: 1 - VALUES}))
    for for_test in (False, True):
        with pytest.raises(PredictionError, match="is named after class 0 .*save 1 - probability.*--test-column"):
            read_predictions(path, for_test=for_test)
        assert len(read_predictions(path, ColumnChoice(predictions=(name,)), for_test=for_test).predictions) == 1


@pytest.mark.parametrize(
    ("name", "spread"),
    [
        ("pred_mean", "pred_std"),
        ("pred", "pred_var"),
        ("mean_pred", "std_pred"),
        ("net", "net_count"),
        ("predMean", "predSd"),
        ("pred", "n_preds"),
        ("pred", "pred_ci_upper"),
        ("pred", "prob_uncertainty"),
    ],
)
def test_a_spread_beside_a_prediction_is_not_a_model(tmp_path: Path, name: str, spread: str) -> None:
    path = save(tmp_path / "m.csv", pd.DataFrame({"id": KNOWN, name: VALUES, spread: VALUES / 7}))
    for for_test in (False, True):
        with pytest.raises(PredictionError, match=f"m.csv: {spread} may be a spread, .*--prediction-column"):
            read_predictions(path, for_test=for_test)
    assert list(read_predictions(path, ColumnChoice(predictions=(name,))).predictions) == ["m"]


@pytest.mark.parametrize("names", [("var_pred", "vit_pred"), ("cv_pred", "pred"), ("pred_mean", "pred_median")])
def test_models_with_similar_names_are_models(tmp_path: Path, names: tuple[str, str]) -> None:
    path = save(tmp_path / "m.csv", pd.DataFrame({"id": KNOWN, names[0]: VALUES, names[1]: VALUES**2}))
    assert list(read_predictions(path).predictions) == list(names)


@pytest.mark.parametrize("name", ["real_vs_fake_prob", "fake_real_score", "real_or_fake"])
def test_a_name_of_both_classes_is_a_question(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "m.csv", pd.DataFrame({"id": KNOWN, name: VALUES}))
    with pytest.raises(PredictionError, match="is named after both classes.*confirm it with --prediction-column"):
        read_predictions(path, for_test=True)


@pytest.mark.parametrize("name", "fake_prob not_real_prob real_esrgan_pred model_no_1 pred_0 0 original_size".split())
def test_other_names_with_such_words_are_predictions(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "m.csv", pd.DataFrame({"id": KNOWN, name: VALUES}))
    assert read_predictions(path, for_test=True).predictions["m"].tolist() == VALUES.tolist()
