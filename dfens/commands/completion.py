"""`dfens completion`: completion of commands, options and names in the shell."""

import click
from click.shell_completion import get_completion_class

from dfens.console import Console
from dfens.invocation import pass_workspace
from dfens.workspace.paths import Workspace

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", short_help="Print a script for shell completion.")
@click.argument("shell", type=click.Choice(SHELLS))
@pass_workspace
def command(workspace: Workspace, console: Console, shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    eval "$(dfens completion bash)"          # in ~/.bashrc
    eval "$(dfens completion zsh)"           # in ~/.zshrc, after compinit
    dfens completion fish > ~/.config/fish/completions/dfens.fish
    """
    completion = get_completion_class(shell)
    if completion is None:  # a shell that this version of click does not support
        raise click.UsageError(f"{shell} is not supported by click {click.__version__}.")
    script = completion(click.get_current_context().find_root().command, {}, "dfens", "_DFENS_COMPLETE").source()
    console.show({"shell": shell, "script": script}, [script])
