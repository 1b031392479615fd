"""Functions compiled by numba and kept on disk, so that only the first run on a machine waits for the compiler."""

from collections.abc import Callable
from typing import TypeVar

import numba

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile on first call, without the GIL; the machine code is cached beside the module, or in the user's cache.

    Where neither folder can be written (a read-only install with no home folder), the
    function is compiled anew in each process instead of failing.

    A compiled function must only call compiled functions of its own module: numba looks
    at the age of that one file when it decides whether the cached code still holds.
    """
    try:
        return numba.njit(function, cache=True, nogil=True)  # type: ignore[no-any-return]
    except RuntimeError:  # numba: "cannot cache function: no locator available"
        return numba.njit(function, nogil=True)  # type: ignore[no-any-return]
