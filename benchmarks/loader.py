"""Compare images per second of the loader with those of timm and torchvision for the same output, as Markdown tables.

    OMP_NUM_THREADS=1 python benchmarks/loader.py [--images 384] [--repeats 7] [--image-size 256] [--device cuda]

JPEG files of 512 px are loaded as normalised float batches (64, 3, size, size) on the device: "plain" as for
prediction, "augmented" with random window, mirror and colour as for training. All have the same number of workers
(threads in dfens, processes in the others), which persist between passes. Each loader has its own process, and loaders
take turns within each repeat.
--memory: peak memory of a separate process and its workers, minus the memory after importing torch and timm.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from measure import (
    Budget,
    Variant,
    cpu_ratio,
    each_in_time,
    machine,
    make_pictures,
    peak_memory,
    ratio,
    show,
    time_in_turn,
)
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from trainers.kinds.timm.fold import ImageFoldData
from trainers.kinds.timm.settings import TimmSettings
from trainers.media.image_cache import ImageCache
from trainers.media.image_store import ImageStore, Subset
from trainers.media.loader import Loader, batch_plan
from trainers.media.settings import DeviceDecode
from trainers.networks.normalise import Normalise
from trainers.runtime.device import keep_freed_memory

BATCH = 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SETTINGS = TimmSettings(backbone="resnet18", translate=1.0, hflip=0.5, color_jitter=1.0)


class Files(Dataset[tuple[Tensor, int]]):
    """Image files with a transform; all labels are 0."""

    def __init__(self, paths: list[str], read: Callable[[str], Any], transform: Any = None) -> None:
        self.paths, self.read, self.transform = paths, read, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        image = self.read(self.paths[row])
        return (image if self.transform is None else self.transform(image)), 0


def read_pillow(path: str) -> Image.Image:
    return Image.open(path).convert("RGB")


def read_torchvision(path: str) -> Tensor:
    import warnings

    from torchvision.io import ImageReadMode, decode_image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Tensor = decode_image(path, ImageReadMode.RGB)
    return found


def consume(batches: Iterable[Any], device: torch.device, image_size: int) -> int:
    """Iterate over all batches as in training; return the number of images."""
    count = 0
    for batch in batches:
        images = batch if isinstance(batch, Tensor) else batch[0]
        images = images.to(device, non_blocking=True)
        assert images.dtype == torch.float32
        assert images.shape[1:] == (3, image_size, image_size)
        count += len(images)
    return count


def ours(store: ImageStore, device: torch.device, workers: int, *, changed: bool) -> Variant:
    rows = Subset(
        store, np.arange(len(store.paths)), np.array(store.paths, object), np.zeros(len(store.paths), np.int8)
    )
    keep_freed_memory()  # as in training
    loader = Loader(workers, pin=device.type == "cuda")
    normalise = Normalise(nn.Identity(), device)
    plan = batch_plan(len(store.paths), BATCH)
    settings = dataclasses.replace(SETTINGS, image_size=store.size, decode=store.decode)
    data = ImageFoldData(settings, rows, pd.DataFrame(), lambda table: rows, seed=0, device=device, threads=workers)

    def augmented() -> Iterable[Tensor]:
        for batch in data.batches(0, plan):
            assert isinstance(batch, Tensor)
            yield batch

    def run() -> int:
        batches = augmented() if changed else loader.rows(plan, rows, device)
        return consume(map(normalise, batches), device, store.size)

    return run


def timm_loader_of(
    paths: list[str],
    image_size: int,
    device: torch.device,
    workers: int,
    *,
    changed: bool,
    batch: int = BATCH,
    drop_last: bool = False,
) -> Any:
    """Return timm's loader for these files."""
    from timm.data.loader import create_loader

    files: Any = Files(paths, read_pillow)
    loader = create_loader(
        files,
        (3, image_size, image_size),
        batch,
        is_training=changed,
        scale=(0.85, 1.0),
        ratio=(1.0, 1.0),
        hflip=0.5,
        color_jitter=0.2,
        interpolation="bicubic",
        crop_pct=1.0,
        crop_mode="squash",
        mean=MEAN,
        std=STD,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        device=device,
        persistent_workers=True,
    )
    loader.loader.batch_sampler.drop_last = drop_last
    return loader


def timm_loader(paths: list[str], image_size: int, device: torch.device, workers: int, *, changed: bool) -> Variant:
    loader = timm_loader_of(paths, image_size, device, workers, changed=changed)
    return lambda: consume(loader, device, image_size)


