"""Images of a model's rows: decoded images shared by all models of one size, and the subsets used by folds."""

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import TrainingError, examples
from trainers.data.row_names import RowNames
from trainers.kinds.base import ModelContext
from trainers.media.image_cache import CacheView, ImageCache
from trainers.media.image_store import SHARE_OF_MEMORY, ImageStore, Subset
from trainers.media.settings import ImageSettings
from trainers.runtime.memory import free_memory

if TYPE_CHECKING:
    import pandas as pd


def subset(context: ModelContext[Any], table: "pd.DataFrame", *, weight: NDArray[np.float32] | None = None) -> Subset:
    """Return the images of a table's rows, using the competition's images if possible.

    Args:
        context: a context whose settings include ImageSettings.
        table: table with id and path, and optionally target (0 to 1).
        weight: (n_rows,) weight of each row in the loss.
    """
    images, place = _competition_images(context)
    paths = table["path"].tolist()
    if all(path in place for path in paths):
        positions = np.array([place[path] for path in paths], np.intp)
    else:
        settings: ImageSettings = context.settings
        images = ImageStore(paths, settings.stored_size, settings.decode, context.threads, keep=False)
        positions = np.arange(len(paths))
    target = table["target"].to_numpy(np.float32) if "target" in table else np.zeros(len(table), np.float32)
    return Subset(images, positions, table["id"].to_numpy(object), target, weight)


def fill_images(context: ModelContext[Any]) -> None:
    """Decode the images of all rows now if they are kept in memory."""
    images, _ = _competition_images(context)
    images.fill(f"decode at {images.size} px", context.progress)


def note_repeated_decoding(context: ModelContext[Any]) -> None:
    """Report images that each epoch decodes again, and what a cache of them would take."""
    settings: ImageSettings = context.settings
    key = ("noted", settings.stored_size, settings.decode)
    if context.cache_dir is None or settings.decode == "gpu" or key in context.shared:
        return
    context.shared[key] = True
    count, size = len(context.train) + len(context.test), settings.stored_size
    needed, memory = count * size * size * 3, SHARE_OF_MEMORY * free_memory()
    cache = ImageCache(context.cache_dir, size, settings.host_decode, context.root)
    if needed <= memory or cache.exists:
        return
    free = shutil.disk_usage(next(path for path in (cache.folder, *cache.folder.parents) if path.exists())).free
    context.progress.note(
        f"{count:,} images of {size} px take {needed / 1e9:.1f} GB, of which {memory / 1e9:.1f} GB may stay in memory: "
        f"each epoch decodes the others again. If this slows training down, run dfens cache, which stores all of "
        f"them: {free / 1e9:.1f} GB are free on its disk."
    )


def _competition_images(context: ModelContext[Any]) -> tuple[ImageStore, dict[str, int]]:
    """Return the images of all rows, training rows first, and each path's position; shared by models of one size."""
    settings: ImageSettings = context.settings
    size, decode = settings.stored_size, settings.decode
    key = ("images", size, decode)
    if key not in context.shared:
        paths = [*context.train["path"], *context.test["path"]]
        cache = None if decode == "gpu" else _cache(context, paths)
        share = SHARE_OF_MEMORY / context.processes
        images = ImageStore(paths, size, decode, context.threads, cache=cache, share=share)
        context.shared[key] = images, {path: at for at, path in enumerate(paths)}
    found: tuple[ImageStore, dict[str, int]] = context.shared[key]
    return found


def _cache(context: ModelContext[Any], paths: Sequence[str]) -> CacheView | None:
    """Return the resized images on disk if `dfens cache` created them; a note gives the number of missing ones."""
    settings: ImageSettings = context.settings
    if context.cache_dir is None:
        return None
    cache = ImageCache(context.cache_dir, settings.stored_size, settings.host_decode, context.root)
    view = cache.view(paths, context.threads)
    if view is not None and view.found < len(paths):
        context.progress.note(
            f"The cache contains {view.found:,} of {len(paths):,} images of {settings.stored_size} px; the others are "
            f"decoded from their files. Run dfens cache to add them."
        )
    return view


def originals(context: ModelContext[Any], table: "pd.DataFrame", name: str) -> NDArray[np.object_] | None:
    """Return the id of the real from which each row was made, "" if unknown; None without such a column.

    Names are looked up among all training rows, in any spelling, as for groups.

    Raises:
        TrainingError: if no fake names a real.
    """
    if not name:
        return None
    ids, target, paths = (context.train[column].to_numpy() for column in ("id", "target", "path"))
    names, values = RowNames(ids, target, paths), context.column(table, name, "pair_column").fillna("").astype(str)
    found = {text: names.rows_of(text) for text in values.unique()}
    id_of = {text: str(ids[rows[0]]) if len(rows) == 1 else "" for text, rows in found.items()}
    if not any(id_of[text] for text in values[table["target"] == 1]):
        raise TrainingError(
            f"Model '{context.name}': pair_column = {name!r} names no training row for any fake, so pair_mix could not "
            f"mix anything. It must contain ids or file names of the reals that the fakes were made from, such as "
            f"'{ids[0]}'; found {examples([text for text in values.unique() if text]) or 'only empty values'}."
        )
    return np.array([id_of[text] for text in values], object)
