"""Enforce file permissions, also if the tests run as root."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

_VERSION_3 = 0x20080522
_OVERRIDING = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextlib.contextmanager
def without_root_rights() -> Iterator[None]:
    """Drop root's permission to access every file for this thread; programs that it starts keep it."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    _call(libc.capget, header, data)
    kept = data[0].effective
    data[0].effective = kept & ~_OVERRIDING
    _call(libc.capset, header, data)
    try:
        yield
    finally:
        data[0].effective = kept
        _call(libc.capset, header, data)


def _call(function: "ctypes._NamedFuncPointer", header: _Header, data: "ctypes.Array[_Data]") -> None:
    if function(ctypes.byref(header), data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
