"""Helpers shared by the settings of every kind: range checks and numeric precisions."""

from typing import Literal

from oof.errors import ConfigError

Precision = Literal["auto", "float32", "bfloat16", "float16"]


def check_leaves_reals(settings: object, name: str) -> None:
    """Check that a probability with which reals become fakes in training is below 1.

    Raises:
        ConfigError: if it is 1, which leaves one class, so that a network would learn nothing.
    """
    if getattr(settings, name) == 1:
        raise ConfigError(f"{name} = 1 makes a fake of every real, so none is left in training. Set {name} = 0.5.")


def check_range(settings: object, low: float, high: float, *names: str) -> None:
    """Check that numeric settings are in a range.

    Raises:
        ConfigError: if a setting is out of range; the message names the first one and its range.
    """
    for name in names:
        value = getattr(settings, name)
        if not low <= value <= high:
            raise ConfigError(f"{name} = {value} is out of range; it must be from {low:g} to {high:g}.")
