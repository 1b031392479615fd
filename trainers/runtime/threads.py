"""Limit the number of threads that the numeric libraries of this process use."""

import os
import sys
from functools import cache

from threadpoolctl import threadpool_limits

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def limit_threads(count: int) -> None:
    """Make the numeric libraries of this process use `count` threads each, including libraries loaded later.

    A lower limit set by the user (OMP_NUM_THREADS) is kept. A later call may raise the number again: results are those
    of a process that started with it.
    """
    given = _set_by_user()
    count = min(count, int(given)) if given.isdigit() and int(given) else count
    os.environ.update(dict.fromkeys(_VARIABLES, str(count)))
    threadpool_limits(count)
    if "torch" in sys.modules:  # torch has already read the environment variables
        sys.modules["torch"].set_num_threads(count)


@cache
def _set_by_user() -> str:
    """Return OMP_NUM_THREADS as it was before `limit_threads` changed it."""
    return os.environ.get("OMP_NUM_THREADS", "")
