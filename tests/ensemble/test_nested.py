"""The nested score: weights and choices that score a row were fitted without it and its group."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata

from ensemble import solver
from ensemble.boosting import fit_boosted
from ensemble.calibration import calibrate
from ensemble.fit import fit_blend
from ensemble.methods import FOUR_TRANSFORMS, SECOND_LEVEL, FittedMethod, Method, fit_calibrated_mean, fit_method
from ensemble.prepare import BlendData, binary_table, make_folds_of
from ensemble.ridge import fit_ridge
from ensemble.table import BinaryTable
from oof.errors import BlendError
from oof.metrics import roc_auc
from oof.metrics.intervals import score_interval
from tests.support.ensemble import make_oof

Fit = Callable[[BinaryTable], FittedMethod]


def test_labels_of_a_fold_do_not_reach_its_nested_predictions() -> None:
    """Invert the labels of one fold: its nested predictions keep their order, those of other folds change."""
    oof, y = make_oof(3_000, 6)
    folds = np.arange(3_000) % 5
    straight = fit_blend(oof, y, folds=folds)
    turned = y.copy()
    inside = folds == 2
    turned[inside] = np.random.default_rng(0).permutation(y[inside])
    other = fit_blend(oof, turned, folds=folds)
    before, after = straight.nested_oof[inside], other.nested_oof[inside]
    assert np.corrcoef(np.argsort(np.argsort(before)), np.argsort(np.argsort(after)))[0, 1] > 0.9999
    assert np.abs(straight.nested_oof[~inside] - other.nested_oof[~inside]).max() > 1e-3


@pytest.mark.parametrize("method", ["isotonic", "platt", "beta"])
def test_labels_of_a_fold_do_not_reach_the_order_of_its_calibrated_predictions(method: str) -> None:
    """Not even as ties, which the curve of all rows has just where a fold contradicts the others."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores, y, folds = rng.random(60), np.arange(60) // 5 % 2, (np.arange(60) % 5).astype(np.int32)
        inside = folds == 0
        turned = np.where(inside, 1 - y, y)
        before, after = (calibrate(method, scores, labels, folds, level=True)[1][inside] for labels in (y, turned))
        np.testing.assert_array_equal(rankdata(before), rankdata(after))


@pytest.mark.parametrize("fit", [
    fit_calibrated_mean,
    partial(fit_ridge, SECOND_LEVEL["ridge"]),
    partial(fit_boosted, SECOND_LEVEL["boosted"]),
    partial(fit_method, Method("signed", ("prob",))),
    partial(fit_method, Method("non-negative", ("rank-logit",), non_negative=True)),
])  # fmt: skip
def test_labels_of_a_fold_do_not_reach_the_order_of_its_predictions_by_a_method(fit: Fit) -> None:
    """Rows are sorted by label, so that rounding errors differ; in 1 of 300 sets they decide where a search ends."""
    changed = 0
    for seed in range(12):
        oof, y = np.random.default_rng(seed).random((60, 3)).astype(np.float32), np.arange(60) // 5 % 2
        folds = (np.arange(60) % 5).astype(np.int32)
        found = []
        for labels in (y, np.where(folds == 0, 1 - y, y)):
            data = BlendData(oof, labels.astype(np.int8), folds, None, ("a", "b", "c"), seed=0, own_folds=False)
            table = binary_table(data)
            found.append(rankdata(table.in_input_order(fit(table).nested)[folds == 0]))
        changed += not np.array_equal(found[0], found[1])
    searches = isinstance(fit, partial) and fit.func is fit_method
    assert changed <= searches


