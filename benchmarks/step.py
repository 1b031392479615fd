"""Measure one training step beside other work, with threads that spin, threads that sleep, and one thread per process.

    python benchmarks/step.py [--size 64 128] [--busy 0 1 2]
    python benchmarks/step.py --bfloat16 resnet50 efficientnet_b0 [--size 96] [--repeats 3]

A step is forward, backward and update of resnet10t on 32 images in memory; the median of 11 steps of a new process. The
two processes of one thread run at the same time, as folds do in `dfens train`, so that their two steps count as one of
half the time. A busy process is an endless loop.

`--bfloat16` compares the processor time of a step in float32 and in bfloat16 autocast instead, in one thread of this
process, for each network named.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from typing import Any

_STEPS, _FIRST = 14, 3  # the first steps also allocate memory
# environment of each; without a wait policy, threads spin for a while before they sleep, which is torch's default
METHODS = {
    "two threads": {"OMP_NUM_THREADS": "2"},
    "two that sleep": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def step_ms(size: int) -> float:
    """Return the median time of a step in this process, in milliseconds."""
    import timm
    import torch

    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=1)
    optimizer = torch.optim.SGD(network.parameters(), 1e-3)
    images, target = torch.randn(32, 3, size, size), torch.rand(32)
    seconds = []
    for _ in range(_STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(images)[:, 0], target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds[_FIRST:])


def processor_ms(name: str, size: int, precision: str) -> float:
    """Return the median processor time of a step of a network in this thread, in milliseconds."""
    import timm
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    options: dict[str, Any] = {"img_size": size} if "vit" in name else {}
    network = timm.create_model(name, num_classes=1, **options).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    images = torch.randn(16, 3, size, size).contiguous(memory_format=torch.channels_last)
    target, seconds = torch.rand(16), []
    for _ in range(_STEPS):
        start = time.process_time()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = network(images)[:, 0]
        torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seconds.append(time.process_time() - start)
    return 1e3 * statistics.median(seconds[_FIRST:])


def compare_precisions(names: list[str], sizes: list[int], repeats: int) -> None:
    """Print the processor time of a step in both precisions, which alternate: medians and ranges."""
    print("| network | px | float32, ms | bfloat16, ms | bfloat16 is faster by |")
    print("|---|---:|---:|---:|---:|")
    for name in names:
        for size in sizes:
            pairs = [[processor_ms(name, size, kind) for kind in ("float32", "bfloat16")] for _ in range(repeats)]
            plain, short = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratios = sorted(one / other for one, other in pairs)
            middle = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
            print(f"| {name} | {size} | {plain:.0f} | {short:.0f} | {middle} |", flush=True)


def started(size: int, method: str) -> "subprocess.Popen[str]":
    """Start a process that prints its `step_ms`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    command = [sys.executable, __file__, "--alone", str(size)]
    return subprocess.Popen(command, env=inherited | METHODS[method], stdout=subprocess.PIPE, text=True)


def measured(*processes: "subprocess.Popen[str]") -> float:
    """Return the mean time of a step over processes that run at the same time."""
    return statistics.mean(float(process.communicate()[0]) for process in processes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs="+", default=[64, 128], help="width and height of the images")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="numbers of busy processes")
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    parser.add_argument(
        "--bfloat16", nargs="+", metavar="NETWORK", help="compare precisions for these networks instead"
    )
    parser.add_argument("--repeats", type=int, default=3, help="of --bfloat16")
    options = parser.parse_args()
    if options.alone is not None:
        print(step_ms(options.alone))
        return
    import torch
    from measure import busy, machine

    print(machine(torch.device("cpu")))
    if options.bfloat16:
        compare_precisions(options.bfloat16, options.size, options.repeats)
        return
    print("| px | busy | " + " | ".join(METHODS) + " | two processes, each | two processes are faster by |")
    print("|---:" * (len(METHODS) + 4) + "|")
    for size in options.size:
        for count in options.busy:
            with busy(count):
                found = [measured(started(size, method)) for method in METHODS]
                both = measured(*(started(size, "one thread") for _ in range(2)))
            cells = [f"{ms:.0f}" for ms in (*found, both)]
            print(f"| {size} | {count} | {' | '.join(cells)} | {2 * found[0] / both:.2f} |", flush=True)


if __name__ == "__main__":
    main()
