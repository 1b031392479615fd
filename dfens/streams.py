"""Standard output and error that never raise, so that an output error cannot make a successful command fail."""

import codecs
import errno
import io
import os
import sys
from types import MappingProxyType
from typing import TextIO

# replacements for characters that an encoding lacks
_SUBSTITUTES = MappingProxyType(
    {"–": "-", "—": "-", "−": "-", "…": "...", "✓": "x", "½": "/", "·": ".", "×": "x", "±": "+-", "│": "|", "─": "-"}
)


class LenientFile(io.FileIO):
    """An output file that drops what cannot be written, and keeps the reason in `failure`."""

    failure: OSError | None = None

    def write(self, data: "io.ReadableBuffer", /) -> int:  # type: ignore[name-defined]
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as err:
                self.failure = err
        return memoryview(data).nbytes


def make_streams_lenient() -> tuple[LenientFile, LenientFile]:
    """Replace sys.stdout and sys.stderr by streams that never raise, and return their files.

    A closed pipe, a full disk, or an encoding that lacks a character would otherwise end a command with a
    traceback or a different exit code after its work was done. A closed descriptor is first opened to /dev/null, so
    that no other file gets its number.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    codecs.register_error("dfens", _substitute)
    files = LenientFile(1, "wb", closefd=False), LenientFile(2, "wb", closefd=False)
    sys.stdout = _text_stream(files[0], sys.stdout)
    sys.stderr = _text_stream(files[1], sys.stderr)
    return files


def report_lost_output(stdout: LenientFile) -> None:
    """Warn on standard error if the result could not be written, unless its reader closed the pipe."""
    if stdout.failure is not None and stdout.failure.errno != errno.EPIPE:
        print(f"Warning: standard output could not be written ({stdout.failure.strerror}).", file=sys.stderr)  # noqa: T201


def _text_stream(file: LenientFile, like: TextIO | None) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=getattr(like, "encoding", None) or "utf-8",
        errors="dfens",
        line_buffering=file.isatty() or file.fileno() == 2,
    )


def _substitute(err: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks by similar ones."""
    if not isinstance(err, UnicodeEncodeError):
        raise err
    text = "".join(_SUBSTITUTES.get(letter, "?") for letter in err.object[err.start : err.end])
    return text, err.end