def test_labels_of_a_fold_do_not_reach_its_fit_by_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits to many rows start from a fit to fewer rows, and take few steps, so the start must not have seen the fold.

    Of a few sets, rounding errors decide where a search ends, hence the median.
    """
    monkeypatch.setattr("ensemble.methods._START_ROWS", 120)
    y, folds = np.arange(300) // 5 % 2, (np.arange(300) % 5).astype(np.int32)
    found = []
    for seed in range(3):
        oof, fits = np.random.default_rng(seed).random((300, 5)).astype(np.float32), []
        for labels in (y, np.where(folds == 0, 1 - y, y)):
            data = BlendData(oof, labels.astype(np.int8), folds, None, tuple("abcde"), seed=0, own_folds=False)
            table = binary_table(data)
            fits.append(table.in_input_order(fit_method(Method("signed", ("rank-logit",)), table).held_out[0]))
        found.append(np.corrcoef(fits)[0, 1])
    assert np.median(found) > 0.9999


def test_labels_of_a_fold_reach_its_calibration_only_through_the_nested_predictions_of_other_folds() -> None:
    """As docs/blending.md says: those come from fits with the scored fold, but its own labels are not used."""
    oof, y = make_oof(400, 3)
    folds = (np.arange(400) % 4).astype(np.int32)
    inside = folds == 2
    turned = np.where(inside, 1 - y, y)
    options: dict[str, Any] = {"folds": folds, "optimize": "log_loss"}  # not mapped to the distribution of all rows
    found = []
    for labels in (y, turned):
        nested = fit_blend(oof, labels, **options).nested_oof
        found.append(fit_blend(oof, labels, calibrate="platt", **options).nested_oof[inside])
        for others in (y, turned):
            np.testing.assert_allclose(calibrate("platt", nested, others, folds)[1][inside], found[-1], rtol=1e-6)
    assert not np.allclose(*found)


@pytest.mark.parametrize("calibrate", ["none", "isotonic"])
def test_few_rows_of_noise_have_a_nested_score_of_one_half(calibrate: str) -> None:
    """Ties of the fit to all rows gave 0.55, methods mixed by their spread in that fit 0.53."""
    found = []
    for seed in range(40):
        y, folds = np.arange(60) // 5 % 2, np.arange(60) % 5
        found.append(fit_blend(np.random.default_rng(seed).random((60, 2)), y, folds=folds, calibrate=calibrate))
    nested = np.array([result.nested_score for result in found])
    assert abs(nested.mean() - 0.5) < 2 * nested.std(ddof=1) / np.sqrt(len(nested))


def test_folds_with_different_shares_of_positives_do_not_lower_the_nested_score() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(1000) < 0.5).astype(int)
    folds = ((rng.random(1000) + 0.5 * y) / 1.5 * 5).astype(int)  # from no positives to only positives
    truth = rng.normal(size=1000) + 1.5 * y
    oof = 1 / (1 + np.exp(-(truth[:, None] + rng.normal(size=(1000, 3)))))
    result = fit_blend(oof, y, folds=folds)
    fixed = result.references["mean of probabilities"][1]  # 0.825; fits that ignore the shares fell to 0.777
    assert result.nested_score == pytest.approx(fixed, abs=0.005)


def test_nested_scores_are_not_inflated_by_selection() -> None:
    """On noise all fitted scores are above one half, and nested scores are around it."""
    rng = np.random.default_rng(1)
    results = [fit_blend(rng.random((240, 8)), np.arange(240) % 2) for _ in range(8)]
    fitted = np.array([result.score for result in results])
    nested = np.array([result.nested_score for result in results])
    assert fitted.mean() > 0.55
    assert abs(nested.mean() - 0.5) < 3 * nested.std(ddof=1) / np.sqrt(len(nested)) + 0.01


def test_a_shared_curvature_does_not_inflate_nested_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """On noise, with the curvature shared as with many rows, nested scores are those with an own one for each fold."""

    def nested_scores() -> NDArray[np.float64]:
        found = []
        for seed in range(12):
            rng = np.random.default_rng(seed)
            y, fold = rng.permutation(1_000) % 2, (rng.permutation(1_000) % 5).astype(np.int32)
            names = tuple(f"m{model}" for model in range(20))
            table = binary_table(BlendData(rng.random((1_000, 20)), y, fold, None, names, 0, own_folds=True))
            found.append(roc_auc(table.y, fit_method(Method("four", FOUR_TRANSFORMS), table).nested))
        return np.array(found)

    own = nested_scores()
    monkeypatch.setattr(solver, "_EXACT_ROWS", 0)
    standard_error = 0.0183  # of the AUC of 500 positives and 500 negatives of noise
    assert abs((nested_scores() - own).mean()) < 0.4 * standard_error  # was 0.9


@pytest.mark.parametrize("what", ["folds", "groups"])
@pytest.mark.parametrize("missing", [None, float("nan")])
def test_missing_folds_and_groups_are_not_one_value(what: str, missing: object) -> None:
    oof, y = make_oof(60, 2)
    values = np.array([f"g{row % 20}" if row % 10 else missing for row in range(60)], object)
    arrays = [values] if missing is None else [values, np.where(values == values, 1.0, np.nan)]
    for array in arrays:
        with pytest.raises(BlendError, match=rf"{what} is missing \(NaN or None\) in 6 of 60 rows, first in row 0\."):
            fit_blend(oof, y, **{what: array})  # type: ignore[arg-type]  # one of two array arguments


def test_groups_are_not_split_when_folds_are_assigned() -> None:
    """Each group repeats one row: with rows of a group on both sides, noise would score above one half."""
    rng = np.random.default_rng(0)
    oof = np.repeat(rng.random((100, 20)), 10, axis=0)
    y = np.repeat(np.arange(100) % 2, 10)
    groups = np.repeat([f"g{i}" for i in range(100)], 10)
    split = fit_blend(oof, y)
    whole = fit_blend(oof, y, groups=groups)
    assert split.nested_score > whole.nested_score + 0.1
    low, high = whole.nested_interval
    assert low < 0.5 < high
    width = whole.nested_interval[1] - whole.nested_interval[0]
    # 100 groups are less informative than 1,000 rows
    assert width > 2 * (split.nested_interval[1] - split.nested_interval[0])


def test_given_folds_that_split_a_group_are_refused() -> None:
    oof, y = make_oof(100, 3)
    groups = np.repeat(np.arange(50), 2)
    with pytest.raises(BlendError, match="50 groups are in more than one fold: 0, 1"):
        fit_blend(oof, y, folds=np.arange(100) % 2, groups=groups)


def test_the_best_single_is_chosen_without_the_fold_that_scores_it() -> None:
    rng = np.random.default_rng(0)
    oof = rng.random((200, 60))
    y = np.arange(200) % 2
    score, nested = fit_blend(oof, y).references["best single"]
    assert score > 0.56
    assert nested < score - 0.03


def test_comparisons_have_gain_interval_and_p_value() -> None:
    oof, y = make_oof(3_000, 5)
    result = fit_blend(oof, y)
    for item in result.comparisons:
        assert item.interval[0] <= item.gain <= item.interval[1]
        assert 0 <= item.p_value <= 1
    nested_mean = result.references["mean of probabilities"][1]
    by_name = {item.other: item for item in result.comparisons}
    assert by_name["mean of probabilities"].gain == pytest.approx(result.nested_score - nested_mean, abs=1e-7)
    assert nested_mean == pytest.approx(roc_auc(y, oof.mean(axis=1)), abs=1e-6)


def test_a_loss_is_shown_with_its_direction() -> None:
    oof, y = make_oof(1_500, 4, noise=1.0)
    result = fit_blend(oof, y, optimize="log_loss")
    assert result.nested_score > result.score  # a loss: too optimistic means lower
    by_name = {item.other: item for item in result.comparisons}
    gain = by_name["mean of probabilities"].gain
    assert gain == pytest.approx(result.references["mean of probabilities"][1] - result.nested_score)
    assert gain > 0


def test_the_interval_accounts_for_fitted_weights() -> None:
    """With many noisy models and few rows, the interval is wider than DeLong's; that of an average is not."""
    oof, y = make_oof(300, 30)
    fitted, plain = fit_blend(oof, y), fit_blend(oof, y, optimize="none")
    for result, wider in ((fitted, True), (plain, False)):
        fixed = score_interval("auc", y, result.nested_oof)
        assert (result.nested_interval[0] < fixed.low - 1e-4) == wider
        assert (result.nested_interval[1] > fixed.high + 1e-4) == wider
        assert result.nested_interval[1] <= 1


