"""Count the CPUs that this process may use, which are fewer than the machine has in a container or under `taskset`."""

import os
from pathlib import Path

_PROC = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def wait_passively() -> None:
    """Make the OpenMP threads of libraries loaded from now on sleep while they wait for each other.

    By default they spin at every barrier. On a machine with other work, which the spinning takes CPU time from, a
    training step then takes 3 to 7 times as long; on an idle machine, sleeping costs at most a few percent.
    """
    for name, value in (("OMP_WAIT_POLICY", "PASSIVE"), ("KMP_BLOCKTIME", "0")):
        os.environ.setdefault(name, value)


def cpu_count(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Return the number of CPUs that this process may use, at least 1.

    It respects the affinity mask and the CPU quotas of the process's control group and of all its ancestors (versions
    1 and 2 of Linux control groups). `os.cpu_count` ignores both, which would start many threads on few CPUs.

    Args:
        proc, cgroups: paths of the kernel's files; changed only in tests.
    """
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _own_groups(proc, cgroups) if (quota := _quota(folder)) is not None]
    return max(1, int(min([found, *quotas])))


def _own_groups(proc: Path, cgroups: Path) -> list[Path]:
    """Return the folders of the control groups that limit this process, of both versions.

    In a container the root is the container's own control group.
    """
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
    """Return the CPU quota of a control group as a number of CPUs, or None without a limit."""
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
