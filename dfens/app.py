"""The workspace and the console in one, while commands move from this to both."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.workspace.paths import Workspace

if TYPE_CHECKING:
    from rich.console import RenderableType

P = ParamSpec("P")
R = TypeVar("R")


class App(Workspace):
    """A workspace that prints."""

    def __init__(self, folder: Path, console: Console | None = None) -> None:
        super().__init__(folder)
        self.console = console or Console()
        self.work = self.work_dir
        self.progress = self.console.progress
        self.say = self.console.say

    def emit(self, value: Any, *renderables: "RenderableType") -> None:
        """Print a result."""
        self.console.show(value, renderables)


def pass_app(function: Callable[Concatenate[App, P], R]) -> Callable[P, R]:
    """Give a command the App as its first argument."""

    @functools.wraps(function)
    def wrapper(workspace: Workspace, console: Console, *args: Any, **kwargs: Any) -> R:
        return function(App(workspace.root, console), *args, **kwargs)

    return pass_workspace(wrapper)
