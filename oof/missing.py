"""Texts that mean a missing value, as pandas, R, databases and spreadsheets write it."""

MISSING_TEXTS = frozenset(["", "nan", "nat", "na", "n/a", "null", "none", "<na>", "#n/a"])


def is_missing(text: str) -> bool:
    """Return whether a text means a missing value, in any case and with surrounding spaces.

    >>> is_missing(" NaN"), is_missing("<NA>"), is_missing("nana")
    (True, True, False)
    """
    return text.strip().lower() in MISSING_TEXTS
