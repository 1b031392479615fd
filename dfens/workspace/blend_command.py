"""The command that makes a stored blend again, with the options that it was made with."""

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from ensemble.settings import BlendSettings

_WITHOUT_OPTION = ("seed",)
_EMPTY = {"methods": "none", "features": "none", "members": "all", "max_members": "none"}  # what options call it


def blend_command(facts: Mapping[str, Any], current: BlendSettings | None = None) -> str:
    """Return the command `dfens blend` for a blend that is to be made again.

    Its options are the recorded settings that differ from those in [blend] of dfens.toml.

    Args:
        facts: blend.json. current: settings in dfens.toml; None for the defaults.

    >>> blend_command({"name": "b", "settings": {"members": ["m0", "m1"], "prune": True, "transform": "auto"}})
    'dfens blend --name b --members m0,m1 --prune'
    """
    current, recorded = current or BlendSettings(), dict(facts.get("settings") or {})
    words = ["dfens", "blend", "--name", str(facts["name"])]
    for field in dataclasses.fields(BlendSettings):
        now, then = getattr(current, field.name), recorded.get(field.name)
        then = tuple(then) if isinstance(then, list | tuple) else then
        if then == now or field.name not in recorded or field.name in _WITHOUT_OPTION:
            continue
        option = field.name.replace("_", "-")
        if isinstance(then, bool):
            words.append(f"--{option}" if then else f"--no-{option}")
        elif then:
            words += [f"--{option}", ",".join(map(str, then)) if isinstance(then, tuple) else str(then)]
        elif field.name in _EMPTY:
            words += [f"--{option}", _EMPTY[field.name]]
    return shlex.join(words)
