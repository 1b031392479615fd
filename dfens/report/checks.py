"""Panel "checks": possible problems with the scores on this page, each as pass, warn or fail with one sentence."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dfens.report.clips import ClipsPanel
from dfens.report.images import depth_in_other_class
from dfens.report.inputs import ReportInputs
from dfens.report.ledger import SubmissionsPanel
from dfens.report.models import ModelScores, ModelsPanel
from dfens.report.shift import ShiftPanel
from oof.errors import examples
from oof.metrics.intervals import difference, score_interval
from oof.predictions import train_command
from trainers.kinds.registry import baseline_kinds
from trainers.media.image import is_clip

_SMALL_GAP = 0.01  # difference in AUC between random and grouped folds

Outcome = Literal["pass", "warn", "fail", "unknown"]


@dataclass(frozen=True)
class Check:
    """One check. sentence: what was found, and what to do if it did not pass."""

    name: str
    outcome: Outcome
    sentence: str


def all_checks(
    inputs: ReportInputs,
    models: ModelsPanel,
    shift: ShiftPanel | None,
    ledger: SubmissionsPanel | None,
    clips: ClipsPanel | None = None,
) -> tuple[Check, ...]:
    """Return all checks, failures first."""
    found = [
        *_complete(inputs),
        _duplicates(inputs),
        _grouping(inputs),
        *_scores(inputs, models),
        *_blends(inputs),
        *_shift(shift),
        _ledger(ledger),
        _leaks(clips),
        *_rows(inputs),
    ]
    order = {"fail": 0, "warn": 1, "unknown": 2, "pass": 3}
    return tuple(sorted(found, key=lambda check: order[check.outcome]))


def _complete(inputs: ReportInputs) -> Iterator[Check]:
    for problem in inputs.problems:
        yield Check("Readable files", "fail", problem)
    partial = [model.name for model in inputs.models if not np.isfinite(model.oof).all()]
    untested = [model.name for model in inputs.models if model.test_by_fold is None]
    if not len(inputs.ids):
        yield Check("Folds", "unknown", "There are no folds yet. Run dfens check, then dfens folds.")
        return
    if not inputs.models:
        yield Check("Models", "unknown", "No model has predictions yet. Run dfens train.")
        return
    if partial:
        yield Check(
            "Complete predictions", "warn",
            f"{_names(partial)} {_verb(partial, 'lacks', 'lack')} predictions for some training rows. "
            f"{_how_to_complete(inputs, partial)}",
        )  # fmt: skip
    if untested:
        yield Check(
            "Test predictions",
            "warn",
            f"{_names(untested)} {_verb(untested, 'has', 'have')} no test predictions. "
            f"{_how_to_complete(inputs, untested)}",
        )
    if not partial and not untested:
        yield Check("Complete predictions", "pass", "Every model predicts every training and test row.")


def _how_to_complete(inputs: ReportInputs, names: list[str]) -> str:
    imported = {model.name for model in inputs.models if model.kind == "import"}
    if imported.issuperset(names):
        return "If they exist, run dfens oof import NAME --oof FILE --test FILE."
    trained = [model for model in inputs.models if model.name in names and model.name not in imported]
    records = [next(iter(model.histories.values()), {}) for model in trained]
    commands = [
        train_command(model.name, record) if "pseudo_labels" in record else "dfens train"
        for model, record in zip(trained, records, strict=True)
    ]
    rest = ", and import the rest (dfens oof import)" if imported & set(names) else ""
    return f"Run {examples(list(dict.fromkeys(commands)))}{rest}."


def _duplicates(inputs: ReportInputs) -> Check:
    name, found = "Duplicates across folds", inputs.duplicates
    if found is None and inputs.how.get("group") == "duplicates":
        return Check(name, "pass", "Near-duplicates share a fold, since the folds were grouped by them.")
    if len(inputs.ids) and is_clip(str(inputs.ids[0])):
        return Check(name, "unknown", "Clips are not compared with each other: group them by source or person.")
    if found is None:
        return Check(name, "unknown", "Near-duplicates were not searched for yet. Run dfens groups.")
    if found.across_folds:
        return Check(
            name, "warn",
            f"{found.across_folds:,} of {found.sets:,} sets of near-duplicate images are in several folds, so models "
            "are scored on copies of their training images. Set [folds] group = "
            '"duplicates", then run dfens folds --force.',
        )  # fmt: skip
    if not found.sets:
        return Check(name, "pass", "There are no near-duplicates among the training images.")
    return Check(name, "pass", f"Each of {found.sets:,} sets of near-duplicate images is in one fold.")


def _grouping(inputs: ReportInputs) -> Check:
    name, gap = "Random or grouped folds", inputs.fold_gap
    measured = ""
    if gap is not None:
        measured = (
            f" With random folds the linear baseline has AUC {gap.random_auc:.3f}, with {gap.group} held out "
            f"{gap.grouped_auc:.3f}."
        )
    if not len(inputs.ids):
        return Check(name, "unknown", "There are no folds yet.")
    if inputs.group is not None:
        groups = len(set(inputs.group.tolist()))
        setting = f' ([folds] group = "{inputs.how["group"]}")' if inputs.how.get("group") else ""
        return Check(name, "pass", f"Each of the {groups:,} groups is in one fold{setting}.{measured}")
    if gap is None:
        return Check(
            name, "warn",
            "Folds are not grouped, and the effect was not measured: rows from one source in several folds inflate all "
            "scores on this page. Run dfens groups, or import folds with groups (dfens oof import --group-column).",
        )  # fmt: skip
    if gap.random_auc - gap.grouped_auc < _SMALL_GAP:
        return Check(name, "pass", f"Folds are random, which has little effect here.{measured}")
    return Check(
        name, "warn",
        f"Folds are random.{measured} Expect a similar drop on unseen kinds of images; to measure it, set [folds] "
        f"group = "
        f'"{gap.group}", then run dfens folds --force.',
    )  # fmt: skip


def _scores(inputs: ReportInputs, models: ModelsPanel) -> Iterator[Check]:
    rows = [row for row in models.rows if row.role == "model" and np.isfinite(row.auc)]
    if not rows:
        yield from (Check(name, "unknown", "No model has a score yet.") for name in ("Fold spread", "Baseline"))
        yield _calibration(inputs, models)
        return
    uneven = [row.name for row in rows if _is_uneven(inputs, row)]
    if uneven:
        yield Check(
            "Fold spread", "warn",
            f"The AUC of {_names(uneven)} differs more between folds than their size explains: a fold model may have "
            f"failed, or the folds contain different kinds of data. {_diagnose(uneven)}",
        )  # fmt: skip
    else:
        yield Check("Fold spread", "pass", "The AUC differs between folds no more than their size explains.")
    kinds = baseline_kinds()
    baselines = [row for row in rows if row.kind in kinds]
    others = [row for row in rows if row.kind not in kinds]
    if others:
        yield _baseline(inputs, [row.name for row in others], max(baselines, key=lambda row: row.auc, default=None))
    else:
        names, verb = _names([row.name for row in baselines]), _verb(baselines, "has", "have")
        yield Check("Baseline", "unknown", f"Only {names} {verb} a score so far.")
    yield _calibration(inputs, models)


def _baseline(inputs: ReportInputs, names: list[str], best: ModelScores | None) -> Check:
    """Compare models with the best baseline on the same rows, or with chance, by the 95 % interval of the AUC."""
    oof = {model.name: model.oof for model in inputs.models}
    weak = [name for name in names if not _least_gain(inputs, oof[name], None if best is None else oof[best.name]) > 0]
    than = "chance (AUC 0.5)" if best is None else f"the baseline '{best.name}' (AUC {best.auc:.4f})"
    interval = "the AUC" if best is None else "the difference in AUC on the same rows"
    zero = "0.5" if best is None else "0"
    if not weak:
        return Check("Baseline", "pass", f"Every model beats {than}: the 95 % interval of {interval} is above {zero}.")
    return Check(
        "Baseline", "warn",
        f"{_names(weak)} {_verb(weak, 'is', 'are')} not shown to beat {than}: the 95 % interval of {interval} is not "
        f"above {zero}. {_diagnose(weak)}",
    )  # fmt: skip


def _least_gain(inputs: ReportInputs, oof: NDArray[np.float32], baseline: NDArray[np.float32] | None) -> float:
    """Return the lower end of the interval of an AUC less that of the baseline, or less chance; NaN if unknown."""
    known = np.isfinite(oof) if baseline is None else np.isfinite(oof) & np.isfinite(baseline)
    y, groups = inputs.target[known], None if inputs.group_codes is None else inputs.group_codes[known]
    if not 0 < int(y.sum()) < len(y):
        return float("nan")
    if baseline is None:
        return score_interval("auc", y, oof[known], groups).low - 0.5
    return difference("auc", y, oof[known], baseline[known], groups).low


def _calibration(inputs: ReportInputs, models: ModelsPanel) -> Check:
    rows = [row for row in models.rows if row.role != "baseline" and np.isfinite(row.calibration_error)]
    if not rows:
        return Check("Calibration", "unknown", "No model predicts probabilities yet.")
    newest = [row for row in rows if row.role == "blend" and row.name == inputs.blends[-1].name]
    best = (newest or rows)[0]
    what = f"the blend '{best.name}'" if best.role == "blend" else f"'{best.name}'"
    text = f"Probabilities of {what} differ from the observed frequencies by {best.calibration_error:.3f} on average."
    if best.calibration_error < 0.05:
        return Check("Calibration", "pass", text)
    blend = inputs.newest_blend if newest else None
    settled = blend is None or blend.summary.calibration or blend.changed_members
    remedy = "" if blend is None or settled else f" Try {blend.command} --calibrate platt."
    return Check("Calibration", "warn", f"{text} This affects log loss, but not AUC.{remedy}")


def _is_uneven(inputs: ReportInputs, row: ModelScores) -> bool:
    """Return whether fold AUCs vary by more than 3 times their standard error (Hanley and McNeil, Radiology 1982)."""
    aucs = np.array(row.fold_auc)
    if np.isfinite(aucs).sum() < 3:
        return False
    auc = float(np.clip(np.nanmean(aucs), 0.5, 0.9999))
    expected = []
    for fold in np.flatnonzero(np.isfinite(aucs)):
        y = inputs.target[inputs.fold == fold]
        positives, negatives = int(y.sum()), int(len(y) - y.sum())
        q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
        variance = auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
        expected.append(variance / (positives * negatives))
    return bool(np.nanvar(aucs, ddof=1) > 3 * float(np.mean(expected)))


def _blends(inputs: ReportInputs) -> Iterator[Check]:
    if not inputs.blends:
        yield Check("Stale blends", "unknown", "There is no blend yet. Run dfens blend.")
        return
    stale = [blend for blend in inputs.blends if blend.changed_members]
    if stale:
        names = _names([blend.name for blend in stale])
        changed = list(dict.fromkeys(name for blend in stale for name in blend.changed_members))
        yield Check(
            "Stale blends", "fail",
            f"{names} {_verb(stale, 'was', 'were')} made from predictions or features that have changed since "
            f"({_names(changed)}). Run {stale[-1].command}.",
        )  # fmt: skip
    else:
        yield Check("Stale blends", "pass", "Every blend was fitted to the current predictions.")


def _shift(shift: ShiftPanel | None) -> Iterator[Check]:
    if shift is None or not shift.models:
        yield Check("Shift to test", "unknown", "No model has test predictions to compare.")
        return
    if shift.adversarial is None and not any(row.reasons for row in shift.models):
        yield Check("Shift to test", "unknown", "Too few rows are predicted by every model to compare OOF and test.")
    broken = [row for row in shift.models if row.reasons]
    for row in broken:
        yield Check("Shift to test", "fail", f"'{row.name}': {'; '.join(row.reasons)}. Check its inference.")
    if shift.adversarial is not None:
        auc, low, _ = shift.adversarial
        text = f"OOF and test rows can be separated with AUC {auc:.3f}"
        if low > 0.6:
            yield Check("Shift to test", "warn", f"{text}: expect a different score on the test set. See panel Shift.")
        elif not broken:
            yield Check("Shift to test", "pass", f"{text}; 0.5 means not at all.")


def _ledger(ledger: SubmissionsPanel | None) -> Check:
    if ledger is None or ledger.fit is None:
        return Check("CV against public score", "unknown", "Fewer than three scored submissions with a CV.")
    off = sum(bool(row.remark) and row.public is not None for row in ledger.rows)
    outcome: Outcome = "warn" if off or "does not" in ledger.verdict or "cannot" in ledger.verdict else "pass"
    return Check("CV against public score", outcome, ledger.verdict)


def _leaks(clips: ClipsPanel | None) -> Check:
    if clips is None or not clips.leaks:
        return Check("Leaks", "unknown", "The files were not audited yet. Run dfens check --leaks.")
    leaks = [row for row in clips.leaks if row.verdict != "clean"]
    if not leaks:
        return Check(
            "Leaks", "pass", f"None of {len(clips.leaks)} properties of the files alone separates real from fake."
        )
    worst = leaks[0]
    does = "separates real from fake" if worst.verdict == "separates" else "hints at the class"
    return Check("Leaks", "warn", f"The {worst.name} alone {does} (AUC {worst.auc:.3f}). {worst.advice}")


def _rows(inputs: ReportInputs) -> Iterator[Check]:
    if not inputs.models:
        yield Check("Rows no model gets right", "unknown", "No model has predictions yet.")
        return
    rows = inputs.sample_rows()
    sides = depth_in_other_class(inputs, rows)
    with np.errstate(invalid="ignore"):
        hopeless = int((np.nan_to_num(sides, nan=0).min(axis=0) > 0.9).sum())
    share = hopeless / max(1, len(rows))
    text = f"{hopeless:,} of {len(rows):,} rows are ranked far into the other class by every model"
    if share > 0.01:
        yield Check("Rows no model gets right", "warn", f"{text}: look at the likely label errors below.")
    else:
        yield Check("Rows no model gets right", "pass", f"{text}.")


def _names(names: list[str] | tuple[str, ...]) -> str:
    shown = [f"'{name}'" for name in names[:3]]
    rest = f"{len(names) - 3} more" if len(names) > 3 else shown.pop()
    return f"{', '.join(shown)} and {rest}" if shown else rest


def _diagnose(names: list[str]) -> str:
    return f"Run {examples([f'dfens diagnose {shlex.quote(name)}' for name in names], 3)}."


def _verb(subjects: Sequence[object], singular: str, plural: str) -> str:
    return singular if len(subjects) == 1 else plural
