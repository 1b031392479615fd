"""Settings of submissions: the section [submissions] in dfens.toml."""

from dataclasses import dataclass, field, fields

from oof.errors import ConfigError

_LONGEST_S = 30 * 86_400.0


@dataclass(frozen=True, kw_only=True)
class SubmissionSettings:
    """Section [submissions]; times in seconds.

    ledger: a path (relative to the folder of dfens.toml) or the URL of a team's ledger, such as
        postgresql+psycopg://user@host/database (keep the password in ~/.pgpass); empty for
        work/submissions/ledger.sqlite.
    id_column, prediction_column: names in the sample submission; by default [data] id, or the first column if there
        is none of this name, and the only other column.
    lowest, highest: range of valid predictions.
    public_share: public share of the test rows, see the competition's leaderboard page; for choosing the finals.
    call_limit_s: maximum duration of one call to Kaggle, after which the client is killed.
    upload_limit_s: maximum duration of an upload.
    list_lag_s: lag of Kaggle's list: a submission whose response was lost counts as not made after it has
        been missing for this long.
    lock_limit_s: maximum time to wait for another dfens submit with the same ledger.
    retries: number of retries of a call for which Kaggle was too busy, if a retry is safe.
    retry_first_s: pause before the first retry; each further pause is twice as long.
    wait_limit_s: maximum time to wait for the score (--wait).
    poll_first_s, poll_longest_s: pause between two checks of the score; it grows from the first to the longest.
    stall_limit_s: time without data after which a download is resumed.
    """

    ledger: str = field(default="", repr=False)  # may contain a password
    id_column: str = ""
    prediction_column: str = ""
    lowest: float = 0.0
    highest: float = 1.0
    public_share: float = 0.3
    call_limit_s: float = 60.0
    upload_limit_s: float = 900.0
    list_lag_s: float = 60.0
    lock_limit_s: float = 1800.0
    retries: int = 4
    retry_first_s: float = 2.0
    wait_limit_s: float = 3600.0
    poll_first_s: float = 3.0
    poll_longest_s: float = 60.0
    stall_limit_s: float = 60.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.endswith("_s") and not 0 < value <= _LONGEST_S:
                raise ConfigError(
                    f"[submissions] {item.name} = {value}: expected a number of seconds above 0, "
                    f"at most {_LONGEST_S:g} (30 days)."
                )
        if self.retries < 0:
            raise ConfigError(f"[submissions] retries = {self.retries}: expected 0 or more.")
        if not 0 < self.public_share < 1:
            raise ConfigError(f"[submissions] public_share = {self.public_share}: expected a share between 0 and 1.")
        if not self.lowest < self.highest:
            raise ConfigError(f"[submissions] lowest = {self.lowest} must be below highest = {self.highest}.")
