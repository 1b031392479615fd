"""Generate the reference of all commands and settings from click's commands and the settings' docstrings."""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click

from dfens.cli import cli
from dfens.workspace.config import CompetitionSettings, FoldSettings, SubmitSettings
from ensemble.settings import BlendSettings
from submissions.settings import SubmissionSettings
from trainers.data.settings import DataSettings
from trainers.kinds.registry import kind_names, settings_type

_SECTIONS: tuple[tuple[str, type], ...] = (
    ("competition", CompetitionSettings),
    ("data", DataSettings),
    ("folds", FoldSettings),
    ("blend", BlendSettings),
    ("submit", SubmitSettings),
    ("submissions", SubmissionSettings),
)


def write_reference(folder: Path) -> None:
    """Write commands.md and settings.md into a folder if their text has changed."""
    folder.mkdir(exist_ok=True)
    for name, text in (("commands.md", commands_page()), ("settings.md", settings_page())):
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def walk_commands(
    command: click.Command = cli, path: tuple[str, ...] = ("dfens",)
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield each command with the words that invoke it, groups first, in the order of `dfens --help`."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from walk_commands(found, (*path, name))


def commands_page() -> str:
    """Return the reference of all commands: the help text of each for a terminal of 100 columns."""
    parts = [
        "# Commands\n\nGenerated from the program: this is what `dfens COMMAND --help` prints. `-C DIR` before the "
        "command runs it in another folder, `--json` prints the result for programs.\n"
    ]
    for path, command in walk_commands():
        parent: click.Context | None = None
        for word in path[:-1]:
            parent = click.Context(cli, info_name=word, parent=parent)
        context = click.Context(command, info_name=path[-1], parent=parent, terminal_width=100)
        parts.append(f"{'#' * min(len(path) + 1, 3)} {' '.join(path)}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def settings_page() -> str:
    """Return the reference of all keys in dfens.toml, by section and kind of model."""
    parts = [
        "# Settings\n\nGenerated from the program: every key of `dfens.toml`, with its default. `[train]` takes the "
        "keys of the models as defaults of all of them. An unknown key is an error that names the nearest known one.\n"
    ]
    parts += [f"## [{name}]\n\n{_table(settings)}" for name, settings in _SECTIONS]
    for kind in kind_names():
        summary = (inspect.getdoc(settings_type(kind)) or "").partition("\n")[0]
        parts.append(f'## Models of kind = "{kind}"\n\n{summary}\n\n{_table(settings_type(kind))}')
    return "\n".join(parts)


def setting_rows(settings: type) -> list[tuple[str, str, str, str]]:
    """Return name, type, default and meaning of each field of a settings dataclass, in the order of the docstrings.

    The meaning comes from the docstring of the class that declares the field, which lists them as `name: meaning.` or
    `name, name: meaning of both.`; it is empty where there is none.
    """
    types_by_name = typing.get_type_hints(settings)
    meanings: dict[str, str] = {}
    for cls in reversed(settings.__mro__):
        if cls is not object:
            meanings |= _meanings(inspect.getdoc(cls) or "", set(types_by_name))
    rows = []
    for field in dataclasses.fields(settings):
        if field.name == "kind":
            continue  # named in the heading
        default = "" if field.default is dataclasses.MISSING else _value(field.default)
        if field.default_factory is not dataclasses.MISSING:
            default = _value(field.default_factory())
        rows.append((field.name, _type_name(types_by_name[field.name]), default, meanings.get(field.name, "")))
    return rows


def _meanings(docstring: str, names: set[str]) -> dict[str, str]:
    """Split the text of a docstring at its `name:` and `name, name:`."""
    text = re.sub(r"\s*\n\s*", " ", docstring)
    name = "(?:" + "|".join(sorted(map(re.escape, names), key=len, reverse=True)) + r")(?: \([^)]*\))?"
    marker = re.compile(rf"(?:(?<=^)|(?<=[.;)] ))({name}(?:(?:, | and ){name})*): ")
    starts = list(marker.finditer(text))
    found = {}
    for start, following in zip_longest(starts, starts[1:]):
        meaning = text[start.end() : following.start() if following else None].strip()
        for one, note in re.findall(r"(\w+)(?: (\([^)]*\)))?(?:, | and |$)", start.group(1)):
            found[one] = f"{note} {meaning}".strip().rstrip(".;")
    return found


def _type_name(hint: Any) -> str:
    """Return a description of a type in terms of TOML values."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(f"`{_value(item)}`" for item in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_name(item) for item in arguments if item is not type(None))
    if origin in (tuple, list):
        return f"list of {_type_name(arguments[0])}"
    if origin is dict or hint is dict or dataclasses.is_dataclass(hint):
        return "table"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _value(value: Any) -> str:
    """Return a default as it is written in TOML, or an empty string for "not set"."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if dataclasses.is_dataclass(value):
        inner = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return "{ " + ", ".join(f"{name} = {_value(item)}" for name, item in inner.items()) + " }"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str | Path) else str(value)


def _table(settings: type) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, kind, default, meaning in setting_rows(settings):
        cells = (f"`{name}`", kind, f"`{default}`" if default else "", meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
