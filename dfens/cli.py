"""The command `dfens`: finds its commands in dfens/commands, and turns errors into exit codes."""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import click

from dfens import __version__, commands
from dfens.app import App, interrupted
from oof.errors import DfensError

# the order of work, for --help; a command not named here stands at the end
_ORDER = "init demo download check folds train oof blend submit submissions status doctor compare ablate cache".split()


class _Failure(click.ClickException):
    """A named error, shown without a traceback; exit code 1."""

    exit_code = 1

    def __init__(self, error: DfensError, app: App | None) -> None:
        super().__init__(str(error))
        self._app = app

    def show(self, file: object = None) -> None:
        if self._app is not None:
            self._app.fail(self.message)
        else:
            click.echo(f"Error: {self.message}", err=True)


class _Commands(click.Group):
    """Loads a command's module when it is asked for, and maps errors to exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = [module.name for module in iter_modules(commands.__path__)]
        return sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"dfens.commands.{name}").command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except DfensError as error:
            raise _Failure(error, ctx.find_object(App)) from error
        except KeyboardInterrupt:
            interrupted(ctx.find_object(App))
            ctx.exit(130)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Begin with `dfens init`, then `dfens status` tells the next command at any time.",
)
@click.option(
    "-C",
    "folder",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Run in this folder instead of the current one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON, for programs.")
@click.version_option(__version__, prog_name="dfens")
@click.pass_context
def cli(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """From images to a scored submission: folds, out-of-fold predictions, an honest AUC blend, a checked upload.

    Run it in a folder with a dfens.toml, or name that folder with -C DIR. Results go to
    standard output, all else to standard error. Exit codes: 0 done, 1 a named error,
    2 wrong usage, 130 interrupted; `dfens submit --help` and `dfens train --help` name further ones.
    """
    ctx.obj = App(folder, as_json)
