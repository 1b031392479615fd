"""Pass the workspace and the console to commands."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from dfens.console import Console
from dfens.workspace.paths import Workspace

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Invocation:
    """One run of the command line in one project folder."""

    workspace: Workspace
    console: Console


def pass_workspace(function: Callable[Concatenate[Workspace, Console, P], R]) -> Callable[P, R]:
    """Pass the workspace and the console as first arguments to a command, and add the option --json."""

    @click.option("--json", "_as_json", is_flag=True, help="Print the result as JSON.")
    @click.pass_context
    @functools.wraps(function)
    def wrapper(ctx: click.Context, /, *args: Any, _as_json: bool, **kwargs: Any) -> R:
        found = ctx.find_object(Invocation) or Invocation(Workspace(Path()), Console())
        found.console.as_json |= _as_json
        return function(found.workspace, found.console, *args, **kwargs)

    return wrapper  # type: ignore[return-value]  # click's decorators change the signature
