"""The errors that a user can act on; every message says what was found, what was expected, what to do.

    DfensError
    ├── ConfigError        dfens.toml or an option
    ├── DataError          labels, images, clips of the competition
    ├── FoldError          folds that cannot be made, or that do not match
    ├── PredictionError    predictions that cannot be used (NaN, wrong ids, wrong shape)
    │   └── StoreError     a file of the workspace that is broken, stale or missing
    ├── TrainingError      a model that cannot be built or trained
    ├── BlendError         members that cannot be blended
    └── SubmissionError    a table or an upload that cannot go out

The command `dfens` prints a DfensError without a traceback and exits with 1.
"""


class DfensError(Exception):
    """Base of all errors that dfens raises on purpose."""


class ConfigError(DfensError):
    """A setting is unknown, misspelt or out of range."""


class DataError(DfensError):
    """The competition's labels or media are not what was declared."""


class FoldError(DfensError):
    """Folds cannot be made from these rows, or do not match what depends on them."""


class PredictionError(DfensError):
    """Predictions hold values or ids that no score or blend can use."""


class StoreError(PredictionError):
    """A file of the workspace is broken, stale or missing."""


class TrainingError(DfensError):
    """A model cannot be built, loaded or trained."""


class BlendError(DfensError):
    """These members cannot be blended in this way."""


class SubmissionError(DfensError):
    """A submission table is wrong, or its upload did not succeed."""


def examples(items: "list[str]", most: int = 5) -> str:
    """Name the first few of a list for a message, and how many more there are.

    >>> examples(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = ", ".join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"
