"""One row of the ledger: a submission or an attempt, and its provenance."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from oof.typed import typed
from submissions.states import IN_DOUBT, ON_SERVER, Status

Kind = Literal["file", "kernel"]
Origin = Literal["dfens", "elsewhere"]


@dataclass(frozen=True)
class _Member:
    weight: float | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class _Provenance:
    """Types of the keys of a provenance from which a file is rebuilt (docs/formats.md)."""

    members: Mapping[str, _Member] | None = None
    member_order: tuple[str, ...] | None = None
    settings: Mapping[str, Any] | None = None
    sample_sha256: str | None = None


def check_provenance(provenance: Mapping[str, Any]) -> None:
    """Check the types of a provenance that was read from the ledger.

    Raises:
        TypeError: naming the key.
    """
    try:
        typed(_Provenance, dict(provenance))
    except TypeError as err:
        raise TypeError(f"provenance.{err}") from err


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A submission as recorded in the ledger.

    key: 32 random hexadecimal digits; the first 12 are in the file name, by which the submission is found
        on Kaggle. created, updated: times of this row, UTC. who: user name on Kaggle, empty if the
        credentials do not contain it.
    kind: a file that was uploaded, or the output of a Kaggle notebook.
    origin: "elsewhere" for submissions imported by sync (web page, team mates).
    file_name: name on Kaggle. path: stored table, relative to the folder of dfens.toml. sha256: hash of its bytes.
    message: shown by Kaggle as description. blend: name of the submitted blend or model, empty for a file.
    score, nested_score: scores of the blend, or None; see `scores_by`.
    provenance: docs/formats.md, work/submissions: members with weights and fingerprints, transform, settings.
    git_commit, git_dirty: state of the folder of dfens.toml, empty and None outside a repository.
    config_sha256: hash of dfens.toml.
    kernel, kernel_version: "owner/slug" and number of a notebook's submission.
    ref: Kaggle's number, or None. submitted: Kaggle's time, UTC.
    status: prepared, uploading: nothing has been submitted yet; creating: Kaggle was asked, the result is unknown
        (the next dfens submit or sync reconciles it); failed: not on Kaggle; pending, complete, error: on Kaggle.
    public_score, private_score: None until Kaggle shows them. error: reason of a failure, in Kaggle's words.
    """

    key: str
    created: datetime
    updated: datetime
    competition: str
    status: Status
    who: str = ""
    kind: Kind = "file"
    origin: Origin = "dfens"
    file_name: str = ""
    path: str = ""
    sha256: str = ""
    bytes: int | None = None
    rows: int | None = None
    message: str = ""
    blend: str = ""
    score: float | None = None
    nested_score: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    git_commit: str = ""
    git_dirty: bool | None = None
    dfens_version: str = ""
    config_sha256: str = ""
    kernel: str = ""
    kernel_version: int | None = None
    ref: int | None = None
    submitted: datetime | None = None
    public_score: float | None = None
    private_score: float | None = None
    error: str = ""

    @property
    def members(self) -> dict[str, dict[str, Any]]:
        """Return member name -> weight and fingerprint."""
        return dict(self.provenance.get("members") or {})

    @property
    def weights(self) -> dict[str, float]:
        """Return member name -> weight."""
        return {name: float(facts["weight"]) for name, facts in self.members.items() if "weight" in facts}

    def scores_by(self, metric: str) -> tuple[float | None, float | None]:
        """Return score and nested score if they are by this metric, otherwise None for both.

        Entries without a `score_metric` have those of the metric that the blend optimised.
        """
        recorded = self.provenance.get("score_metric", self.provenance.get("metric", metric))
        return (self.score, self.nested_score) if recorded == metric else (None, None)

    def cv_by(self, metric: str) -> float | None:
        """Return the score to compare with the public one: the nested score of a blend, the OOF score of a model.

        Args:
            metric: name of the competition's metric; scores by another one are not comparable, so None is returned.
        """
        score, nested = self.scores_by(metric)
        return score if nested is None else nested

    @property
    def own_public_score(self) -> float | None:
        """Return the public score of the submitted file; None for a truncated upload."""
        return None if self.error else self.public_score

    @property
    def transform(self) -> str:
        """Return the transform that mapped the members' predictions to a common scale."""
        return str(self.provenance.get("transform", ""))

    @property
    def on_server(self) -> bool:
        """Return whether it is on Kaggle."""
        return self.status in ON_SERVER

    @property
    def in_doubt(self) -> bool:
        """Return whether it is still unknown if Kaggle has it."""
        return self.status in IN_DOUBT

    @property
    def name(self) -> str:
        """Return the name to display: Kaggle's number, or the first digits of the key."""
        return str(self.ref) if self.ref else self.key[:12]
