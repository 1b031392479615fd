"""The report: figures agree with their definitions, bad input ends in a page, and nothing on it is executed."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from dfens.report.checks import Check, all_checks
from dfens.report.clips import ClipsPanel, LeakRow
from dfens.report.diversity import _member_values
from dfens.report.figures import submissions_figure
from dfens.report.images import RowView, depth_in_other_class, images_panel
from dfens.report.inputs import ChosenFinals, DuplicateSets, FoldGap, ReportInputs
from dfens.report.ledger import submissions_panel
from dfens.report.models import calibration_error, models_panel
from dfens.report.page import render_page
from dfens.report.report import Report, build_report
from dfens.report.shift import shift_panel
from dfens.values import json_value
from oof.errors import DataError
from oof.metrics import metric_by_name, roc_auc
from tests.support.reports import PIXEL, all_views, make_inputs


class Tags(HTMLParser):
    """The tags of a page, the names of their attributes, and the sources of its images."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[str] = []
        self.sources: list[str | None] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.sources += [value for name, value in attrs if name == "src"]


def build(inputs: ReportInputs) -> Report:
    return build_report(inputs, find_views=all_views)


def checks_of(inputs: ReportInputs, clips: ClipsPanel | None = None) -> dict[str, Check]:
    models = models_panel(inputs)
    checks = all_checks(inputs, models, shift_panel(inputs), submissions_panel(inputs), clips)
    return {check.name: check for check in checks}


def page_with(report: Report, *panels: str) -> str:
    """Return the page with only some panels; drawing all plots takes most of the time."""
    gone = {"blend", "curves", "diversity", "shift", "images", "submissions"} - set(panels)
    without: dict[str, Any] = dict.fromkeys(gone)
    return render_page(replace(report, **without))


def test_the_page_needs_nothing_from_outside() -> None:
    page = render_page(build(make_inputs()))
    links = re.findall(r'(?:src|href|url\()="?([^"\s)>]+)', page)
    assert links
    assert all(link.startswith(("#", "data:image/", "http://www.w3.org")) for link in links)
    assert "default-src 'none'" in page


def test_scores_are_those_of_the_metrics() -> None:
    inputs = make_inputs()
    rows = {row.name: row for row in models_panel(inputs).rows}
    oof = inputs.models[1].oof
    found = rows["model-1"]
    assert found.auc == roc_auc(inputs.target, oof)
    assert found.eer == metric_by_name("eer")(inputs.target, oof)
    assert found.tpr[2] == metric_by_name("tpr@fpr=1e-3")(inputs.target, oof)
    expected = [roc_auc(inputs.target[inputs.fold == fold], oof[inputs.fold == fold]) for fold in range(5)]
    assert found.fold_auc == tuple(expected)
    assert found.fold_spread == pytest.approx(np.std(expected, ddof=1))
    assert found.group_auc == pytest.approx(np.mean(expected))
    assert (found.parameters, found.seconds, found.images_per_s) == (1_000_000, 60.0, 90.0)
    repeated = replace(inputs.models[1], repeats=[{"parameters": 1_000_000, "seconds": 30.0}])
    (found,) = [row for row in models_panel(replace(inputs, models=[repeated])).rows if row.name == "model-1"]
    assert (found.parameters, found.seconds, found.images_per_s) == (1_000_000, 90.0, 90.0)
    assert rows["share of positives"].auc == 0.5


def test_a_pooled_auc_below_the_mean_of_groups_shows_a_shift_of_levels() -> None:
    inputs = make_inputs(count=1)
    group = np.where(np.arange(400) % 2, "a", "b").astype(object)
    moved = inputs.models[0].oof * 0.5 + np.where(group == "a", 0.5, 0).astype(np.float32)
    found = models_panel(replace(inputs, group=group, models=[replace(inputs.models[0], oof=moved)], blends=[])).rows[0]
    assert found.group_auc > found.auc + 0.1
    assert found.groups == 2


def test_calibration_error_of_frequencies_is_near_zero() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    y = (rng.random(20_000) < p).astype(np.int8)
    assert calibration_error(y, p) < 0.02
    assert calibration_error(y, np.full(20_000, 0.9)) == pytest.approx(0.4, abs=0.02)


