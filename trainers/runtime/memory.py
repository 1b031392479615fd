"""How much memory this process may still take, also inside a container."""

from pathlib import Path

import psutil

_GROUP = Path("/sys/fs/cgroup")


def free_memory(group: Path = _GROUP) -> int:
    """Bytes that can be taken without swapping: of the machine, or of the container where that has less.

    A container is killed at its own limit, of which the machine's figures know nothing. Pages of
    files that the kernel may drop do not count as taken.
    """
    free = int(psutil.virtual_memory().available)
    try:
        limit = int((group / "memory.max").read_text())  # "max" where there is none: no number
        taken = int((group / "memory.current").read_text())
        facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(0, min(free, limit - taken + int(facts.get("inactive_file", 0))))
    except (OSError, ValueError):
        return free
