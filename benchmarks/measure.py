"""Helpers for the benchmarks of the trainers: generated images, interleaved timing, memory, and Markdown tables."""

import functools
import math
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np
import psutil
import torch

from oof.cpus import cpu_count

cv2.setNumThreads(1)  # a child that is forked while OpenCV has a pool of threads hangs when it changes their number

Variant = Callable[[], int]  # a task: runs and returns the number of images


def make_pictures(folder: Path, count: int, image_size: int = 512, quality: int = 90) -> list[str]:
    """Write images of smooth noise with some grain, as large in bytes as photos of faces; existing files are reused."""
    folder.mkdir(parents=True, exist_ok=True)
    frequency = np.hypot(np.fft.fftfreq(image_size)[:, None], np.fft.rfftfreq(image_size)[None])
    fall = np.maximum(frequency, 1 / image_size) ** -1.5

    def draw(row: int) -> str:
        path = folder / f"{row:05d}.jpg"
        if not path.exists():
            rng = np.random.default_rng(row)
            planes = []
            for spread in (45, 10, 10):  # brightness and two colour channels
                waves = fall * np.exp(2j * np.pi * rng.random(fall.shape))
                plane = np.fft.irfft2(waves, (image_size, image_size))
                planes.append(128 + spread * plane / plane.std() + 2 * rng.standard_normal((image_size, image_size)))
            ycc = np.clip(np.stack(planes, 2), 0, 255).astype(np.uint8)
            picture = cv2.cvtColor(ycc, cv2.COLOR_YCrCb2BGR)
            path.write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
        return str(path)

    with ThreadPoolExecutor(cpu_count()) as pool:
        return list(pool.map(draw, range(count)))


@dataclass
class Timing:
    """Repeats of one task: seconds, processor seconds (including its workers), and images."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    images: int = 0

    @property
    def rate(self) -> float:
        """Median of images per second."""
        return self.images / statistics.median(self.seconds)

    @property
    def cpu_rate(self) -> float:
        """Median of images per processor second."""
        return self.images / statistics.median(self.cpu)


class Budget:
    """The seconds that a benchmark may take; work that does not fit is left out and reported."""

    def __init__(self, seconds: float | None = None) -> None:
        self._begun, self._seconds = time.monotonic(), math.inf if seconds is None else seconds

    def allows(self, seconds: float = 0.0) -> bool:
        """Return whether this many more seconds are left."""
        return time.monotonic() + seconds < self._begun + self._seconds

    def part(self, share: float) -> "Budget":
        """Return the budget of the first share of the time."""
        found = Budget(self._seconds * share)
        found._begun = self._begun
        return found


def each_in_time(names: Sequence[str], seconds: float | None, compare: Callable[[str, Budget], None]) -> None:
    """Compare one model after the other, each with an equal share of the time and what the earlier ones left.

    A model is left out, and named, if less time is left than its share and than the one before it took.
    """
    whole, last = Budget(seconds), 0.0
    share = math.inf if seconds is None else seconds / len(names)
    for place, name in enumerate(names, start=1):
        if not whole.allows(last):
            print(f"\n{name}: left out, no time left.")
            continue
        started = time.monotonic()
        compare(name, whole.part(place / len(names)))
        last = min(share, time.monotonic() - started)


def time_in_turn(
    variants: Mapping[str, Variant], repeats: int, *, apart: bool = True, budget: Budget | None = None
) -> dict[str, Timing]:
    """Time each variant once per repeat, after a warm-up run, so that a busy machine slows all of them equally.

    apart: whether to run each variant in its own process, forked now, so that none is affected by the memory of others.
    budget: after the first, a repeat is only started if it is expected to end within the budget.
    """
    budget, last = budget or Budget(), 0.0
    found = {name: Timing() for name in variants}
    runs = {name: _Apart(run) if apart else functools.partial(_timed, run) for name, run in variants.items()}
    for repeat in range(repeats + 1):
        if repeat > 1 and not budget.allows(last):
            print(f"{repeat - 1} of {repeats} repeats: no time left for more.")
            break
        started = time.monotonic()
        for name, run in runs.items():
            seconds, cpu, images = run()
            if repeat:
                found[name].seconds.append(seconds)
                found[name].cpu.append(cpu)
                found[name].images = images
        last = time.monotonic() - started
    for run in runs.values():
        if isinstance(run, _Apart):
            run.end()
    return found


def _timed(variant: Variant) -> tuple[float, float, int]:
    started, cpu = time.perf_counter(), _cpu_seconds()
    images = variant()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, max(_cpu_seconds() - cpu, 1e-9), images


class _Apart:
    """Run and time a task in another process."""

    def __init__(self, variant: Variant) -> None:
        self._pipe, there = multiprocessing.Pipe()
        # a thread pool that torch created before would not survive the fork
        self._process = multiprocessing.get_context("fork").Process(target=_serve, args=(variant, there))
        self._process.start()

    def __call__(self) -> tuple[float, float, int]:
        self._pipe.send(True)
        found: tuple[float, float, int] = self._pipe.recv()
        return found

    def end(self) -> None:
        self._pipe.send(False)
        self._process.join()


def _serve(variant: Variant, pipe: Connection) -> None:
    parent = os.getppid()
    while True:
        while not pipe.poll(1):
            if os.getppid() != parent:
                os._exit(1)
        if not pipe.recv():
            os._exit(0)  # the workers of its loaders notice and exit too
        pipe.send(_timed(variant))


def _cpu_seconds() -> float:
    """Return the processor seconds of this process, its living children and those that it has waited for."""
    times = psutil.Process().cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in psutil.Process().children(recursive=True):
        try:
            spent = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += spent.user + spent.system
    return float(total)


def cpu_ratio(first: Timing, second: Timing) -> str:
    """Return the same ratio in processor seconds, which are less sensitive to other load on the machine."""
    return ratio(Timing(first.cpu), Timing(second.cpu))


def ratio(first: Timing, second: Timing) -> str:
    """Return the speed of the first relative to the second: median and range of the ratios within each repeat."""
    values = [b / a for a, b in zip(first.seconds, second.seconds, strict=True)]
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def peak_memory(arguments: Sequence[str]) -> int:
    """Return the peak memory of a command and its children in bytes, without files; shared memory counts once."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        try:
            tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            most = max(most, sum(map(_own_bytes, tree)))
        except (psutil.NoSuchProcess, OSError):
            pass
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed with {process.returncode}")
    return most


def _own_bytes(process: psutil.Process) -> int:
    """Return the memory of a process that is not mapped from files: its share of anonymous and shared memory."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    facts = {line.split(":")[0]: line.split()[1] for line in lines[1:]}
    return 1024 * (int(facts["Pss_Anon"]) + int(facts["Pss_Shmem"]))


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Run `count` processes that keep the CPU busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def machine(device: torch.device) -> str:
    """Return a line that describes the machine and the versions of the libraries."""
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    packages = ("torch", "torchvision", "timm", "opencv-python-headless", "pillow", "numpy")
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{chip}, {cpu_count()} cores, load {load}, torch threads {torch.get_num_threads()}; Python "
        f"{platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in packages) + "."
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def show(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print("\n| " + " | ".join(heads) + " |")
    print("|---|" + "---:|" * (len(heads) - 1))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations per second of a large matrix product, the reference for MFU."""
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = 0.0
    for _ in range(10):
        started = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best
