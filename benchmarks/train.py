"""Measure training images per second: dfens from files, cache, memory and ready batches (the limit); a timm-style loop.

    OMP_NUM_THREADS=1 python benchmarks/train.py [--model resnet18] [--size 224] [--repeats 5] [--device cuda]

"From files": the steps of `trainers.kinds.training.fold_trainer.FoldTrainer` with decoding and augmentation, without
images in memory; "from the cache": resized images from disk; "kept in memory": decoded once, as dfens train does with
images that fit into memory. "Fed from memory": the same steps (optimiser, averaged weights, checks of the loss) on a
batch that is already prepared. "Images alone": decoding and augmentation without training steps. "Waits": fraction of
the time in which the next batch is not ready, so that training is limited by decoding; the rest of the difference to
"fed from memory" is due to augmentation on the device and to the interpreter lock, which all threads share.
"timm loop": create_loader with the same number of workers, BCE, AdamW, ModelEmaV3, loss.item() in each step, as in
timm's train.py with these options. Each method has its own process, and methods alternate within each repeat. On a GPU
all use its 16-bit floats, and MFU is reported: forward and backward FLOP/s relative to those of a large matrix product.
"Without a graph": the kernels of a step are started one by one instead of as a CUDA graph.
"""

import argparse
import dataclasses
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import timm
import torch
from loader import timm_loader_of
from measure import (
    Budget,
    Variant,
    cpu_ratio,
    each_in_time,
    machine,
    make_pictures,
    matmul_flops,
    ratio,
    show,
    time_in_turn,
)
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from oof.progress import SILENT
from trainers.kinds.timm.fold import ImageFoldData
from trainers.kinds.timm.settings import TimmSettings
from trainers.kinds.training.fold_trainer import FoldTrainer
from trainers.kinds.training.train_state import Batch
from trainers.media.image_cache import ImageCache
from trainers.media.image_store import ImageStore, Subset
from trainers.media.settings import DeviceDecode
from trainers.networks.optim import lr_at
from trainers.runtime.device import amp_type
from trainers.runtime.signals import StopRequest

Source = Literal["files", "cache", "memory"]


def rows_of(
    paths: list[str], size: int, workers: int, decode: DeviceDecode, source: Source = "files", folder: Path = Path()
) -> Subset:
    """Return all images as rows, read from files, from a cache in `folder`, or kept in memory."""
    view = None
    if source == "cache":
        cache = ImageCache(folder / "cache", size, "area")
        cache.make(paths, workers)
        view = cache.view(paths)
    store = ImageStore(paths, size, decode, workers, keep=source == "memory", cache=view)
    store.fill("")
    every = np.arange(len(paths))
    return Subset(store, every, np.array(paths, object), (every % 2).astype(np.int8))


def trainer_of(
    settings: TimmSettings,
    paths: list[str],
    folder: Path,
    device: torch.device,
    workers: int,
    source: Source = "files",
    *,
    graph: bool = True,
) -> FoldTrainer:
    """Return a trainer of one fold that never validates; on CUDA, with or without repeating steps as a graph."""
    rows = rows_of(paths, settings.image_size, workers, settings.decode, source, folder)
    data = ImageFoldData(settings, rows, pd.DataFrame(), lambda table: rows, seed=0, device=device, threads=workers)
    data.repeats = graph
    return FoldTrainer(settings, 0, data, folder / "state.pt", device)


