"""Marks by which a submission is recognised on Kaggle: in the name of a file, or in the message of a notebook."""

import re
from collections.abc import Callable

_TOKEN = 12
_MARK = re.compile(r"\[dfens ([0-9a-f]{12})(?: ([0-9a-f]{12}))?\]\s*$")


def token_of(key: str) -> str:
    """Return the unique part of the file name (or of a notebook submission's message)."""
    return key[:_TOKEN]


def mark_of(key: str, sha256: str) -> str:
    """Return the suffix of the message of a notebook submission: its entry, and the notebook version and file."""
    return f"[dfens {token_of(key)} {sha256[:_TOKEN]}]"


def in_mark(message: str) -> tuple[str, str]:
    """Return what marks the entry, and the notebook version and file, in a message.

    Both are empty without a mark; the second is empty in marks of earlier versions.

    >>> in_mark("b7 [dfens 0123456789ab 89ab01234567]"), in_mark("b7 [dfens 0123456789ab]"), in_mark("b7")
    (('0123456789ab', '89ab01234567'), ('0123456789ab', ''), ('', ''))
    """
    found = _MARK.search(message)
    return ("", "") if found is None else (found[1], found[2] or "")


def redact_message(message: str, redact: Callable[[str], str]) -> str:
    """Redact a message except for its mark, without which a submission would not be recognised and be sent again.

    >>> redact_message("my pwd: [dfens 0123456789ab]", lambda text: text.replace("my", "***"))
    '*** pwd: [dfens 0123456789ab]'
    """
    found = _MARK.search(message)
    return redact(message) if found is None else redact(message[: found.start()]) + found[0]