def _uneven(rows: int, models: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], ...]:
    """Folds of 2 to 98 % positives: fold and label of each row."""
    fold = rng.integers(0, 5, rows)
    y = (rng.random(rows) < np.array([0.02, 0.2, 0.5, 0.8, 0.98])[fold]).astype(int)
    return fold, y


def test_few_members_of_uneven_folds_have_the_score_of_new_rows() -> None:
    gaps = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        strength = np.linspace(1.2, 0.4, 6)
        fold, y = _uneven(1_500, 6, rng)
        _, new_y = _uneven(20_000, 6, rng)
        oof, new = (1 / (1 + np.exp(-(rng.normal(size=(len(t), 6)) + t[:, None] * strength))) for t in (y, new_y))
        result = fit_blend(oof, y, folds=fold, max_members=4)
        gaps.append(result.nested_score - roc_auc(new_y, result.predict(new)))
    # the standard error of a single set is about 0.008; fits that ignore the shares gave -0.04
    assert abs(float(np.mean(gaps))) < 0.012


@pytest.mark.parametrize("max_members", [None, 20])
def test_noise_with_all_positives_in_one_fold_has_a_score_of_one_half(max_members: int | None) -> None:
    nested = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        fold = np.arange(300) % 5
        y = ((fold == 0) & (rng.random(300) < 0.8)).astype(int)
        nested.append(fit_blend(rng.random((300, 25)), y, folds=fold, max_members=max_members).nested_score)
    assert abs(float(np.mean(nested)) - 0.5) < 0.08  # two standard errors of three sets; was 0.976


