"""Memory that is available to this process, also inside a container."""

from pathlib import Path

import psutil

_GROUP = Path("/sys/fs/cgroup")


def free_memory(group: Path = _GROUP) -> int:
    """Return the available memory in bytes without swapping, of the machine or the container, whichever is less.

    A container is killed at its own limit, which the machine's figures do not include. Cached file pages that the
    kernel can drop count as available.
    """
    free = int(psutil.virtual_memory().available)
    try:
        limit = int((group / "memory.max").read_text())  # "max" if there is no limit, which raises ValueError
        taken = int((group / "memory.current").read_text())
        facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(0, min(free, limit - taken + int(facts.get("inactive_file", 0))))
    except (OSError, ValueError):
        return free