def test_json_has_the_data_of_the_page_without_images() -> None:
    report = build(make_inputs())
    value = json.loads(json.dumps(json_value(report.to_json()), allow_nan=False))
    assert value["head"]["nested_score"] == pytest.approx(report.head.nested_score)
    assert value["models"]["rows"][0]["name"] == "blend"
    assert "base64" not in json.dumps(value)
    assert {check["outcome"] for check in value["checks"]} <= {"pass", "warn", "fail", "unknown"}


def test_markup_in_names_and_ids_is_text() -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    inputs = make_inputs(names=[evil, 'a"onload="alert(1)', "$x^{2}$ & more"], competition=evil)
    inputs.ids[:] = [f"{evil}{number}" for number in range(len(inputs.ids))]
    report = build(replace(inputs, group=np.array([evil, "b"] * 200, object), problems=[evil]))
    tags = Tags(render_page(report))
    assert tags.names.count("script") == 1
    assert not [name for name in tags.attributes if name.startswith("on")]
    assert "x" not in tags.sources


def test_long_ids_do_not_enlarge_the_page() -> None:
    inputs = make_inputs()
    inputs.ids[:] = ["x" * 10_000 + str(number) for number in range(len(inputs.ids))]
    assert len(page_with(build(inputs), "images", "submissions")) < 500_000


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"models": [], "blends": [], "entries": []}, "No model has predictions yet"),
        ({"blends": []}, "no blend yet"),
        ({"entries": []}, "Nothing was submitted yet"),
        ({"problems": ["blend.json cannot be read"]}, "blend.json cannot be read"),
    ],
)
def test_missing_inputs_are_reported(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in page_with(build(make_inputs(**changes)), "submissions")


def test_one_fold_only_and_no_test_predictions() -> None:
    inputs = make_inputs()
    first = np.where(inputs.fold == 0, inputs.models[0].oof, np.nan).astype(np.float32)
    models = [replace(inputs.models[0], oof=first, test_by_fold=None), *inputs.models[1:]]
    report = build(replace(inputs, models=models, blends=[]))
    sentences = " ".join(check.sentence for check in report.checks)
    assert "'model-0' lacks predictions for some training rows" in sentences
    assert "'model-0' has no test predictions" in sentences
    assert not re.search(r">\s*nan\b", render_page(report))


def test_a_blend_whose_members_changed_is_stale() -> None:
    inputs = make_inputs()
    stale = replace(inputs.blends[0], changed_members=("model-2",))
    check = checks_of(replace(inputs, blends=[stale]))["Stale blends"]
    assert check.outcome == "fail"
    assert "model-2" in check.sentence
    newest = replace(stale, changed_members=("model-1",), command="dfens blend --name newest --prune")
    check = checks_of(replace(inputs, blends=[stale, newest]))["Stale blends"]
    assert "'model-2' and 'model-1'" in check.sentence
    assert check.sentence.endswith("Run dfens blend --name newest --prune.")


@pytest.mark.parametrize(
    ("kinds", "remedy"),
    [
        (("timm", "timm"), "Run dfens train."),
        (("import", "import"), "run dfens oof import NAME --oof FILE --test FILE."),
        (("timm", "import"), "Run dfens train, and import the rest (dfens oof import)."),
    ],
)
def test_missing_predictions_are_added_where_they_come_from(kinds: tuple[str, ...], remedy: str) -> None:
    inputs = make_inputs(count=2)
    models = [replace(m, kind=kind, test_by_fold=None) for m, kind in zip(inputs.models, kinds, strict=True)]
    assert checks_of(replace(inputs, models=models))["Test predictions"].sentence.endswith(remedy)


def test_uneven_folds_are_a_warning_and_even_ones_are_not() -> None:
    inputs = make_inputs(rows=2000)
    assert checks_of(inputs)["Fold spread"].outcome == "pass"
    bad = inputs.models[0].oof.copy()
    bad[inputs.fold == 3] = np.random.default_rng(1).random((inputs.fold == 3).sum())
    models = [replace(inputs.models[0], oof=bad), *inputs.models[1:]]
    found = checks_of(replace(inputs, models=models))["Fold spread"]
    assert found.outcome == "warn"
    assert re.search(r"Run dfens diagnose model-\d\.$", found.sentence), found.sentence


def test_a_model_whose_interval_includes_chance_is_not_shown_to_beat_it() -> None:
    """The AUC of noise is above 0.5 half of the time."""
    inputs = make_inputs(rows=100, count=1, blends=[])
    noise = np.random.default_rng(1).random(100).astype(np.float32)

    def check(kind: str = "timm", **changes: Any) -> Check:
        models = [replace(inputs.models[0], name="noise", oof=noise), replace(inputs.models[0], kind=kind)]
        return checks_of(replace(inputs, models=models, **changes))["Baseline"]

    assert 0.5 < roc_auc(inputs.target, noise) < 0.6
    expected = "'noise' is not shown to beat chance (AUC 0.5): the 95 % interval of the AUC is not above 0.5."
    for metric in ("auc", "log_loss"):
        found = check(metric=metric_by_name(metric))
        assert (found.outcome, found.sentence) == ("warn", f"{expected} Run dfens diagnose noise.")
    found = checks_of(inputs)["Baseline"]
    assert found.outcome == "pass"
    assert found.sentence == "Every model beats chance (AUC 0.5): the 95 % interval of the AUC is above 0.5."
    assert check("linear").outcome == "warn"  # model-0 is the baseline


@pytest.mark.parametrize(("noise", "outcome"), [(0.0, "warn"), (0.02, "warn"), (-3.0, "pass")])
def test_a_model_beats_the_baseline_if_the_interval_of_the_difference_does(noise: float, outcome: str) -> None:
    """By the same rows: a model that repeats the baseline does not beat it, however good both are."""
    inputs = make_inputs(rows=1000, count=1, blends=[])
    first = inputs.models[0]
    rng = np.random.default_rng(1)
    other = first.oof + noise * (rng.normal(size=1000) if noise > 0 else 1 - 2 * inputs.target) * 0.05
    models = [replace(first, kind="linear"), replace(first, name="other", oof=other.astype(np.float32))]
    check = checks_of(replace(inputs, models=models))["Baseline"]
    assert check.outcome == outcome
    assert "the baseline 'model-0' (AUC 0." in check.sentence
    assert "the 95 % interval of the difference in AUC on the same rows" in check.sentence


def test_rows_of_one_group_are_not_independent_in_the_intervals_of_the_report() -> None:
    """Copies of each row are one group each, and do not make the interval narrower."""
    once = make_inputs(rows=100, count=1, blends=[])
    four = np.repeat(np.arange(100), 4)
    model = once.models[0]
    many = replace(
        once, ids=np.array([f"{row}" for row in range(400)], object), target=once.target[four], fold=once.fold[four],
        group=np.array([f"g{row}" for row in four], object), models=[replace(model, oof=model.oof[four])],
    )  # fmt: skip
    (one, *_), (copies, *_) = models_panel(once).rows, models_panel(many).rows
    assert copies.high - copies.low == pytest.approx(one.high - one.low, rel=0.1)


def test_rows_of_one_group_are_not_independent_in_the_gains_of_members() -> None:
    """Taken as rows of their own, four copies of each would make the interval half as wide."""
    once = make_inputs(rows=400)
    four = np.repeat(np.arange(400), 4)
    many = replace(
        once, ids=np.array([f"{row}" for row in range(1600)], object), target=once.target[four], fold=once.fold[four],
        group=np.array([f"g{row}" for row in four], object),
        models=[replace(model, oof=model.oof[four]) for model in once.models],
    )  # fmt: skip
    single = _member_values(once, once.blends[0], np.arange(400))
    for one, copies in zip(single, _member_values(many, once.blends[0], np.arange(1600)), strict=True):
        assert copies.gain == pytest.approx(one.gain)
        assert copies.high - copies.low == pytest.approx(one.high - one.low, rel=0.25)


def test_baselines_alone_are_not_said_to_beat_themselves() -> None:
    inputs = make_inputs(count=1)
    check = checks_of(replace(inputs, models=[replace(inputs.models[0], kind="linear")], blends=[]))["Baseline"]
    assert (check.outcome, check.sentence) == ("unknown", "Only 'model-0' has a score so far.")
    assert checks_of(inputs)["Baseline"].outcome == "pass"


CHECKS = {
    "Duplicates across folds", "Leaks", "Shift to test", "Random or grouped folds", "Fold spread", "Baseline",
    "Stale blends", "CV against public score", "Rows no model gets right", "Calibration",
}  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"models": [], "blends": [], "entries": []}, {"rows": 20, "tests": 3}])
def test_every_check_is_shown_even_without_data(changes: dict[str, Any]) -> None:
    checks = checks_of(make_inputs(**changes))
    assert checks.keys() >= CHECKS
    for check in checks.values():
        assert check.sentence.endswith((".", ")"))
        assert check.outcome in ("pass", "warn", "fail", "unknown")