@pytest.mark.parametrize("max_members", [None, 2])
def test_the_labels_of_a_fold_do_not_reach_the_choice_of_members_that_scores_it(max_members: int | None) -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(240) < 0.4).astype(int)
    scores = rng.normal(size=(240, 5))
    scores[:, :2] += 0.8 * y[:, None]
    oof = 1 / (1 + np.exp(-scores))
    folds = np.arange(240) % 3
    inside = folds == 1
    turned = y.copy()
    turned[inside] = 1 - y[inside]
    straight, other = (
        fit_blend(oof, labels, folds=folds, max_members=max_members, prune=max_members is None)
        for labels in (y, turned)
    )
    assert np.count_nonzero(straight.weights) < 5
    order, turned_order = (np.argsort(np.argsort(result.nested_oof[inside])) for result in (straight, other))
    assert np.corrcoef(order, turned_order)[0, 1] > 0.9999


def test_folds_of_one_class_each_are_scored_without_a_fit() -> None:
    """No fit is possible without either of them, so the fit to all rows must not score them."""
    rng = np.random.default_rng(0)
    oof, y = rng.random((200, 6)), np.arange(200) % 2
    result = fit_blend(oof, y, folds=y)
    assert result.score > 0.55
    assert result.nested_score == pytest.approx(roc_auc(y, rankdata(oof, axis=0).mean(axis=1)), abs=1e-3)


def test_the_best_single_model_is_the_best_by_the_metric() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(3_000) < 0.5).astype(int)
    base = rng.normal(size=3_000) + 1.5 * y
    calibrated = 1 / (1 + np.exp(-(1.5 * (base + 0.25 * rng.normal(size=3_000)) - 1.1)))
    overconfident = 1 / (1 + np.exp(-(8 * (base + 0.15 * rng.normal(size=3_000)) - 6)))  # with a better ranking
    result = fit_blend(np.column_stack([overconfident, calibrated]), y, optimize="log_loss")
    assert result.references["best single"][0] == pytest.approx(result.single_scores.min())
    assert result.comparisons[0].gain < 0.1


def test_best_models_that_differ_by_fold_are_mapped_to_one_scale() -> None:
    """Two models with the same ranking on different scales: AUC does not depend on which is best on the other folds."""
    oof, y = make_oof(400, 1)
    noise = np.random.default_rng(0).normal(0, 0.02, (400, 4)).astype(np.float32)
    columns = np.clip(oof + noise, 0.01, 0.99) * np.array([1.0, 0.1, 0.5, 0.02], np.float32)
    score, nested = fit_blend(columns, y).references["best single"]
    assert nested > score - 0.02


