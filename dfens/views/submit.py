"""A submission, or what would be sent, as text."""

from collections.abc import Iterator

from dfens.workflows.draft import DryRun
from dfens.workflows.submit import PublicScore, SubmitResult


def show_submission(found: SubmitResult | DryRun) -> Iterator[str]:
    """Show what was sent and its score, or what would be sent."""
    return _dry_run(found) if isinstance(found, DryRun) else _submission(found)


def _dry_run(found: DryRun) -> Iterator[str]:
    """Show the table, what was checked, and the command that sends it."""
    yield str(found.path)
    yield f"{found.rows} rows, header {found.header}"
    yield from (f"Checked {check}" for check in found.checks)
    yield from (f"Note: {note}" for note in found.notes)
    yield f"Message: {found.message}"
    yield f"Nothing was sent. Next: {found.next}"


def _submission(found: SubmitResult) -> Iterator[str]:
    entry = found.entry
    if found.waited:
        if found.note:
            yield found.note
        if found.public is not None:
            yield _score_line(found.public)
        elif entry.status == "complete":
            yield "It is scored, but Kaggle shows no public score here."
    else:
        yield from found.sentences
    if entry.status == "error":
        yield f"Kaggle cannot score it: {entry.error or 'no reason given'}. See dfens submissions show {entry.name}."
    yield (
        "Next: dfens submissions list"
        if found.waited
        else "Next: dfens submissions sync, or dfens submit --wait next time"
    )


def _score_line(public: PublicScore) -> str:
    parts = [f"Public score {public.score:g}"]
    if public.best_before is not None:
        parts.append(f"{public.score - public.best_before:+.5f} against the best so far ({public.best_before:g})")
    if public.cv is not None:
        parts.append(f"CV {public.cv:.5f} ({public.score - public.cv:+.5f})")
    if public.rank is not None:
        parts.append(f"would rank {public.rank} of {public.teams} on the public leaderboard")
    return "; ".join(parts) + "."
