"""The ledger as text."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dfens.values import json_value
from dfens.views.tables import FittedTable, make_table
from dfens.workflows.ledger import label_of
from oof.metrics import metric_by_name

if TYPE_CHECKING:
    from dfens.workflows.submissions import RebuiltFile, SubmissionDiff, SubmissionList
    from submissions.entry import Entry
    from submissions.sync import Synced


def show_list(found: "SubmissionList") -> "Iterator[FittedTable | str]":
    """Show all submissions, how well CV and public scores agree, and the outliers."""
    if not found.submissions:
        yield "No submissions yet. Run dfens submit, or dfens submissions sync for those made elsewhere."
        return
    yield _list_table(found)
    line = found.cv_lb_correlation
    if not math.isnan(line.slope):
        yield (
            f"CV and public score of {line.count} submissions: rank correlation {line.rank_correlation:.2f}; "
            f"public = {line.intercept:.5f} + {line.slope:.3f} x CV, scatter {line.spread:.5f}; "
            f"median of public minus CV {line.gap:+.5f}."
        )
    yield line.verdict
    for entry in found.submissions:
        if entry.on_server and entry.error:
            yield f"{label_of(entry)} ({entry.status}): {entry.error}"
    for item in line.outliers:
        entry = found.submissions[item.position]
        yield (
            f"Outlier: {label_of(entry)} (CV {entry.cv_by(found.metric):.5f}, public {entry.public_score:.5f}, "
            f"{item.residual:+.5f} from the line): {item.meaning}"
        )
    yield from map(str, found.plots)


def _list_table(found: "SubmissionList") -> FittedTable:
    metric = metric_by_name(found.metric)
    rows = [
        {
            "when, UTC": f"{entry.submitted or entry.created:%Y-%m-%d %H:%M}",
            "ref": entry.name,
            "file": entry.file_name or "–",
            "blend": entry.blend or "–",
            f"OOF_{metric.name}": score,
            f"nested_{metric.name}": nested,
            "public": entry.public_score,
            "private": entry.private_score,
            "status": entry.status,
        }
        for entry in found.submissions
        for score, nested in [entry.scores_by(metric.name)]
    ]
    gains = {
        place: metric.gain(entry.public_score)
        for place, entry in enumerate(found.submissions)
        if entry.public_score is not None
    }
    return make_table(
        rows,
        title="Submissions",
        bold=max(gains, key=gains.__getitem__, default=None),
        optional=[f"nested_{metric.name}", "blend", f"OOF_{metric.name}", "when, UTC", "private", "file"],
    )


def show_sync(found: "Synced") -> Iterator[str]:
    """Show what was updated from Kaggle."""
    yield f"{found.total} submissions on Kaggle: {len(found.new)} new in the ledger, {len(found.changed)} updated."
    for title, entries in (("New", found.new), ("News", found.changed)):
        for entry in entries:
            score = "" if entry.public_score is None else f", public score {entry.public_score:g}"
            yield f"{title}: {entry.name} {entry.file_name} ({entry.status}{score}) {entry.error}".rstrip()


def show_entry(entry: "Entry") -> "Iterator[FittedTable]":
    """Show the facts of one submission, then its members."""
    facts: Mapping[str, Any] = json_value(entry)
    known = {name: value for name, value in facts.items() if name != "provenance"}
    known |= {name: value for name, value in entry.provenance.items() if not isinstance(value, dict | list)}
    yield make_table(
        [{"": name, "value": str(value)} for name, value in known.items() if value not in (None, "")],
        title=f"Submission {entry.name}",
    )
    if entry.members:
        rows = [
            {
                "member": name,
                "weight": float(member.get("weight") or 0.0),
                "fingerprint": str(member.get("fingerprint") or "–")[:16],
            }
            for name, member in entry.members.items()
        ]
        yield make_table(sorted(rows, key=lambda row: -row["weight"]), title="Members", optional=["fingerprint"])


def show_diff(found: "SubmissionDiff") -> "Iterator[FittedTable | str]":
    """Show how much two orders differ, the AUC at stake, and the rows that moved most."""
    item = found.difference
    loss = item.if_first_is_true[1] - item.if_first_is_true[0]
    gain = item.if_second_is_true[1] - item.if_second_is_true[0]
    yield f"First: {found.first}"
    yield f"Second: {found.second}"
    yield f"{item.rows} rows; rank correlation {item.rank_correlation:.5f}, Kendall's tau {item.kendall:.5f}."
    yield (
        f"Pairs in opposite order: {item.swapped_pairs} ({item.swapped_share:.3%}); "
        f"tied in only one: {item.tied_share:.3%}."
    )
    yield (
        f"Going from the first to the second changes the expected AUC by {loss:+.5f} if the first is true "
        f"({item.if_first_is_true[0]:.5f} to {item.if_first_is_true[1]:.5f}), and by {gain:+.5f} if the second is "
        f"({item.if_second_is_true[0]:.5f} to {item.if_second_is_true[1]:.5f})."
    )
    if not item.moves:
        yield "No row moved."
        return
    rows = [
        {
            "id": move.id,
            "prediction in first": move.first,
            "in second": move.second,
            "rank in first": f"{move.first_rank:g}",
            "rank in second": f"{move.second_rank:g}",
        }
        for move in item.moves
    ]
    yield make_table(rows, title="Largest moves (rank 1 is the lowest)")


def show_rebuilt(found: "RebuiltFile") -> Iterator[str]:
    """Show the source and the file."""
    yield f"Rebuilt from {found.source}: the same {found.rows} rows, sha256 {found.sha256}."
    yield str(found.path)
