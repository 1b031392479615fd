"""How many processors this process may use: fewer than the machine has in a container or under `taskset`."""

import os
from pathlib import Path

_PROC = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def wait_passively() -> None:
    """Let the OpenMP threads of libraries that are loaded from now on sleep while they wait for each other.

    By default they spin at every barrier. Beside other work, which the spinning takes the processor from, a training
    step then takes 3 to 7 times as long; alone on a machine, sleeping costs at most a few percent.
    """
    for name, value in (("OMP_WAIT_POLICY", "PASSIVE"), ("KMP_BLOCKTIME", "0")):
        os.environ.setdefault(name, value)


def cpu_count(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Return the number of processors that this process may use, at least 1.

    The affinity mask and the CPU quotas of its control group and of all groups above it count (version 1 and 2 of
    Linux control groups); `os.cpu_count` knows none of them, so that its many threads take turns on few processors.

    Args:
        proc, cgroups: the kernel's files; other paths only in tests.
    """
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _own_groups(proc, cgroups) if (quota := _quota(folder)) is not None]
    return max(1, int(min([found, *quotas])))


def _own_groups(proc: Path, cgroups: Path) -> list[Path]:
    """Folders of the control groups that limit this process, of both versions; in a container the root is its own."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return []
    found = [cgroups, cgroups / "cpu", cgroups / "cpu,cpuacct"]
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        for root in [cgroups / controllers, cgroups / "cpu"] if controllers else [cgroups]:
            group = root / path.lstrip("/")
            found += [group, *(parent for parent in group.parents if root in parent.parents)]
    return found


def _quota(folder: Path) -> float | None:
    """Processors' worth of time that a control group may use, or None for no limit."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()  # version 2; "max" for no limit
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text()  # version 1; -1 for no limit
            period = (folder / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        return float(quota) / float(period) if float(quota) > 0 else None
    except (ValueError, ZeroDivisionError):
        return None
