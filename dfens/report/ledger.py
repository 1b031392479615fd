"""Panel "submissions": the timeline, CV against public score, and the pair recommended for the finals."""

from collections.abc import Sequence
from dataclasses import dataclass

from dfens.report.inputs import ReportInputs
from submissions.correlation import correlate
from submissions.entry import Entry
from submissions.states import COUNTED


@dataclass(frozen=True)
class SubmissionRow:
    """One submission or attempt.

    when: UTC. cv: the nested score if there is one, otherwise the score of a model, or the fitted score of a blend.
    source: "blend", "model" or "file"; empty if unknown.
    """

    name: str
    when: str
    blend: str
    status: str
    cv: float | None
    cv_is_nested: bool
    public: float | None
    private: float | None
    message: str
    remark: str
    source: str


@dataclass(frozen=True)
class SubmissionsPanel:
    """The ledger with CV against public score.

    fit: (slope, intercept, spread) of public = intercept + slope x CV, None below 3 scored submissions.
    finals: names of the recommended pair, with the reason. medals: (name, score) of medal lines, if known.
    """

    rows: tuple[SubmissionRow, ...]
    fit: tuple[float, float, float] | None
    verdict: str
    best_public: float | None
    used_today: int
    left_today: int | None
    finals: tuple[str, ...]
    finals_reason: str
    medals: tuple[tuple[str, float], ...]


def submissions_panel(inputs: ReportInputs) -> SubmissionsPanel | None:
    """Summarise the ledger; None if nothing was submitted."""
    if not inputs.entries:
        return None
    entries = sorted(inputs.entries, key=lambda entry: entry.submitted or entry.created)
    scored = [entry for entry in entries if entry.on_server]
    cv, public = [entry.cv_by(inputs.metric.name) for entry in scored], [entry.own_public_score for entry in scored]
    found = correlate(cv, public, higher_is_better=inputs.metric.higher_is_better, chance=inputs.metric.chance)
    remarks = {scored[item.position].key: item.meaning for item in found.outliers}
    today = inputs.made.date()
    used = sum(entry.status in COUNTED and (entry.submitted or entry.created).date() == today for entry in entries)
    left = None if inputs.submissions_per_day is None else max(0, inputs.submissions_per_day - used)
    known = [entry.public_score for entry in scored if entry.public_score is not None]
    best = (max(known) if inputs.metric.higher_is_better else min(known)) if known else None
    finals, reason = _finals(inputs, scored)
    return SubmissionsPanel(
        tuple(_row(entry, inputs.metric.name, remarks.get(entry.key, "")) for entry in entries),
        (found.slope, found.intercept, found.spread) if found.slope == found.slope else None,
        found.verdict,
        best,
        used,
        left,
        finals,
        reason,
        tuple((name, score) for name, score in inputs.medals),
    )


def _row(entry: Entry, metric: str, remark: str) -> SubmissionRow:
    cv, nested = entry.cv_by(metric), entry.scores_by(metric)[1] is not None
    when = entry.submitted or entry.created
    return SubmissionRow(
        entry.name, f"{when:%Y-%m-%d %H:%M}", entry.blend or entry.file_name, entry.status, cv, nested,
        entry.public_score, entry.private_score, entry.message, remark or entry.error,
        str(entry.provenance.get("source", "")),
    )  # fmt: skip


def _finals(inputs: ReportInputs, scored: Sequence[Entry]) -> tuple[tuple[str, ...], str]:
    """Return the pair recommended by the last simulation, otherwise the best by CV and the best by public score.

    The simulation (`dfens submissions select`) reads the members' predictions and takes longer than a page may.
    """
    gain = inputs.metric.gain
    stored = inputs.finals
    if stored is not None:
        changed = dict(public_scores(scored).items() ^ stored.public_scores.items())
        newer = (
            f" Public scores that are new or have changed since: {len(changed)}. Run dfens submissions select again."
            if changed
            else ""
        )
        return stored.pair, (
            f"Simulated by dfens submissions select over {len(stored.candidates)} submissions: expected best-of-two "
            f"private score {stored.expected:.5f}, {stored.gain:+.5f} against the best public score with the best CV."
            f"{newer}"
        )
    cv = {entry.key: entry.cv_by(inputs.metric.name) for entry in scored}
    having = [entry for entry in scored if entry.own_public_score is not None and cv[entry.key] is not None]
    if len(having) < 2:
        return (), "At least two scored submissions with a CV are needed."
    by_cv = max(having, key=lambda entry: gain(cv[entry.key] or 0))
    others = [entry for entry in having if entry is not by_cv]
    by_public = max(others, key=lambda entry: gain(entry.public_score or 0))
    return (
        (by_cv.name, by_public.name),
        "The best by CV, and the best by public score among the others. dfens submissions select simulates the "
        "private scores of all pairs and is the better guide.",
    )


def public_scores(entries: Sequence[Entry]) -> dict[str, float]:
    """Return the public score of each submission that has one and is not faulty, by name."""
    scores = {entry.name: entry.own_public_score for entry in entries}
    return {name: score for name, score in scores.items() if score is not None}