@pytest.mark.parametrize(
    ("found", "group", "outcome", "words"),
    [
        (None, None, "unknown", "Run dfens groups"),
        (None, "duplicates", "pass", "share a fold"),
        (DuplicateSets(0, 0), None, "pass", "no near-duplicates"),
        (DuplicateSets(3, 0), None, "pass", "Each of 3 sets"),
        (DuplicateSets(3, 2), None, "warn", "2 of 3 sets"),
    ],
)
def test_duplicates_in_several_folds_are_a_warning(
    found: DuplicateSets | None, group: str | None, outcome: str, words: str
) -> None:
    inputs = make_inputs(count=2, duplicates=found, how={"k": 5, "group": group})
    check = checks_of(inputs)["Duplicates across folds"]
    assert check.outcome == outcome
    assert words in check.sentence


@pytest.mark.parametrize(
    ("gap", "grouped", "outcome"),
    [
        (None, False, "warn"),
        (FoldGap(0.95, "clusters", 0.80), False, "warn"),
        (FoldGap(0.95, "clusters", 0.949), False, "pass"),
        (FoldGap(0.95, "clusters", 0.80), True, "pass"),
    ],
)
def test_random_folds_are_a_warning_unless_the_difference_is_small(
    gap: FoldGap | None, grouped: bool, outcome: str
) -> None:
    group = np.array([f"g{row % 40}" for row in range(400)], object) if grouped else None
    check = checks_of(make_inputs(count=2, fold_gap=gap, group=group))["Random or grouped folds"]
    assert check.outcome == outcome
    assert (gap is not None) == ("0.950" in check.sentence)


