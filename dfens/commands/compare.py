"""`dfens compare`: is one model better than another, and how do they bear harm?"""

import click

from dfens.app import App, pass_app


@click.command("compare", short_help="Paired differences between models, with intervals and robustness curves.")
@click.argument("names", nargs=-1, required=True, metavar="MODEL MODEL…")
@click.option("--metric", help="Metric to compare by; default [competition] metric.")
@click.option("--robustness", is_flag=True, help="Also the AUC under JPEG, blur, noise and smaller sizes.")
@click.option("--rows", type=click.IntRange(min=20), default=500, show_default=True, help="Held-out images to harm.")
@pass_app
def command(app: App, names: tuple[str, ...], metric: str | None, robustness: bool, rows: int) -> None:
    """Compare models with the first one named, on the rows that all of them predict out of fold.

    Prints each model's score and the paired difference with its 95 % interval; pictures go to
    work/reports/compare. --robustness needs the trained folds of models of dfens.toml.
    """
    from dfens.views.comparison import comparison_tables, curve_table
    from oof.analysis.compare import compare_models
    from oof.errors import ConfigError
    from trainers.analysis.plots import plot_curves, plot_gains

    chosen = metric or app.config.competition.metric
    comparison = compare_models(app.predictions, names, metric=chosen)
    folder = app.work / "reports" / "compare" / "-vs-".join(names)[:100]
    found = comparison.as_json() | {"pictures": [plot_gains(folder / "gains.png", comparison)]}
    shown = comparison_tables(comparison)
    if robustness:
        from trainers.analysis.robustness import robustness_curves

        unknown = [name for name in names if name not in app.config.models]
        if unknown:
            raise ConfigError(
                f"--robustness predicts images anew, and dfens.toml has no [models.{unknown[0]}]. Compare it without "
                f"--robustness, or add its section."
            )
        points = robustness_curves(
            app.competition(),
            app.predictions,
            {name: app.config.models[name] for name in names},
            app.work / "trainers",
            rows=rows,
            progress=app.progress,
        )
        found["curves"] = [vars(point) for point in points]
        found["pictures"].append(plot_curves(folder / "robustness.png", points))
        shown.append(curve_table(points))
    lines = [f"Note: {note}" for note in comparison.notes] + [f"Picture: {path}" for path in found["pictures"]]
    app.emit(found, *shown, "\n".join(lines))
