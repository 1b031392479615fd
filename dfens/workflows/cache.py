"""Store resized images, so that no epoch decodes them again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dfens.workflows.selection import chosen_models
from dfens.workspace.paths import Workspace
from oof.progress import SILENT, Progress
from trainers.kinds.base import CachedImages, ModelSettings
from trainers.kinds.registry import kind_of
from trainers.media.image_cache import ImageCache
from trainers.media.stored_files import remove_store


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
    chosen = chosen_models(workspace.config.models, names)
    wanted = set(_images_of(chosen).values())
    if remove:
        others = {name: settings for name, settings in workspace.config.models.items() if name not in chosen}
        shared = {images: name for name, images in _images_of(others).items() if images in wanted}
        for images, name in shared.items():
            progress.note(f"Kept {_folder_of(images)}: {name} uses it, too. To remove it, add --model {name}.")
        patterns = [f"{_folder_of(images)}-*" for images in wanted - shared.keys()] if names else ["*px-*"]
        for old in () if dry_run else {path for each in patterns for path in folder.glob(each) if path.is_dir()}:
            remove_store(old)
    states, broken, used = [], [], set()
    for size, decode in sorted((images.size, images.decode) for images in wanted):
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


def _images_of(models: Mapping[str, ModelSettings]) -> dict[str, CachedImages]:
    """Return the cached images of each model that can read a cache."""
    cached = {name: kind_of(settings).cached_images(settings) for name, settings in models.items()}
    return {name: images for name, images in cached.items() if images is not None}


def _folder_of(images: CachedImages) -> str:
    """Return the start of the name of a cache's folder; a fingerprint follows."""
    return f"{images.size}px-{images.decode}"
