"""Helpers shared by the settings of every kind: checks of types, choices and ranges, and numeric precisions."""

import types
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from oof.errors import ConfigError

Precision = Literal["auto", "float32", "bfloat16", "float16"]


def check_leaves_reals(settings: object, name: str) -> None:
    """Check that a probability with which reals become fakes in training is below 1.

    Raises:
        ConfigError: if it is 1, which leaves one class, so that a network would learn nothing.
    """
    if getattr(settings, name) == 1:
        raise ConfigError(f"{name} = 1 makes a fake of every real, so none is left in training. Set {name} = 0.5.")


def check_range(settings: object, low: float, high: float, *names: str, table: str = "") -> None:
    """Check that numeric settings are in a range; `table` is what precedes their names in the message.

    Raises:
        ConfigError: if a setting is out of range; the message names the first one and its range.
    """
    for name in names:
        value = getattr(settings, name)
        if not low <= value <= high:
            raise ConfigError(f"{table}{name} = {value} is out of range; it must be from {low:g} to {high:g}.")


_NUMBERS: dict[Any, tuple[type, ...]] = {int: (Integral,), float: (Real,), bool: (bool, np.bool_)}


def check_types(settings: object, where: str = "") -> None:
    """Check the type of each setting, and that choices exist, for settings made in Python.

    dfens.toml is checked when it is read.

    Args:
        settings: a dataclass. where: what the message begins with.

    Raises:
        ConfigError: if a setting has another type or is not among its choices.
    """
    for name, hint in get_type_hints(type(settings)).items():
        if name not in getattr(settings, "__dataclass_fields__", ()) or get_origin(hint) is ClassVar:
            continue
        value = getattr(settings, name)
        if not _fits(value, hint):
            raise ConfigError(f"{where}{name} = {value!r}: expected {' or '.join(_expected(hint))}.")


def _fits(value: object, hint: Any) -> bool:
    """Return whether a value has a type, or is one of its choices."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        of = arguments[:1] * len(value) if arguments[-1] is Ellipsis and isinstance(value, tuple | list) else arguments
        return isinstance(value, tuple | list) and len(value) == len(of) and all(map(_fits, value, of))
    kind = origin or hint
    is_truth = isinstance(value, bool | np.bool_)
    return isinstance(value, _NUMBERS.get(kind, (kind,))) and (kind is bool or not is_truth)


def _expected(hint: Any) -> list[str]:
    """Return the types and choices of a setting as text."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return [text for one in arguments for text in _expected(one)]
    if origin is Literal:
        return [f"one of {', '.join(map(repr, arguments))}" if len(arguments) > 1 else repr(arguments[0])]
    if origin is tuple:
        return [f"a tuple, each {' or '.join(_expected(arguments[0]))}"]
    return [{int: "an integer", float: "a number", bool: "True or False", str: "text"}.get(hint, str(hint))]
