"""Panel "clips": scores by modality and the leak audit, read from stored results of other commands."""

from dataclasses import dataclass

from trainers.data.leaks import LeakAudit


@dataclass(frozen=True)
class ModalityScore:
    """OOF AUC of a model or blend on all clips, with sound and without; None if a class is missing."""

    model: str
    modalities: tuple[str, ...]
    auc: float | None
    auc_with_sound: float | None
    auc_without_sound: float | None
    clips_without_sound: int


@dataclass(frozen=True)
class LeakRow:
    """One property of the files with its score.

    verdict: "clean", "hints" or "separates". advice: what to do, "" if it is clean.
    """

    name: str
    auc: float
    low: float
    high: float
    rows: int
    verdict: str
    advice: str


@dataclass(frozen=True)
class ClipsPanel:
    """Modalities and leaks; either may be empty.

    changed: models whose predictions have changed since the modalities were scored.
    """

    modalities: tuple[ModalityScore, ...]
    leaks: tuple[LeakRow, ...]
    changed: tuple[str, ...] = ()


def leak_rows(audit: LeakAudit | None) -> tuple[LeakRow, ...]:
    """Return the rows of the last leak audit, leaks first; empty without an audit."""
    if audit is None:
        return ()
    return tuple(
        LeakRow(
            score.name,
            score.auc,
            score.low,
            score.high,
            score.rows,
            score.verdict,
            "" if score.verdict == "clean" else score.advice,
        )
        for score in audit.scores
    )
