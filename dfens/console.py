"""Output of commands: results go to standard output, everything else to standard error."""

import json
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from dfens.values import json_value

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType

    from dfens.terminal import TerminalProgress


class Console:
    """The two streams of one command, for people or (as_json) for programs."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json

    @cached_property
    def stdout(self) -> "RichConsole":
        """The console for results."""
        from dfens.terminal import make_console

        return make_console(stderr=False)

    @cached_property
    def stderr(self) -> "RichConsole":
        """The console for progress, notes and errors."""
        from dfens.terminal import make_console

        return make_console(stderr=True)

    @cached_property
    def progress(self) -> "TerminalProgress":
        """The receiver of progress."""
        from dfens.terminal import TerminalProgress

        return TerminalProgress(self.stderr)

    def say(self, text: str) -> None:
        """Print one line to standard error."""
        from dfens.terminal import print_line

        print_line(self.stderr, text)

    def notes(self, lines: Iterable[str]) -> None:
        """Print lines to standard error."""
        for line in lines:
            self.say(line)

    def fail(self, text: str) -> None:
        """Print an error to standard error."""
        self.stderr.print("Error: ", style="bold red", end="")
        self.say(text)

    def show(self, value: Any, shown: "Iterable[RenderableType]") -> None:
        """Print a result to standard output: `value` as JSON with --json, otherwise its view."""
        from dfens.terminal import print_line

        if self.as_json:
            ascii_only = not self.stdout.encoding.lower().startswith("utf")
            click.echo(json.dumps(json_value(value), ensure_ascii=ascii_only, indent=2))
            return
        for item in shown:
            if isinstance(item, str):
                print_line(self.stdout, item)
            else:
                self.stdout.print(item)