class Waits:
    """Seconds that training waited for batches, and total seconds; can be updated from another process."""

    def __init__(self) -> None:
        self._waited, self._total = multiprocessing.Value("d", 0.0), multiprocessing.Value("d", 0.0)

    def watched(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield batches, and measure the time until each is ready."""
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self._waited.value += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    def add(self, seconds: float, *, warm: bool) -> None:
        """Add the time of a pass; the warm-up pass is ignored."""
        self._total.value = self._total.value + seconds if warm else 0.0
        self._waited.value *= warm

    @property
    def share(self) -> str:
        """Fraction of the time spent waiting, as text; empty if nothing was measured."""
        return f"{self._waited.value / self._total.value:.0%}" if self._total.value else ""


def training(
    settings: TimmSettings,
    paths: list[str],
    folder: Path,
    device: torch.device,
    workers: int,
    *,
    source: Source = "files",
    waits: Waits,
    graph: bool = True,
) -> Variant:
    """Return complete epochs of the training loop as a benchmark."""

    def make() -> Variant:
        trainer = trainer_of(settings, paths, folder, device, workers, source, graph=graph)
        batches, passes = trainer.data.batches, 0
        trainer.data.batches = lambda epoch, plan: waits.watched(batches(epoch, plan))  # type: ignore[method-assign]

        def run() -> int:
            nonlocal passes
            trainer.step = 0
            started = time.perf_counter()
            with SILENT.task("") as task:
                trainer._train_epoch(task, StopRequest())
            if device.type == "cuda":
                torch.cuda.synchronize()
            waits.add(time.perf_counter() - started, warm=passes > 0)
            passes += 1
            return trainer.steps_per_epoch * trainer.batch_size

        return run

    return lazy(make)


def images_alone(settings: TimmSettings, paths: list[str], folder: Path, device: torch.device, workers: int) -> Variant:
    """Return decoding and augmentation of an epoch, without training steps, as a benchmark."""

    def make() -> Variant:
        data = trainer_of(settings, paths, folder, device, workers).data
        size = settings.step_rows
        plan = [np.arange(start, start + size) for start in range(0, len(paths) - size + 1, size)]

        def run() -> int:
            for _ in data.batches(0, plan):
                pass
            return len(plan) * size

        return run

    return lazy(make)


def from_memory(
    settings: TimmSettings, paths: list[str], folder: Path, device: torch.device, *, graph: bool = True
) -> Variant:
    def make() -> Variant:
        rows = rows_of(paths, settings.image_size, 2, "area")
        trainer = trainer_of(settings, paths, folder, device, 2, graph=graph)
        size = trainer.batch_size
        images = torch.from_numpy(rows.images.take(np.arange(size))).to(device)
        target = torch.from_numpy(rows.target[:size].astype(np.float32)).to(device)

        def run() -> int:
            trainer.model.train()
            for step in range(trainer.steps_per_epoch):
                rate = lr_at(step, 10 * trainer.steps_per_epoch, settings)
                trainer.state.step(images, target, None, rate=rate, step=step, seed=(0, 0, step))
            return trainer.steps_per_epoch * size

        return run

    return lazy(make)


def timm_loop(settings: TimmSettings, paths: list[str], device: torch.device, workers: int) -> Variant:
    def make() -> Variant:
        from timm.utils.model_ema import ModelEmaV3

        model: nn.Module = timm.create_model(settings.backbone, num_classes=1).to(device)
        ema = ModelEmaV3(model, decay=settings.ema)
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
        loader = timm_loader_of(
            paths, settings.image_size, device, workers, changed=True, batch=settings.step_rows, drop_last=True
        )
        loss_of = nn.BCEWithLogitsLoss()
        amp = amp_type(device)

        def run() -> int:
            model.train()
            count = 0
            for step, (images, target) in enumerate(loader):
                with torch.autocast(device.type, dtype=amp, enabled=amp is not None):
                    loss = loss_of(model(images).flatten(), target.float())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                ema.update(model, step)
                loss.item()
                count += len(images)
            return count

        return run

    return lazy(make)


def lazy(make: Callable[[], Variant]) -> Variant:
    """Return a task that is created when it first runs, in the process in which it runs."""
    made: list[Variant] = []

    def run() -> int:
        if not made:
            made.append(make())
        return made[0]()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["resnet18", "convnext_atto"])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="threads or processes that decode")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, help="most time; repeats and models that do not fit are left out")
    parser.add_argument(
        "--only", nargs="+", help="names of the variants to compare with training from memory; default all"
    )
    parser.add_argument("--folder", type=Path, help="folder of images, generated if empty; default temporary")
    options = parser.parse_args()
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        count = options.batch * options.steps
        pictures = make_pictures(options.folder or folder, min(count, 512))
        paths = (pictures * -(-count // len(pictures)))[:count]
        print(f"{machine(device)}\n{options.steps} steps of {options.batch} images of {options.size} px from JPEG of ")
        print(f"512 px, {options.repeats} repeats.")
        each_in_time(options.model, options.seconds, lambda name, budget: compare(name, paths, folder, options, budget))


def compare(name: str, paths: list[str], folder: Path, options: argparse.Namespace, budget: Budget) -> None:
    """Print the table of one backbone."""
    device, workers = torch.device(options.device), options.workers
    settings = TimmSettings(
        backbone=name, pretrained=False, image_size=options.size, batch_size=options.batch, epochs=10**6
    )
    waits: dict[str, Waits] = {}

    def watched(label: str, chosen: TimmSettings, source: Source = "files", *, graph: bool = True) -> Variant:
        waits[label] = Waits()
        return training(chosen, paths, folder, device, workers, source=source, waits=waits[label], graph=graph)

    variants = {
        "fed from memory": from_memory(settings, paths, folder, device),
        "dfens from files": watched("dfens from files", settings),
        "dfens from the cache": watched("dfens from the cache", settings, "cache"),
        "dfens, kept in memory": watched("dfens, kept in memory", settings, "memory"),
        "timm loop": timm_loop(settings, paths, device, workers),
        "images alone, from files": images_alone(settings, paths, folder, device, workers),
    }
    if device.type == "cuda":
        label = "dfens from files, decoded on the device"
        variants[label] = watched(label, dataclasses.replace(settings, decode="gpu"))
        variants["fed, without a graph"] = from_memory(settings, paths, folder, device, graph=False)
        label = "dfens from files, without a graph"
        variants[label] = watched(label, settings, graph=False)
    if options.only is not None:
        variants = {label: variants[label] for label in ("fed from memory", *options.only)}
    timing = time_in_turn(variants, options.repeats, apart=device.type == "cpu", budget=budget)
    peers = {"fed from memory": "memory", "timm loop": "timm loop"}
    peers = {label: short for label, short in peers.items() if label in timing}
    heads = ["variant", "images/s", *(f"× {label}" for label in peers)]
    heads += [*(f"by CPU-s: × {short}" for short in peers.values()), "waits"]
    peak = flops = 1.0
    if device.type == "cuda":
        heads.append("MFU")
        peak, flops = matmul_flops(device, amp_type(device) or torch.float32), step_flops(settings, device)
    rows = []
    for label, found in timing.items():
        row: list[Any] = [f"{name}: {label}", f"{found.rate:.1f}"]
        row += [ratio(found, timing[peer]) for peer in peers] + [cpu_ratio(found, timing[peer]) for peer in peers]
        row.append(waits[label].share if label in waits else "")
        if device.type == "cuda":
            row.append("" if label.startswith("images") else f"{flops * found.rate / peak:.2f}")
        rows.append(row)
    show(heads, rows)  # after each model, so that a stopped run loses at most one


def step_flops(settings: TimmSettings, device: torch.device) -> float:
    """Return the number of operations of the forward and backward pass for one image."""
    model: nn.Module = timm.create_model(settings.backbone, num_classes=1).to(device)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, settings.image_size, settings.image_size, device=device)).sum().backward()
    return float(counter.get_total_flops())


if __name__ == "__main__":
    main()
