"""Helpers shared by the settings of every kind: checks of types, choices and ranges, and numeric precisions."""

import collections.abc
import dataclasses
import functools
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

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
        if not isinstance(value, int | float):
            raise ConfigError(f"{table}{name} = {value!r}: expected an int or float from {low:g} to {high:g}.")
        if not low <= value <= high:
            raise ConfigError(f"{table}{name} = {value} is out of range; it must be from {low:g} to {high:g}.")


_NUMBERS: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), bool: (bool,)}


def check_types(settings: Any, where: str = "") -> None:
    """Check the type of each setting, and that choices exist, for settings made in Python.

    dfens.toml is checked when it is read. Types that are none of those used by dfens's own settings are not checked.

    Args:
        settings: a dataclass, which may contain others. where: what the message begins with.

    Raises:
        ConfigError: if a setting has another type or is not among its choices.
    """
    kind: type = type(settings)
    hints = _hints(kind)
    for field in dataclasses.fields(settings):
        value, hint = getattr(settings, field.name), hints.get(field.name)
        if not _fits(value, hint):
            raise ConfigError(f"{where}{field.name} = {value!r}: expected {' or '.join(_expected(hint))}.")
        if dataclasses.is_dataclass(value):
            check_types(value, f"{where}{field.name}.")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except NameError:  # of a plugin, imported only for type checkers
        return {}


def _fits(value: object, hint: Any) -> bool:
    """Return whether a value has a type, or is one of its choices; True for types that are not known here."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is Literal:
        return isinstance(value, str | int) and value in arguments
    if origin is tuple and arguments[-1:] == (Ellipsis,):
        return isinstance(value, tuple | list) and all(_fits(one, arguments[0]) for one in value)
    if origin is tuple:
        if not isinstance(value, tuple | list) or len(value) != len(arguments):
            return False
        return all(_fits(one, kind) for one, kind in zip(value, arguments, strict=True))
    if origin in (dict, collections.abc.Mapping):
        return isinstance(value, collections.abc.Mapping)
    if hint in _NUMBERS:
        return isinstance(value, _NUMBERS[hint]) and (hint is bool or not isinstance(value, bool))
    if hint in (str, types.NoneType) or dataclasses.is_dataclass(hint):
        return isinstance(value, hint)
    return True


def _expected(hint: Any) -> list[str]:
    """Return the types and choices of a setting as text."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return [text for one in arguments for text in _expected(one)]
    if origin is Literal:
        return [f"one of {', '.join(map(repr, arguments))}" if len(arguments) > 1 else repr(arguments[0])]
    if origin is tuple:
        count = "" if arguments[-1] is Ellipsis else f" of {len(arguments)}"
        return [f"a tuple{count}, each {' or '.join(_expected(arguments[0]))}"]
    if origin in (dict, collections.abc.Mapping):
        return ["a table"]
    words = {int: "an integer", float: "a number", bool: "True or False", str: "text", types.NoneType: "None"}
    return [words.get(hint, getattr(hint, "__name__", str(hint)))]
