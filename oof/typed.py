"""Stored values as dataclasses, with their types checked."""

import json
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


def typed(kind: type[T], value: object) -> T:
    """Return JSON values as a dataclass, or a tuple of them; keys that it does not have are ignored.

    A dataclass keeps whatever it is given, so that a number that was replaced by text in a file edited by hand would
    cause an error where it is used, far from the file.

    Raises:
        TypeError: if a value has another type, is missing, or is infinite or NaN, naming it.

    >>> typed(tuple[float, ...], [1, 0.5])
    (1.0, 0.5)
    """
    from pydantic import ValidationError

    try:
        # validated as JSON, where a list may become a tuple, but no other types are converted
        found: T = _adapter(cast(Any, kind)).validate_json(json.dumps(value, allow_nan=False), strict=True)
    except ValidationError as err:
        problem = err.errors()[0]
        raise TypeError(f"{'.'.join(map(str, problem['loc'])) or 'value'}: {problem['msg']}") from err
    except ValueError as err:
        raise TypeError(str(err)) from err
    return found


@cache
def _adapter(kind: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