def test_medal_lines_are_drawn_and_listed() -> None:
    medals = [("gold", 0.95), ("silver", 0.92), ("bronze", 0.9)]
    panel = submissions_panel(make_inputs(medals=medals))
    assert panel is not None
    figure = str(submissions_figure(panel))
    for name, score in medals:
        assert f">{name} {score:.4f}<" in figure
    assert ">gold" not in str(submissions_figure(replace(panel, medals=())))


def test_the_simulated_pair_is_recommended_if_there_is_a_simulation() -> None:
    names = ("1003 blend3", "1001 blend1")
    finals = ChosenFinals(names, 0.9412, 0.0012, 0.7, names, {"1003": 0.91, "1001": 0.89})
    panel = submissions_panel(make_inputs(finals=finals))
    assert panel is not None
    assert panel.finals == names
    assert (
        "Public scores that are new or have changed since: 3. Run dfens submissions select again."
        in panel.finals_reason
    )
    now = {str(1000 + number): 0.88 + 0.01 * number for number in range(5)}
    for scores, changed in ((now, False), (now | {"1004": 0.5}, True), (now | {"1009": 0.9}, True)):
        panel = submissions_panel(make_inputs(finals=replace(finals, public_scores=scores)))
        assert panel is not None
        assert ("have changed since: 1." in panel.finals_reason) == changed
    simple = submissions_panel(make_inputs())
    assert simple is not None
    assert set(simple.finals) == {"1004", "1003"}


