"""What every command gets: configuration, workspace, store, progress and the way to print."""

import functools
import json
import math
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from dfens.console import TerminalProgress
    from dfens.workspace.config import Config
    from oof.store import PredictionStore
    from trainers.data.layouts import Competition

CONFIG_NAME = "dfens.toml"

P = ParamSpec("P")
R = TypeVar("R")


class App:
    """One run of the command line in one folder; each part is made when it is first asked for."""

    def __init__(self, folder: Path, as_json: bool = False) -> None:
        self.root = folder.resolve()
        self.as_json = as_json

    @property
    def config_path(self) -> Path:
        return self.root / CONFIG_NAME

    @property
    def work(self) -> Path:
        """The workspace; each room has the folder of its own name in it."""
        return self.root / "work"

    @cached_property
    def config(self) -> "Config":
        """The settings of dfens.toml; defaults in a folder that has none but holds imported predictions."""
        from dfens.workspace.config import parse_config, read_config

        if not self.config_path.exists() and self.predictions.has_folds():
            return parse_config({}, self.root)
        return read_config(self.config_path)

    @cached_property
    def predictions(self) -> "PredictionStore":
        """The store of OOF and test predictions."""
        from oof.store import PredictionStore

        return PredictionStore(self.work / "oof")

    def competition(self) -> "Competition":
        """The rows and files of the competition, read anew."""
        from trainers.data.layouts import read_competition

        return read_competition(self.config.data, self.quarantine_path)

    @property
    def quarantine_path(self) -> Path:
        """Where `dfens check` lists the files that [data] skip_broken leaves out."""
        return self.work / "trainers" / "quarantine.json"

    # ---- printing -----------------------------------------------------------

    @cached_property
    def stdout(self) -> "Console":
        from dfens.console import make_console

        return make_console(stderr=False)

    @cached_property
    def stderr(self) -> "Console":
        from dfens.console import make_console

        return make_console(stderr=True)

    @cached_property
    def progress(self) -> "TerminalProgress":
        """Where rooms tell how far they are: bars on a terminal, plain lines elsewhere."""
        from dfens.console import TerminalProgress

        return TerminalProgress(self.stderr)

    def say(self, text: str) -> None:
        """Print one line for people, to stderr."""
        self.stderr.print(text, markup=False, highlight=False, soft_wrap=True)

    def fail(self, text: str) -> None:
        """Print an error, to stderr."""
        self.stderr.print("[bold red]Error:[/] ", end="")
        self.say(text)

    def emit(self, value: Any, *renderables: "RenderableType") -> None:
        """Print the result to stdout: `value` as JSON under --json, else what is given for people."""
        if self.as_json:
            click.echo(json.dumps(_plain(value), ensure_ascii=False, indent=2))
            return
        for renderable in renderables:
            if isinstance(renderable, str):  # plain text: a [section] in it is no markup
                self.stdout.print(renderable, markup=False, highlight=False, soft_wrap=True)
            else:
                self.stdout.print(renderable)


def _plain(value: Any) -> Any:
    """JSON values only: NaN becomes null, numpy numbers become Python's, paths become text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return str(value)
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def interrupted(app: App | None) -> None:
    """Tell that Ctrl-C was heard and that nothing is lost."""
    text = "Interrupted. What was finished is kept; the same command goes on from there."
    if app is None:
        click.echo(text, err=True)
    else:
        app.say(text)


def pass_app(function: Callable[Concatenate[App, P], R]) -> Callable[P, R]:
    """Give a command the App as its first argument, and the option --json."""

    @click.option("--json", "_as_json", is_flag=True, help="Print the result as JSON, for programs.")
    @click.pass_context
    @functools.wraps(function)
    def wrapper(ctx: click.Context, /, *args: Any, _as_json: bool, **kwargs: Any) -> R:
        app = ctx.find_object(App)
        if app is None:  # a command run by itself, as in a test
            app = App(Path())
        app.as_json |= _as_json
        return function(app, *args, **kwargs)

    return wrapper  # type: ignore[return-value]  # click's decorators change the signature
