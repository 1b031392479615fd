"""Store resized images, so that no epoch decodes them again."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from dfens.workflows.selection import chosen_models
from dfens.workspace.paths import Workspace
from oof.progress import SILENT, Progress
from trainers.kinds.registry import kind_of
from trainers.media.image_cache import ImageCache


@dataclass(frozen=True)
class CacheState:
    """One cache: number of stored and missing images, current and missing size, and free disk space, in bytes."""

    size: int
    decode: str
    images: int
    cached: int
    bytes_cached: int
    bytes_missing: int
    bytes_free: int
    folder: str


@dataclass(frozen=True)
class Caches:
    """The caches used by the models in dfens.toml.

    left_out: files that cannot be decoded, with reasons. unused: folders of caches that no model uses.
    """

    caches: tuple[CacheState, ...]
    left_out: tuple[str, ...]
    unused: tuple[str, ...]


def update_caches(
    workspace: Workspace,
    names: Sequence[str] = (),
    *,
    dry_run: bool = False,
    remove: bool = False,
    threads: int,
    progress: Progress = SILENT,
) -> Caches:
    """Create the caches of all models or of those named; or only inspect or remove them."""
    folder = workspace.image_cache_dir()
    paths = workspace.whole_competition().paths
    wanted = {
        (images.size, images.decode)
        for settings in chosen_models(workspace.config.models, names).values()
        if (images := kind_of(settings).cached_images(settings)) is not None
    }
    if remove and not dry_run:
        patterns = [f"{size}px-{decode}-*" for size, decode in wanted] if names else ["*px-*"]
        for old in {path for pattern in patterns for path in folder.glob(pattern) if path.is_dir()}:
            shutil.rmtree(old)
    states, broken, used = [], [], set()
    for size, decode in sorted(wanted):
        cache = ImageCache(folder, size, decode, workspace.root)
        used.add(cache.folder.name)
        plan = cache.plan(paths, threads)
        if plan.missing and not (dry_run or remove):
            progress.note(
                f"{plan.missing:,} images of {size} px will take {plan.bytes_needed / 1e9:.2f} GB; "
                f"{plan.bytes_free / 1e9:.1f} GB are free."
            )
            broken += cache.make(paths, threads, progress)
            plan = cache.plan(paths, threads)
        states.append(
            CacheState(
                size,
                decode,
                plan.images,
                plan.images - plan.missing,
                plan.bytes_made,
                plan.bytes_needed,
                plan.bytes_free,
                workspace.shown(cache.folder),
            )
        )
    unused = () if names else sorted(path.name for path in folder.glob("*px-*") if path.name not in used)
    return Caches(tuple(states), tuple(dict.fromkeys(broken)), tuple(unused))
