"""`dfens status`: where the work stands, and what to run next."""

import click

from dfens.app import App, pass_app


@click.command("status", short_help="Where the work stands and what to run next.")
@pass_app
def command(app: App) -> None:
    """Tell what is done for each model and fold, the scores so far, and the next command."""
    from dfens.workflows.status import read_status

    status = read_status(app)
    app.emit(status.as_json(), *status.tables(), *status.lines())