def test_clips_show_frame_waveform_and_spectrogram() -> None:
    view = RowView(PIXEL, PIXEL, "deciding frame, 1.2 s: 0.97 by picture", (0.0, 0.5, 1.0), PIXEL)
    report = build_report(make_inputs(), find_views=lambda ids: dict.fromkeys(ids, lambda: view))
    page = page_with(report, "images")
    assert report.images is not None
    shown = sum(len(grid.pictures) for grid in report.images.grids)
    assert page.count("deciding frame, 1.2 s: 0.97 by picture") == shown
    assert page.count('d="M0 10.0L1 5.2L2 0.5L2 19.5L1 14.8L0 10.0Z"') == shown
    assert page.count('alt="Spectrogram') == shown
    assert "base64" not in json.dumps(json_value(report.to_json()))


def test_the_blend_is_shown_with_gain_calibration_and_spread_of_weights() -> None:
    panel = page_with(build(make_inputs()), "blend")
    for words in ("best single", "+0.01000", "calibration (platt)", "0.5000", "0.4000", "33.3 % to 33.3 %"):
        assert words in panel
    assert panel.count("<svg") == 2


def test_the_worst_leak_is_a_check() -> None:
    rows = (
        LeakRow("leading silence (s)", 0.97, 0.9, 0.99, 400, "separates", "Trim the silence."),
        LeakRow("duration (s)", 0.51, 0.4, 0.6, 400, "clean", ""),
    )
    for leaks, outcome in ((rows, "warn"), (rows[1:], "pass"), ((), "unknown")):
        check = checks_of(make_inputs(count=2), ClipsPanel((), leaks))["Leaks"]
        assert check.outcome == outcome
        assert (outcome == "warn") == ("The leading silence (s) alone separates real from fake" in check.sentence)
        assert (outcome == "warn") == ("Trim the silence" in check.sentence)


def test_grids_show_the_rows_described_by_their_titles() -> None:
    inputs = make_inputs(rows=1000)
    real = int(np.flatnonzero(inputs.target == 0)[0])
    for model in inputs.models:
        model.oof[real] = 0.9999  # a real that every model classifies as fake
    inputs.blends[0].nested_oof[real] = 0.9999
    panel = images_panel(inputs, all_views)
    assert panel is not None
    grids = {grid.title: grid.pictures for grid in panel.grids}
    assert grids["Most confident mistakes"][0].id == inputs.ids[real]
    assert grids["Likely label errors"][0].id == inputs.ids[real]
    for picture in grids["Random correct rows"]:
        assert (picture.score > 0.5) == (picture.target == 1)


def test_rows_that_rank_correctly_are_no_mistakes() -> None:
    """Of a rare class, most rows of the other one rank far up without being beyond a row of the rare one."""
    inputs = make_inputs(rows=200, names=["a", "b"], blends=[])
    target = np.zeros(200, np.int8)
    target[::10] = 1
    perfect = (target + np.arange(200) / 1000).astype(np.float32)
    models = [replace(model, oof=perfect.copy()) for model in inputs.models]
    inputs = replace(inputs, target=target, models=models)
    panel = images_panel(inputs, all_views)
    assert panel is not None
    grids = {grid.title: grid.pictures for grid in panel.grids}
    assert (grids["Most confident mistakes"], grids["Likely label errors"]) == ((), ())
    for model in models:
        model.oof[199] = 2.0  # a real beyond all fakes
    panel = images_panel(replace(inputs, models=list(models)), all_views)
    assert panel is not None
    grids = {grid.title: grid.pictures for grid in panel.grids}
    assert [picture.id for picture in grids["Likely label errors"]] == [inputs.ids[199]]
    assert grids["Most confident mistakes"][0].id == inputs.ids[199]
    assert len(grids["Most confident mistakes"]) > 1  # and the fakes that it is beyond


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_without_a_blend_images_and_groups_are_those_of_the_best_model(metric: str) -> None:
    inputs = make_inputs(rows=200, names=["a-poor", "b-best", "c-logits"], blends=[], metric=metric_by_name(metric))
    poor, best, logits = inputs.models
    y = inputs.target.astype(np.float32)
    best = replace(best, oof=0.9 * y + 0.05 + 0.01 * best.oof)
    logits = replace(logits, oof=1 - 10 * y)  # reversed, and unsuitable for log loss
    inputs = replace(inputs, models=[poor, best, logits])
    images, shift = images_panel(inputs, all_views), shift_panel(inputs)
    assert images is not None
    assert shift is not None
    assert images.scored == shift.scored == "b-best"
    assert {group.auc for group in shift.groups} == {1.0}


