"""Values as JSON, and durations as text."""

import dataclasses
import math
import os
from collections.abc import Mapping
from datetime import date
from typing import Any


def json_value(value: Any) -> Any:
    """Convert a value of any workflow to JSON types.

    Dataclasses become objects by field (or what their `as_json` returns), NaN and infinity become null, numpy
    arrays become lists, paths and times become text.
    """
    if hasattr(value, "as_json"):
        return json_value(value.as_json())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_value(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_value(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if hasattr(value, "tolist"):
        return json_value(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def duration(seconds: float) -> str:
    """Return a duration in its two largest units.

    >>> duration(75), duration(4000), duration(200_000)
    ('1 min 15 s', '1 h 6 min', '2 d 7 h')
    """
    whole = round(seconds)
    for size, unit, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // below} {smaller}"
    return f"{whole} s"
