"""Functions compiled by numba and cached on disk, so that only the first run on a machine waits for the compiler."""

from collections.abc import Callable
from typing import TypeVar

import numba

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile on the first call, without the GIL; cache the machine code next to the module or in the user's cache.

    If neither folder is writable (a read-only install without a home folder), the
    function is compiled again in each process instead of failing.

    A compiled function must only call compiled functions of its own module: numba checks
    the age of that file alone when it decides whether the cached code is up to date.
    """
    try:
        return numba.njit(function, cache=True, nogil=True)  # type: ignore[no-any-return]
    except RuntimeError:  # numba: "cannot cache function: no locator available"
        return numba.njit(function, nogil=True)  # type: ignore[no-any-return]