def test_rows_that_one_model_predicts_are_not_disputed() -> None:
    inputs = make_inputs(rows=60, count=2)
    first, second = inputs.models
    halves = [np.where(np.arange(60) % 2 == part, model.oof, np.nan) for part, model in enumerate((first, second))]
    models = [replace(model, oof=oof.astype(np.float32)) for model, oof in zip((first, second), halves, strict=True)]
    apart = images_panel(replace(inputs, models=models, blends=[]), all_views)
    assert apart is not None
    assert apart.grids[1].pictures == ()
    both = replace(second, oof=np.where(np.arange(60) < 5, second.oof, np.nan).astype(np.float32))
    panel = images_panel(replace(inputs, models=[first, both], blends=[]), all_views)
    assert panel is not None
    assert {picture.id for picture in panel.grids[1].pictures} == {f"{row:05d}.jpg" for row in range(5)}


def test_equal_predictions_are_equally_deep_in_the_other_class() -> None:
    inputs = make_inputs(rows=60, count=2)
    hard = [replace(model, oof=(model.oof > 0.5).astype(np.float32)) for model in inputs.models]
    depths = depth_in_other_class(replace(inputs, models=hard), np.arange(60))
    for model, depth in zip(hard, depths, strict=True):
        for target in (0, 1):
            for value in (0, 1):
                rows = (inputs.target == target) & (model.oof == value)
                assert len(np.unique(depth[rows])) <= 1


def test_scores_of_a_blend_are_by_the_metric_of_the_competition() -> None:
    """The nested log loss of a poor blend is above every AUC."""
    inputs = make_inputs()
    (blend,) = inputs.blends
    poor = 1 - blend.nested_oof
    loss = {**blend.facts, "metric": "log_loss", "score": 1.7, "nested_score": 1.8, "nested_interval": [1.7, 1.9]}
    other = replace(blend, name="other", facts=loss, oof=poor, nested_oof=poor)
    assert replace(inputs, blends=[blend, other]).better_blend == ("blend", blend.facts["nested_score"])
    assert replace(inputs, blends=[other, blend]).better_blend is None
    head = build_report(replace(inputs, blends=[other]), find_views=all_views).head
    assert (head.metric, head.blend) == ("auc", "other")
    assert head.score == head.nested_score == roc_auc(inputs.target, poor)
    assert head.nested_interval is None
    logits = replace(other, facts={**loss, "metric": "auc"}, oof=8 * poor, nested_oof=8 * poor)
    head = build_report(replace(inputs, metric=metric_by_name("log_loss"), blends=[logits]), find_views=all_views).head
    assert (head.blend, head.score, head.nested_score) == ("other", None, None)


def test_missing_and_broken_images_are_named_in_their_place() -> None:
    def broken() -> RowView:
        raise DataError("cut in the middle")

    inputs = make_inputs()
    gone = images_panel(inputs, lambda ids: {})
    cut = images_panel(inputs, lambda ids: dict.fromkeys(ids, broken))
    assert gone is not None
    assert cut is not None
    assert gone.grids[0].pictures[0].problem == "file not found"
    assert "cut in the middle" in cut.grids[0].pictures[0].problem
    assert cut.missing == sum(len(grid.pictures) for grid in cut.grids)


def test_predictions_that_are_nan_are_left_out() -> None:
    inputs = make_inputs()
    test, oof = inputs.models[0].test_by_fold, inputs.models[1].oof.copy()
    assert test is not None
    oof[:] = np.nan
    models = [
        replace(inputs.models[0], test_by_fold=np.full_like(test, np.nan)), replace(inputs.models[1], oof=oof),
        inputs.models[2],
    ]  # fmt: skip
    report = build(replace(inputs, models=models))
    assert report.shift is not None
    assert "model-0" in report.shift.without_test
    page = render_page(report)
    assert not re.search(r">\s*nan\b", page)
