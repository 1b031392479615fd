"""The registry of kinds of models. A kind is one line here; no other code depends on the kind of a model.

Kinds in other packages call `register` in the module that defines their settings: a process that receives such settings
imports that module, so the kind is registered there too. An installed package names this module in the entry-point
group `dfens.kinds`.
"""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from oof.errors import ConfigError
from trainers.kinds.base import ModelKind, ModelSettings


@dataclass(frozen=True)
class _Source:
    """The classes of a kind as MODULE:CLASS: settings, whose module imports no heavy library, and implementation."""

    settings: str
    implementation: str


_SOURCES = {
    "timm": _Source("trainers.kinds.timm.settings:TimmSettings", "trainers.kinds.timm.kind:TimmKind"),
    "frames": _Source("trainers.kinds.clips.settings:FramesSettings", "trainers.kinds.clips.kind:ClipKind"),
    "audio": _Source("trainers.kinds.clips.settings:AudioSettings", "trainers.kinds.clips.kind:ClipKind"),
    "av": _Source("trainers.kinds.clips.settings:AvSettings", "trainers.kinds.clips.kind:ClipKind"),
    "linear": _Source("trainers.kinds.linear.settings:LinearSettings", "trainers.kinds.linear.kind:LinearKind"),
}


def register(name: str, *, settings: str, implementation: str) -> None:
    """Register a kind; both arguments name a class as MODULE:CLASS, which is imported on first use.

    Raises:
        ConfigError: if another kind has that name.
    """
    source = _Source(settings, implementation)
    if _SOURCES.setdefault(name, source) != source:
        raise ConfigError(f"Two kinds of models are named {name!r}: {_SOURCES[name]} and {source}. Rename one.")


def kind_names() -> list[str]:
    """Return the names of all kinds."""
    for entry in entry_points(group="dfens.kinds"):
        if entry.name not in _SOURCES:
            entry.load()
    return list(_SOURCES)


def settings_type(name: str) -> type[Any]:
    """Return the settings class of a kind, without loading the libraries that it trains with.

    Raises:
        ConfigError: if there is no such kind.
    """
    return _imported(_source(name).settings)


def kind_of(settings: ModelSettings) -> ModelKind[Any]:
    """Return the kind that settings belong to."""
    found: ModelKind[Any] = _imported(_source(settings.kind).implementation)()
    return found


def baseline_kinds() -> set[str]:
    """Return the kinds that are baselines, which other models should beat."""
    return {name for name in kind_names() if getattr(settings_type(name), "is_baseline", False)}


def implementation_modules(names: Iterable[str]) -> list[str]:
    """Return the modules to import in processes that train models of these kinds."""
    return [_source(name).implementation.partition(":")[0] for name in sorted(set(names))]


def _source(name: str) -> _Source:
    if name not in _SOURCES and name not in kind_names():
        raise ConfigError(f"kind = {name!r} is unknown. Known: {', '.join(_SOURCES)}.")
    return _SOURCES[name]


def _imported(place: str) -> type[Any]:
    module, _, name = place.partition(":")
    found: type[Any] = getattr(importlib.import_module(module), name)
    return found
