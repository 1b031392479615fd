"""Sources for pyarrow's readers that contain no Python objects.

A thread of pyarrow may release its part of a source after the read has returned. If the source is a Python file or
`bytes`, the thread needs the interpreter for that. If the interpreter is about to exit, Python before 3.14 ends the
thread in the middle of a C++ destructor, and the process aborts after a success: "terminate called without an active
exception", exit code 134 (https://github.com/apache/arrow/issues/34314). So pyarrow opens files itself, and bytes are
copied into its memory.
"""

import os
from pathlib import Path

import pyarrow as pa


def native_file(path: Path) -> pa.OSFile:
    """Open a file for one of pyarrow's readers.

    Raises:
        OSError: if it cannot be opened, with the operating system's error number and text.
    """
    with path.open("rb"):  # for the error: pyarrow's texts are different
        return pa.OSFile(os.fsencode(path))


def native_reader(data: bytes) -> pa.BufferReader:
    """Return bytes as a file for one of pyarrow's readers."""
    buffer = pa.allocate_buffer(len(data))
    memoryview(buffer).cast("B")[:] = data
    return pa.BufferReader(buffer)
