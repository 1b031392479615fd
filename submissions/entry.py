"""One row of the ledger: a submission or an attempt at one, and where it came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from submissions.states import IN_DOUBT, ON_SERVER, Status

Kind = Literal["file", "kernel"]
Origin = Literal["dfens", "elsewhere"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A submission as the ledger knows it.

    key: 32 hexadecimal digits, made here; its first 12 stand in the file name, by which the submission is found
        again on Kaggle. created, updated: of this row, UTC. who: user name on Kaggle, empty where the
        credentials did not tell it.
    kind: a file that was uploaded, or the output of a Kaggle notebook.
    origin: "elsewhere" for what sync brought in (web page, team mates).
    file_name: on Kaggle. path: where the table is kept, relative to the folder of dfens.toml. sha256: of its bytes.
    message: shown by Kaggle as description. blend: name of the blend or model submitted, empty for a file.
    score, nested_score: as in the blend; None where there is none.
    provenance: docs/formats.md, work/submissions: members with weights and fingerprints, transform, settings.
    git_commit, git_dirty: of the folder of dfens.toml, empty and None outside a repository.
    config_sha256: of dfens.toml.
    kernel, kernel_version: of a notebook's submission, "owner/slug" and number.
    ref: Kaggle's number, None where it has none. submitted: Kaggle's time, UTC.
    status: prepared, uploading: nothing has been submitted yet; creating: Kaggle was asked, the answer is not known
        (the next dfens submit or sync reconciles it); failed: not on Kaggle; pending, complete, error: on Kaggle.
    public_score, private_score: None until Kaggle shows them. error: why it failed, in Kaggle's words.
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
        """Name of each member -> weight and fingerprint."""
        return dict(self.provenance.get("members") or {})

    @property
    def weights(self) -> dict[str, float]:
        """Name of each member -> weight."""
        return {name: float(facts["weight"]) for name, facts in self.members.items() if "weight" in facts}

    @property
    def transform(self) -> str:
        """How the members' predictions were brought to one scale."""
        return str(self.provenance.get("transform", ""))

    @property
    def on_server(self) -> bool:
        """Whether Kaggle has it."""
        return self.status in ON_SERVER

    @property
    def in_doubt(self) -> bool:
        """Whether it is not known yet if Kaggle has it."""
        return self.status in IN_DOUBT

    @property
    def name(self) -> str:
        """What to call it: Kaggle's number, or the first digits of the key."""
        return str(self.ref) if self.ref else self.key[:12]
