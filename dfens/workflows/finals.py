"""`dfens submissions select`: candidates from ledger and store, the simulation, and the table."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dfens.app import App
from dfens.views.tables import make_table
from dfens.workflows.ledger import label_of, read_entries
from dfens.workflows.provenance import submitted_oof
from oof.errors import SubmissionError, examples
from oof.metrics import metric_by_name
from submissions.entry import Entry
from submissions.finals.select import Candidate, Selection, select_pair

if TYPE_CHECKING:
    from dfens.views.tables import FittedTable as Table

_PAIRS_SHOWN = 10


def run_select(
    app: App, *, public_share: float, positive_share: float | None, draws: int, seed: int, plot: bool
) -> None:
    """Simulate, print the candidates, the pairs and the recommendation."""
    metric = metric_by_name(app.config.competition.metric)
    folds = app.predictions.folds
    candidates, left_out = gather_candidates(app, read_entries(app))
    for line in left_out:
        app.say(line)
    covered = np.ones(len(folds.ids), dtype=bool)
    for candidate in candidates:
        covered &= ~np.isnan(candidate.oof)
    candidates = [dataclasses.replace(item, oof=item.oof[covered]) for item in candidates]
    found = select_pair(
        candidates,
        folds.target[covered],
        test_rows=len(app.predictions.test_ids),
        public_share=public_share,
        metric=metric,
        groups=None if folds.groups is None else folds.groups[covered],
        positive_share=positive_share,
        draws=draws,
        rng=np.random.default_rng(seed),
        progress=app.progress,
    )
    pictures = []
    if plot:
        from submissions.plots import plot_selection

        pictures.append(plot_selection(app.work / "submissions" / "finals.png", found))
    link = f"https://www.kaggle.com/competitions/{app.config.competition.slug}/submissions"
    app.emit(
        {**dataclasses.asdict(found), "best": dataclasses.asdict(found.best), "left_out": left_out, "link": link}
        | {"plots": pictures},
        _candidate_table(found),
        _pair_table(found),
        *_advice(found, link, public_share),
        *map(str, pictures),
    )


def gather_candidates(app: App, entries: Sequence[Entry]) -> tuple[list[Candidate], list[str]]:
    """Scored submissions with their OOF predictions, each file once, and a line for each that was left out."""
    found: dict[str, Candidate] = {}
    left_out = []
    for entry in entries:
        if entry.public_score is None or entry.sha256 in found:
            continue
        if entry.error:
            left_out.append(f"Left out: {label_of(entry)}. {entry.error}")
            continue
        oof = submitted_oof(app, entry.provenance)
        if oof is None:
            left_out.append(
                f"Left out: {label_of(entry)} (public {entry.public_score:.5f}; no OOF predictions of it are stored)."
            )
        else:
            found[entry.sha256] = Candidate(label_of(entry), oof, entry.public_score)
    if len(found) < 2:
        raise SubmissionError(
            f"Choosing two needs at least two scored submissions with OOF predictions in the store; there are "
            f"{examples([item.name for item in found.values()]) or 'none'}. "
            f"{' '.join(left_out)} Run dfens submissions sync to fetch scores, or submit another blend."
        )
    return list(found.values()), left_out


def _candidate_table(found: Selection) -> "Table":
    frame = pd.DataFrame(
        {
            "submission": [item.name for item in found.candidates],
            "CV": [item.cv for item in found.candidates],
            "public": [float("nan") if item.public is None else item.public for item in found.candidates],
            "private, expected": [item.private for item in found.candidates],
            "±": [item.private_deviation for item in found.candidates],
            "best of all": [item.best_share for item in found.candidates],
        }
    ).sort_values("private, expected", ascending=False, kind="stable")
    return make_table(frame, title="Candidates", percent=["best of all"])


def _pair_table(found: Selection) -> "Table":
    pairs = list(found.pairs[:_PAIRS_SHOWN])
    base = next(pair for pair in found.pairs if {pair.first, pair.second} == set(found.baseline))
    if base not in pairs:
        pairs.append(base)
    frame = pd.DataFrame(
        {
            "pair": [f"{pair.first}  +  {pair.second}" for pair in pairs],
            "best of two, expected": [pair.expected for pair in pairs],
            "simulation error": [pair.error for pair in pairs],
            "gain": [pair.gain for pair in pairs],
            "gain error": [pair.gain_error for pair in pairs],
            "better": [pair.beats for pair in pairs],
            "equal": [pair.even for pair in pairs],
        }
    )
    title = f"Pairs, against best public + best CV ({found.baseline[0]}  +  {found.baseline[1]})"
    return make_table(frame, title=title, percent=["better", "equal"], bold=0)


def _advice(found: Selection, link: str, public_share: float) -> list[str]:
    best = found.best
    lines = [
        f"Recommended: {best.first}  and  {best.second}.",
        f"Simulated: {found.draws} test sets, {public_share:.0%} public, {found.positive_share:.1%} positive. By the "
        f"public scores, test rows differ from training rows with {1 + found.shift_variance:.1f} times the variance "
        f"of a fresh training set.",
    ]
    if {best.first, best.second} == set(found.baseline):
        lines.append("This is also the pair of best public score and best CV.")
    else:
        lines.append(
            f"It beats the pair of best public score and best CV with probability {best.beats:.0%} "
            f"(equal {best.even:.0%}); expected gain {best.gain:+.5f}, simulation error {best.gain_error:.5f}."
        )
    rivals = [
        pair for pair in found.pairs[1:] if abs(pair.gain - best.gain) < 2 * max(best.gain_error, pair.gain_error)
    ]
    if rivals:
        lines.append(
            f"{len(rivals)} other pairs lie within twice the simulation error: --draws {10 * found.draws} tells "
            f"them apart."
        )
    lines.append(f"No program can tick the boxes: choose them on {link}")
    return lines
