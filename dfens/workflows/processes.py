"""The processes started by torchrun, recognised by its environment variables."""

import os


def under_torchrun() -> bool:
    """Return whether this is one of several processes started by torchrun."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first_process() -> bool:
    """Return whether this process reports: the only one, or the first one started by torchrun."""
    return not under_torchrun() or os.environ["RANK"] == "0"
