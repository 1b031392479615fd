"""How many threads the numeric libraries of this process use."""

import os
import sys

from threadpoolctl import threadpool_limits

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def limit_threads(count: int) -> None:
    """Let the numeric libraries of this process use `count` threads each, also those that are loaded later.

    A lower limit that the user has set (OMP_NUM_THREADS) stays.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    count = min(count, int(given)) if given.isdigit() and int(given) else count
    os.environ.update(dict.fromkeys(_VARIABLES, str(count)))
    threadpool_limits(count)
    if "torch" in sys.modules:  # has read the variables already
        sys.modules["torch"].set_num_threads(count)