def torchvision_loader(
    paths: list[str], image_size: int, device: torch.device, workers: int, *, changed: bool, pillow: bool
) -> Variant:
    resize = v2.Resize(
        (image_size, image_size), v2.InterpolationMode.BICUBIC if pillow else v2.InterpolationMode.BILINEAR
    )
    crop = v2.RandomResizedCrop(
        image_size, (0.85, 1.0), (1.0, 1.0), v2.InterpolationMode.BICUBIC if pillow else v2.InterpolationMode.BILINEAR
    )
    steps: list[Any] = [crop, v2.RandomHorizontalFlip(), v2.ColorJitter(0.2, 0.2, 0.2)] if changed else [resize]
    steps += [v2.ToImage()] if pillow else []
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    loader = DataLoader(
        Files(paths, read_pillow if pillow else read_torchvision, v2.Compose(steps)),
        BATCH,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    return lambda: consume(loader, device, image_size)


def make_variants(
    paths: list[str], image_size: int, device: torch.device, workers: int, cache_dir: Path
) -> dict[str, Variant]:
    """Return all loaders by name; those of timm and torchvision start their processes in the first pass."""
    found: dict[str, Callable[[], Variant]] = {}
    decodes: list[DeviceDecode] = ["area", "scaled", "pil"]
    if device.type == "cuda":
        decodes.append("gpu")
    for changed, kind in ((False, "plain"), (True, "changed")):
        for decode in decodes:
            store = ImageStore(paths, image_size, decode, workers, keep=False)
            found[f"{kind}: dfens, {decode}"] = partial(ours, store, device, workers, changed=changed)
        cache = ImageCache(cache_dir, image_size, "area")

        def cached(cache: ImageCache = cache, changed: bool = changed) -> Variant:
            cache.make(paths, workers)
            store = ImageStore(paths, image_size, "area", workers, keep=False, cache=cache.view(paths))
            return ours(store, device, workers, changed=changed)

        found[f"{kind}: dfens, cache"] = cached
        found[f"{kind}: timm create_loader"] = partial(timm_loader, paths, image_size, device, workers, changed=changed)
        for pillow, name in ((True, "Pillow"), (False, "decode_image")):
            found[f"{kind}: torchvision, {name}"] = partial(
                torchvision_loader, paths, image_size, device, workers, changed=changed, pillow=pillow
            )
    return {name: _lazy(make) for name, make in found.items()}


def _lazy(make: Callable[[], Variant]) -> Variant:
    made: list[Variant] = []

    def run() -> int:
        if not made:
            made.append(make())
        return made[0]()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="folder of images, generated if empty; default temporary")
    parser.add_argument("--memory", action="store_true", help="report memory too (a process for each variant)")
    parser.add_argument("--seconds", type=float, help="most time; repeats that do not fit are left out")
    parser.add_argument("--only", help="run this variant alone, once, and print nothing (for memory)")
    options = parser.parse_args()
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        paths = make_pictures(folder, options.images)
        variants = make_variants(paths, options.image_size, device, options.workers, folder / "cache")
        if options.only is not None:
            if options.only:
                variants[options.only]()
            return
        bytes_each = sum(Path(path).stat().st_size for path in paths) / len(paths)
        print(machine(device))
        print(f"{len(paths)} JPEG of 512 px, {bytes_each / 1e3:.0f} kB each, to {options.image_size} px; ")
        print(f"{options.workers} workers, {options.repeats} repeats.")

        def compare(kind: str, budget: Budget) -> None:
            chosen = {name: variant for name, variant in variants.items() if name.startswith(kind)}
            timing = time_in_turn(chosen, options.repeats, apart=device.type == "cpu", budget=budget)
            base = timing[f"{kind}: timm create_loader"]
            show(
                ["loader", "img/s", "× timm", "img/CPU-s", "× timm by CPU-s"],
                [
                    (
                        name,
                        f"{found.rate:.0f}",
                        ratio(found, base),
                        f"{found.cpu_rate:.0f}",
                        cpu_ratio(found, base),
                    )
                    for name, found in timing.items()
                ],
            )

        each_in_time(["plain", "changed"], options.seconds, compare)
        if options.memory:
            show_memory(list(variants), folder, options)


def show_memory(names: list[str], folder: Path, options: argparse.Namespace) -> None:
    """Print a table of the memory of each loader, for a third of the images and for all."""
    here = [__file__, "--folder", str(folder), "--image-size", str(options.image_size), "--device", options.device]
    here += ["--workers", str(options.workers)]
    bare = peak_memory([*here, "--images", "0", "--only", ""])
    counts = (options.images // 3, options.images)
    rows = []
    for name in names:
        found = [(peak_memory([*here, "--images", str(count), "--only", name]) - bare) / 1e6 for count in counts]
        rows.append([name, *(f"{value:.0f}" for value in found)])
    show(["loader", *(f"MB, {count} images" for count in counts)], rows)


if __name__ == "__main__":
    main()
