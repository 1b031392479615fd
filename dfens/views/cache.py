"""Image caches as text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dfens.views.tables import FittedTable, make_table

if TYPE_CHECKING:
    from dfens.workflows.cache import Caches


def cache_notes(found: "Caches") -> Iterator[str]:
    """List files that were left out, and caches that no model uses."""
    yield from (f"Left out: {message}" for message in found.left_out)
    if found.unused:
        yield f"No model uses {', '.join(found.unused)} any more; dfens cache --remove removes all caches."


def show_caches(found: "Caches") -> "Iterator[FittedTable | str]":
    """List caches with their sizes in GB."""
    rows = [
        {
            "size": f"{cache.size} px",
            "decode": cache.decode,
            "images": cache.images,
            "cached": cache.cached,
            "GB": cache.bytes_cached / 1e9,
            "GB_missing": cache.bytes_missing / 1e9,
            "GB_free": cache.bytes_free / 1e9,
            "folder": cache.folder,
        }
        for cache in found.caches
    ]
    if rows:
        yield make_table(rows, title="Caches", decimals=2, optional=["GB_free", "folder"])
    else:
        yield "No model in dfens.toml uses a cache."
