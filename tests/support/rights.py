"""Enforce file permissions, also if the tests run as root, and mount folders read-only."""

import contextlib
import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

_VERSION_3 = 0x20080522
_OVERRIDING = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_CLONE_NEWNS = 0x20000  # a separate table of mounts, for the calling thread and the programs that it starts
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18


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
    _call(libc.capget, ctypes.byref(header), data)
    kept = data[0].effective
    data[0].effective = kept & ~_OVERRIDING
    _call(libc.capset, ctypes.byref(header), data)
    try:
        yield
    finally:
        data[0].effective = kept
        _call(libc.capset, ctypes.byref(header), data)


def on_read_only_disk(folder: Path, action: Callable[[], None]) -> None:
    """Run an action while the folder is mounted read-only; skip the test if this user cannot mount anything.

    Only the action and the programs that it starts see the mount, which ends with it.
    """

    def mount_and_run() -> None:
        libc, place = ctypes.CDLL(None, use_errno=True), os.fsencode(folder)
        try:
            _call(libc.unshare, _CLONE_NEWNS)
            _call(libc.mount, None, b"/", None, _MS_REC | _MS_PRIVATE, None)
            _call(libc.mount, place, place, None, _MS_BIND, None)
            _call(libc.mount, None, place, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY, None)
        except OSError as err:
            if err.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
                raise
            pytest.skip(f"this user cannot mount a folder ({err.strerror})")
        action()

    with ThreadPoolExecutor(1) as threads:  # the mounts of the main thread stay as they are
        threads.submit(mount_and_run).result()


def _call(function: "ctypes._NamedFuncPointer", *args: object) -> None:
    if function(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
