"""`dfens ablate`: what is a setting worth?"""

import dataclasses
import os
import re
import tomllib
from typing import Any

import click

from dfens.app import App, pass_app


@click.command("ablate", short_help="Train variants of a model on the same folds; paired differences.")
@click.argument("name", metavar="MODEL")
@click.option(
    "--set",
    "changes",
    multiple=True,
    required=True,
    metavar="KEY=VALUE[,KEY=VALUE]",
    help="One variant; give it again for more.",
)
@click.option("--fold", "fold_text", default="all", show_default=True, help="Folds to train: 0-4, 0,2 or all.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads that decode images; default one per core.")
@pass_app
def command(app: App, name: str, changes: tuple[str, ...], fold_text: str, threads: int | None) -> None:
    """Train a model of dfens.toml with changed settings and compare each variant with it, fold by fold.

    Variants lie in work/trainers/ablations, not among the models that are blended.

    Example: dfens ablate tiny --set jpeg=0.5 --set blur=0.3 --set jpeg=0.5,blur=0.3 --fold 0,1
    """
    from dfens.options import fold_indices
    from dfens.views.comparison import comparison_tables
    from dfens.workspace.config import build
    from oof.errors import ConfigError
    from trainers.analysis.ablation import ablate
    from trainers.analysis.plots import plot_gains
    from trainers.presets import with_preset

    if name not in app.config.models:
        raise ConfigError(f"dfens.toml has no [models.{name}]; it has {', '.join(app.config.models) or 'no models'}.")
    settings = app.config.models[name]
    variants = {}
    for change in changes:
        values = dataclasses.asdict(settings) | with_preset(_parse(change))
        variants[re.sub(r"[^A-Za-z0-9._-]+", "-", change).strip("-")] = build(type(settings), values, f"--set {change}")
    comparison = ablate(
        app.competition(),
        app.predictions,
        name,
        settings,
        variants,
        fold_indices(fold_text, app.predictions.folds.k),
        app.work / "trainers",
        metric=app.config.competition.metric,
        threads=threads or os.cpu_count() or 1,
        root=app.root,
        progress=app.progress,
    )
    picture = plot_gains(app.work / "reports" / "ablate" / f"{name}.png", comparison)
    lines = [f"Note: {note}" for note in comparison.notes] + [f"Picture: {picture}"]
    app.emit(comparison.as_json() | {"picture": picture}, *comparison_tables(comparison), "\n".join(lines))


def _parse(change: str) -> dict[str, Any]:
    """`jpeg=0.5,tta=none` as settings; a value that is no TOML value is text."""
    from oof.errors import ConfigError

    found: dict[str, Any] = {}
    for part in change.split(","):
        key, equals, text = part.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {change!r} is no change of a setting. Write KEY=VALUE, such as jpeg=0.5.")
        try:
            found[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            found[key.strip()] = text.strip()
    return found
