"""The command `dfens`: loads its commands from dfens/commands, and turns errors into exit codes."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import click

from dfens import __version__, commands
from dfens.console import Console
from dfens.invocation import Invocation
from dfens.workflows.processes import is_first_process
from dfens.workspace.paths import Workspace
from oof.errors import DfensError, disk_remedy, memory_is_full, write_remedy
from trainers.runtime.signals import Stopped

# the order of commands in --help; a command not listed here comes last
_ORDER = (
    "init recipes demo download check extract folds train oof blend unseal submit submissions report status doctor "
    "compare ablate diagnose groups cache completion"
).split()

# current names of renamed options, whose former names are still read
_RENAMED_OPTIONS = {
    ("check", "--workers"): "--threads",
    ("blend", "--toward-test"): "--importance-weighting",
    ("diagnose", "--suspects"): "--max-issues",
}


class _Folder(click.Path):
    """An existing folder; a `~` that the shell has left (`-C~/deepfakes`) is the home folder, as in other paths."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        try:
            return super().convert(Path(value).expanduser(), param, ctx)
        except RuntimeError:
            self.fail(f"The home folder in {value!r} is unknown. Write the path without '~'.", param, ctx)


class _Failure(click.ClickException):
    """A named error, shown without a traceback; exit code 1."""

    exit_code = 1

    def __init__(self, text: str, console: Console) -> None:
        super().__init__(text)
        self._console = console

    def show(self, file: object = None) -> None:
        self._console.fail(self.message)


class _Commands(click.Group):
    """Loads a command's module on demand, and maps errors to exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = [module.name for module in iter_modules(commands.__path__)]
        return sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"dfens.commands.{name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        unknown = not args[0].startswith("-") and self.get_command(ctx, args[0]) is None
        if unknown and not ctx.resilient_parsing:
            close = get_close_matches(args[0], self.list_commands(ctx), n=1)
            suggestion = f" Did you mean {close[0]!r}?" if close else " dfens --help lists them."
            ctx.fail(f"No such command {args[0]!r}.{suggestion}")
        name, command, rest = super().resolve_command(ctx, args)
        if command is None or ctx.resilient_parsing:
            return name, command, rest
        return name, command, _with_current_names(ctx, name or "", command, rest)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except DfensError as error:
            raise _Failure(str(error), _console_of(ctx)) from error
        except OSError as error:  # an error of a file, folder or disk that no other module has explained
            raise _Failure(_system_error(error), _console_of(ctx)) from error
        except MemoryError as error:
            raise _Failure(memory_is_full(error), _console_of(ctx)) from error
        except KeyboardInterrupt:
            _console_of(ctx).say("Interrupted. Finished work is kept; run the same command again to resume.")
            ctx.exit(130)
        except Stopped:
            if is_first_process():
                _console_of(ctx).say("Stopped by SIGTERM; everything is saved. Run the same command again to resume.")
            ctx.exit(143)


def _with_current_names(ctx: click.Context, name: str, command: click.Command, args: list[str]) -> list[str]:
    """Return the arguments of a command with renamed options under their current names, and report each of them.

    Raises:
        click.UsageError: if an option is given under both names.
    """
    current = {former: new for (of, former), new in _RENAMED_OPTIONS.items() if of == name}
    found, given = list(args), dict[str, None]()  # in order
    for position in _option_positions(command, current, args):
        option, equals, value = args[position].partition("=")
        given[option] = None
        found[position] = current.get(option, option) + equals + value
    for former in filter(current.get, given):
        if current[former] in given:
            ctx.fail(f"{former} is the former name of {current[former]}, which is given, too. Remove {former}.")
        _console_of(ctx).say(f"{former} is now named {current[former]}.")
    return found


def _option_positions(command: click.Command, current: Mapping[str, str], args: Sequence[str]) -> Iterator[int]:
    """Yield the positions of options among arguments; the value of an option, and what follows `--`, are none."""
    options = [param for param in command.params if isinstance(param, click.Option)]
    with_value = {name for option in options if not (option.is_flag or option.count) for name in option.opts}
    position = 0
    while position < len(args) and args[position] != "--":
        name, equals, _ = args[position].partition("=")
        if name.startswith("-"):
            yield position
        position += 2 if current.get(name, name) in with_value and not equals else 1


def _console_of(ctx: click.Context) -> Console:
    found = ctx.find_object(Invocation)
    return Console() if found is None else found.console


def _system_error(error: OSError) -> str:
    """Return the message for an error of the operating system, with the file concerned."""
    where = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    reason = error.strerror or str(error) or type(error).__name__
    if not where and reason == os.strerror(errno.ENOENT):  # from os.getcwd
        return "The current folder no longer exists. Change to another one, or name the project's folder with -C DIR."
    remedy = (
        disk_remedy(error.errno) or "Check that it exists and can be read or written, then run the same command again."
    )
    if isinstance(error, NotADirectoryError | FileExistsError) and where:
        remedy = write_remedy(Path(os.fsdecode(error.filename)), error)
    return f"{f'{where}: ' if where else ''}{reason}. {remedy}"


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with `dfens init`; `dfens status` shows the next command at any time.",
)
@click.option(
    "-C",
    "folder",
    metavar="DIR",
    type=_Folder(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Run in this folder instead of the current one; paths in other options are relative to it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
@click.version_option(__version__, prog_name="dfens")
@click.pass_context
def cli(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """Out-of-fold ensembling, from images to a scored submission: folds, predictions, AUC blend, checked upload.

    Run it in a folder with a dfens.toml, or name that folder with -C DIR. Results are written to
    standard output, everything else to standard error. Exit codes: 0 done, 1 a named error,
    2 wrong usage, 130 interrupted, 143 stopped by SIGTERM; `dfens submit --help` lists further ones.
    """
    ctx.obj = Invocation(Workspace(folder), Console(as_json))
