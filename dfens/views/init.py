"""Recipes and a new dfens.toml as text."""

from collections.abc import Iterator, Sequence

from dfens.views.tables import FittedTable, make_table
from dfens.workflows.init import Recipe, Written


def show_written(found: Written) -> Iterator[str]:
    """Describe a new dfens.toml."""
    if found.kept is not None:
        yield f"The earlier file was moved to {found.kept}."
    yield f"Wrote {found.path} (recipe {found.recipe})."
    if found.recipe == "table":
        yield "Set the files, folders and columns of your data under [data]; comments explain the settings."
    yield f"Next: {found.next}"


def show_recipes(found: Sequence[Recipe]) -> Iterator[FittedTable | str]:
    """List recipes."""
    yield make_table([{"recipe": item.name, "for": item.summary} for item in found])
    yield "Next: dfens init --recipe NAME"
