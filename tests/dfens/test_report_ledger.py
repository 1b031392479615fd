"""The report agrees with the ledger's commands, and its advice fits the blend on the page."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dfens.report.checks import Check, all_checks
from dfens.report.figures import weights_figure
from dfens.report.inputs import BlendInput, ReportInputs
from dfens.report.ledger import SubmissionsPanel, submissions_panel
from dfens.report.models import models_panel
from dfens.report.page import render_page
from dfens.report.report import build_report
from ensemble.summary import MemberScore
from submissions.correlation import correlate
from submissions.entry import Entry
from tests.support.reports import all_views, make_inputs


def panel_of(inputs: ReportInputs) -> SubmissionsPanel:
    panel = submissions_panel(inputs)
    assert panel is not None
    return panel


def check_of(inputs: ReportInputs, name: str) -> Check:
    checks = all_checks(inputs, models_panel(inputs), None, submissions_panel(inputs))
    return next(check for check in checks if check.name == name)


def entries_of(inputs: ReportInputs, publics: list[float]) -> list[Entry]:
    return [replace(entry, public_score=public) for entry, public in zip(inputs.entries, publics, strict=True)]


def test_a_truncated_upload_is_neither_in_the_fit_nor_in_the_finals() -> None:
    inputs = make_inputs(count=1)
    *entries, last = inputs.entries
    cut = replace(last, public_score=0.99, nested_score=0.99, error="Kaggle has 3 of the 9 bytes that were sent")
    panel, without = panel_of(replace(inputs, entries=[*entries, cut])), panel_of(replace(inputs, entries=entries))
    assert (panel.fit, panel.verdict, panel.finals) == (without.fit, without.verdict, without.finals)


def page_of(inputs: ReportInputs) -> str:
    panels: dict[str, Any] = dict.fromkeys(("diversity", "shift", "images"))
    return render_page(replace(build_report(inputs, find_views=all_views), **panels))


def test_the_page_says_what_each_score_and_curve_is_of() -> None:
    inputs = make_inputs(count=9)
    first, second, *rest = (replace(entry, nested_score=None) for entry in inputs.entries)
    sources = [replace(first, provenance={"source": "blend"}), replace(second, provenance={"source": "model"})]
    page = page_of(replace(inputs, entries=[*sources, *rest]))
    assert f"{first.score:.5f} (fitted)" in page
    assert f"{second.score:.5f} (OOF)" in page
    assert "The newest blend and the best models are drawn; 4 more are in the table." in page


def test_small_weights_have_distinct_ticks() -> None:
    members = [MemberScore(f"m{number}", 0.02, 0.9, (0.019, 0.021)) for number in range(3)]
    figure = weights_figure(replace(make_inputs(count=2).blends[0].summary, members=tuple(members)))
    ticks = re.findall(r">([\d.]+) %</text>", figure)
    assert len(set(ticks)) == len(ticks) > 2


def test_what_kaggle_could_not_score_does_not_count_towards_todays_submissions() -> None:
    inputs = make_inputs(count=1)
    today = [replace(entry, created=inputs.made, submitted=inputs.made) for entry in inputs.entries]
    panel = panel_of(replace(inputs, entries=[*today[:3], replace(today[3], status="error", public_score=None)]))
    assert (panel.used_today, panel.left_today) == (3, 2)


@pytest.mark.parametrize(
    ("publics", "words", "outcome"),
    [
        ([0.90, 0.91, 0.92, 0.93, 0.94], "agree on the order", "pass"),
        ([0.90, 0.80, 0.91, 0.80, 0.9001], "cannot distinguish", "warn"),
        ([0.94, 0.93, 0.92, 0.91, 0.90], "does not predict", "warn"),
    ],
)
def test_public_scores_that_do_not_follow_cv_are_a_warning(publics: list[float], words: str, outcome: str) -> None:
    inputs = make_inputs(count=1)
    entries = entries_of(inputs, publics)
    assert words in correlate([entry.nested_score for entry in entries], publics).verdict
    check = check_of(replace(inputs, entries=entries), "CV against public score")
    assert (words in check.sentence, check.outcome) == (True, outcome)


def test_only_a_blend_that_is_not_calibrated_is_to_be_calibrated_by_its_own_command() -> None:
    inputs = make_inputs(count=2)
    blend = replace(inputs.blends[0], command="dfens blend --name pair --members a,b")
    far = replace(blend, nested_oof=np.clip(blend.nested_oof**3, 0, 1))

    def sentence(blend: BlendInput) -> str:
        check = check_of(replace(inputs, blends=[blend]), "Calibration")
        assert check.outcome == "warn"
        return check.sentence

    assert blend.facts["calibration"] is not None
    assert "Try" not in sentence(far)
    plain = replace(far, facts={**blend.facts, "calibration": None})
    assert sentence(plain).endswith(" Try dfens blend --name pair --members a,b --calibrate platt.")
    assert "Try" not in sentence(replace(plain, changed_members=("a",)))
