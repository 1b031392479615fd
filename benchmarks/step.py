"""Measure one training step beside other work, with threads that spin, threads that sleep, and one thread per process.

    python benchmarks/step.py [--size 64 128] [--busy 0 1 2]

A step is forward, backward and update of resnet10t on 32 images in memory; the median of 11 steps of a new process. The
two processes of one thread run at the same time, as folds do in `dfens train`, so that their two steps count as one of
half the time. A busy process is an endless loop.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

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
    options = parser.parse_args()
    if options.alone is not None:
        print(step_ms(options.alone))
        return
    import torch
    from measure import busy, machine

    print(machine(torch.device("cpu")))
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
