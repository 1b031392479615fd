"""The description of a submission on Kaggle, filled in from a template."""

import math
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from string import Formatter

from oof.errors import ConfigError

# Kaggle documents no limit; longer descriptions are not readable on its pages
LONGEST = 500
# the fields of a template, with examples of their values
FIELDS: Mapping[str, object] = {
    "blend": "b7",
    "score": 0.98765,
    "nested_score": 0.98654,
    "metric": "auc",
    "method": "weights",
    "transform": "rank",
    "members": "convnext+effnet",
    "n_members": 2,
    "rows": 1000,
    "competition": "multi-ffdi",
    "date": "2026-01-31",
    "git": "0123abcd",
    "dfens": "0.1.0",
}
_SHORTEST_SECRET = 12  # shorter passwords of proxies occur in ordinary text
_UNKNOWN = "n/a"
_UNSHOWABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # the last range: command-line bytes that are not UTF-8
_FORMAT = re.compile(r"[<>^+ ]?\d{0,2},?(\.\d{1,2})?[a-zA-Z%]?")  # with a width that cannot exceed the message limit


def make_message(template: str, fields: Mapping[str, object], secrets: Iterable[str] = ()) -> str:
    """Fill a template such as `{blend} oof={score:.5f} nested={nested_score:.5f}`.

    A field without a value (None or NaN: a file made elsewhere has no CV score)
    becomes `n/a`. Only plain names are allowed as fields: `{blend.name}` or `{blend[0]}` are refused, so a
    template cannot access attributes of objects.

    Args:
        template: the text of [submit] message or --message; `{{` is a literal brace.
        fields: name -> value. secrets: keys, tokens and passwords, which the message must not contain.

    Raises:
        ConfigError: if a field is unknown (suggesting the nearest), a format is wrong, or the message is empty, too
            long, or contains a secret, since Kaggle shows it and the ledger keeps it.

    >>> make_message("{blend} oof={score:.3f}", {"blend": "b7", "score": 0.98765})
    'b7 oof=0.988'
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as err:
        raise ConfigError(
            f"The message {template!r} is not a valid template: {err}. Write a literal brace as {{{{ or }}}}."
        ) from err
    text = "".join(literal + _filled(name, spec, conversion, fields) for literal, name, spec, conversion in parts)
    text = " ".join(text.split())
    if _UNSHOWABLE.search(text):
        raise ConfigError(f"The message {text!r} has characters that cannot be displayed. Write plain text in UTF-8.")
    if any(secret.strip() in text for secret in secrets if len(secret.strip()) >= _SHORTEST_SECRET):
        raise ConfigError(
            "The message contains a key, token or password of your credentials. It would be stored in the ledger and "
            "shown on Kaggle: remove it from --message or [submit] message."
        )
    if not text:
        raise ConfigError(
            f"The message {template!r} is empty when filled in. Kaggle requires a description: write a few words."
        )
    if len(text) > LONGEST:
        raise ConfigError(f"The message has {len(text)} characters; the maximum is {LONGEST}. Shorten it.")
    return text


def check_template(template: str) -> None:
    """Check a template before there are values for it; raises as `make_message`."""
    make_message(template, FIELDS)


def _filled(name: str | None, spec: str | None, conversion: str | None, fields: Mapping[str, object]) -> str:
    if name is None:
        return ""
    if name not in fields:
        close = get_close_matches(name, fields, n=2, cutoff=0.5)
        hint = f"; did you mean {' or '.join(close)}?" if close else "."
        raise ConfigError(f"The message has an unknown field {{{name}}}{hint} Known: {', '.join(sorted(fields))}.")
    if conversion or not _FORMAT.fullmatch(spec or ""):
        raise ConfigError(f"The message's field {{{name}}} may have a format such as {{{name}:.5f}}, nothing else.")
    value = fields[name]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return _UNKNOWN
    try:
        return format(value, spec or "")
    except ValueError as err:
        raise ConfigError(f"The message's field {{{name}:{spec}}} does not fit its value {value!r}: {err}.") from err
