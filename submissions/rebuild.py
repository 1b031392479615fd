"""Rebuild a submitted file byte for byte from stored predictions, or report what has changed since."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from oof.files import file_sha256
from oof.ids import Ids
from submissions.delimited import parse_delimited, read_bytes
from submissions.table import SubmissionTable, build_table, default_id_column, values_fingerprint

_SHOWN = 12  # digits of a hash in a message


@dataclass(frozen=True, eq=False)
class Source:
    """Test predictions from which the file may have been made.

    where: description for messages, e.g. "blend 'b7'". ids (n_rows,), predictions (n_rows,) float32 or float64.
    """

    where: str
    ids: Ids
    predictions: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """The outcome of rebuilding a file.

    table: the file, identical to the submitted one, or None if that failed.
    source: the source it was made from. changes: differences from the ledger's record, one sentence each;
    empty if the file was rebuilt.
    """

    table: SubmissionTable | None
    source: str = ""
    changes: tuple[str, ...] = ()


def rebuild(
    provenance: Mapping[str, Any],
    sha256: str,
    sample: Path,
    sources: Iterable[Source],
    members_now: Mapping[str, str | None],
    **columns: Any,
) -> Rebuilt:
    """Try the sources in turn until the file has the hash recorded in the ledger.

    Args:
        provenance: as recorded in the ledger (docs/formats.md): `blend_fingerprint` of the predictions,
            `members` with `fingerprint`, `sample_sha256`.
        sha256: hash of the submitted file.
        sample: the current sample submission.
        sources: predictions to try, cheapest first; evaluated lazily, so the last may require a fit.
        members_now: current fingerprint of each member in the store, None if it is missing.
        columns: arguments of `build_table`.

    Raises:
        SubmissionError: if the sample submission is missing or cannot be read.
    """
    wanted = str(provenance.get("blend_fingerprint", ""))
    tried: list[str] = []
    same_predictions = False
    for source in sources:
        found = values_fingerprint(source.ids, source.predictions)
        tried.append(f"{source.where} has {found[:_SHOWN]}")
        if wanted and found != wanted:
            continue
        same_predictions = True
        if not _same_ids(sample, source, columns):
            continue
        table = build_table(sample, source.ids, source.predictions, **columns)
        if table.sha256 == sha256:
            return Rebuilt(table, source.where)
    changes = [*_sample_changes(provenance, sample), *_member_changes(provenance, members_now)]
    if not same_predictions:
        changes.insert(
            0,
            f"No stored test predictions have the fingerprint {wanted[:_SHOWN] or 'unknown'} that was submitted"
            f"{': ' + '; '.join(tried) if tried else ', and none are stored under this name'}.",
        )
    elif not changes:
        changes.append(
            "Predictions, members and sample submission are unchanged, but the bytes differ: "
            f"the columns or limits of [submissions], or the way numbers are written, have changed since dfens "
            f"{provenance.get('dfens_version', 'then')}."
        )
    return Rebuilt(None, "", tuple(changes))


def _same_ids(sample: Path, source: Source, columns: Mapping[str, Any]) -> bool:
    """Return whether the sample still has these ids; a changed sample is reported as a change, not as an error."""
    table = parse_delimited(read_bytes(sample, "sample submission"), sample, "sample submission")
    defaults = columns.get("default_id", ""), columns.get("prediction_column", "")
    name = columns.get("id_column") or default_id_column(table, *defaults)
    return name in table.names and set(table.values(name)) == set(source.ids)


def _sample_changes(provenance: Mapping[str, Any], sample: Path) -> list[str]:
    recorded, now = provenance.get("sample_sha256"), file_sha256(sample)
    if recorded and recorded != now:
        return [f"The sample submission {sample} has changed: {recorded[:_SHOWN]} then, {now[:_SHOWN]} now."]
    return []


def _member_changes(provenance: Mapping[str, Any], members_now: Mapping[str, str | None]) -> list[str]:
    changes = []
    for name, facts in dict(provenance.get("members") or {}).items():
        recorded, now = str(facts.get("fingerprint") or ""), members_now.get(name)
        if now is None:
            changes.append(f"Member '{name}' ({recorded[:_SHOWN]}) is no longer in the store.")
        elif now != recorded:
            changes.append(f"Member '{name}' has different predictions: {recorded[:_SHOWN]} then, {now[:_SHOWN]} now.")
    return changes