def test_intervals_of_nested_scores_of_grouped_rows_contain_the_true_score() -> None:
    """Rows of a group share an error: the score on new groups is within the interval of the nested score."""
    inside = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)

        def rows(groups: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
            y = np.repeat(rng.random(groups) < 0.4, 5).astype(np.int64)
            shared = np.repeat(rng.normal(size=(groups, 4)), 5, axis=0)
            scores = shared + 0.5 * rng.normal(size=(5 * groups, 4)) + y[:, None]
            return 1 / (1 + np.exp(-scores)), y

        (oof, y), (new, new_y) = rows(120, rng), rows(4_000, rng)
        result = fit_blend(oof, y, groups=np.repeat(np.arange(120), 5))
        low, high = result.nested_interval
        inside += low <= roc_auc(new_y, result.predict(new)) <= high
    assert inside >= 3


def test_with_few_positives_the_interval_is_valid_and_a_note_warns() -> None:
    """Two standard errors below the nominal 95 % of 16 sets of 12 positives."""
    inside = 0
    for seed in range(16):
        rng = np.random.default_rng(seed)
        y, new_y = np.arange(240) < 12, np.arange(6_000) % 2
        oof, new = (1 / (1 + np.exp(-(rng.normal(size=(len(t), 3)) + 1.2 * t[:, None]))) for t in (y, new_y))
        result = fit_blend(oof, y.astype(int))
        low, high = result.nested_interval
        inside += low <= roc_auc(new_y, result.predict(new)) <= high
        assert f"Only 12 positive rows: the 95 % interval of this blend's nested auc is {low:.3f}" in "".join(
            result.warnings
        )
    assert inside >= 13


def test_with_few_positives_a_blend_is_shrunk_toward_the_mean() -> None:
    oof, y = make_oof(400, 5)
    rare = np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:15]]
    few = {method.name: method.share for method in fit_blend(oof[rare], y[rare]).methods}
    assert few["mean of rank-logits, calibrated"] == pytest.approx(0.2)
    many = {method.name for method in fit_blend(oof, y).methods}
    assert "mean of rank-logits, calibrated" not in many


@pytest.mark.parametrize("metric", ["log_loss", "accuracy"])
def test_a_fold_whose_fit_has_another_output_is_pooled_by_its_probabilities(metric: str) -> None:
    """With 12 positives weights are fitted; without a fold of two or three, probabilities are averaged."""
    oof, _ = make_oof(48, 3, noise=0.5)
    y = (np.arange(48) % 4 == 0).astype(np.int8)
    oof = np.where(y[:, None] == 1, np.maximum(oof, 1 - oof), np.minimum(oof, 1 - oof))
    result = fit_blend(oof, y, optimize=metric, max_members=2)
    assert "signed weights" in result.method
    folds = make_folds_of(y, None, None, 0)
    means = [oof[:, [0, 1]].mean(axis=1), oof[:, [0, 2]].mean(axis=1), oof[:, [1, 2]].mean(axis=1)]
    for fold in np.flatnonzero(np.bincount(folds[y == 1]) > 2):
        inside = folds == fold
        assert min(np.abs(mean - result.nested_oof)[inside].max() for mean in means) < 1e-6
    assert (result.nested_score < 0.5) if metric == "log_loss" else (result.nested_score > 0.9)


def test_a_rate_that_few_negatives_decide_is_named() -> None:
    """The interval of tpr@fpr=0.001 with 300 negatives contains the true rate in a third of sets."""
    oof, y = make_oof(400, 3)
    rare = fit_blend(oof, y, optimize="tpr@fpr=0.001")
    (text,) = (text for text in rare.warnings if "rank highest" in text)
    assert text.startswith(f"tpr@fpr=0.001 depends on about 1 of the {(y == 0).sum()} negative rows")
    assert "needs 10000 negative rows" in text
    enough = fit_blend(oof, y, optimize="partial_auc@fpr=0.1")
    assert not any("rank highest" in text for text in enough.warnings)
