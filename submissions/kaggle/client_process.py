"""Run the official client in a child process (`client_child.py`), which is killed if a call exceeds its time limit."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from submissions.kaggle.errors import Failure

Json = dict[str, Any]

_START_S = 120.0  # limit for loading the client and logging in, on a busy machine
_CHILD = Path(__file__).with_name("client_child.py")


class CallFailed(Exception):
    """A call that did not return a result."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class ClientProcess:
    """At most one child process, started by the first call and restarted after it was killed.

    environment: the complete environment of the process. held: file descriptors that it keeps open from its start on,
    so that a lock is held until an upload has certainly ended.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self.held: tuple[int, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._unread = b""

    def call(
        self,
        name: str,
        args: Mapping[str, object],
        limit_s: float,
        on_event: Callable[[Json], float] | None = None,
    ) -> Json:
        """Make one call.

        Args:
            limit_s: maximum time until the next message, seconds; the process is killed if it is exceeded.
            on_event: called for each event before the result; returns the next `limit_s`.

        Raises:
            CallFailed: with the client's description of the failure.
        """
        wait_s = limit_s
        try:
            if self._start():
                wait_s = max(limit_s, _START_S)
            self.write({"call": name, "args": dict(args)})
            while True:
                message = self._read(wait_s)
                if "answer" in message:
                    answer: Json = message["answer"]
                    return answer
                if "failure" in message:
                    raise CallFailed(Failure(**message["failure"]))
                if message.get("event") == "ready":
                    wait_s = limit_s
                elif on_event is not None:
                    wait_s = on_event(message)
        except TimeoutError:
            self.kill()
            raise CallFailed(Failure("timeout", text=f"no response for {wait_s:g} s")) from None
        except (BrokenPipeError, EOFError):
            words = self._last_words()
            self.kill()
            raise CallFailed(Failure("died", text=words)) from None
        except CallFailed:
            raise
        except BaseException:
            self.kill()  # its result would be read by the next call
            raise

    def write(self, message: Json) -> None:
        """Send a message to the process."""
        pipe = self._running().stdin
        assert pipe is not None
        pipe.write(json.dumps(message).encode() + b"\n")
        pipe.flush()

    def kill(self) -> None:
        """Kill the process, if there is one."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process, self._stderr, self._unread = None, None, b""

    def _start(self) -> bool:
        """Start the process if it is not running; return whether it was started."""
        if self._process is not None:
            return False
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed by kill
        # -P: the current folder may contain folders named like packages
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=self._environment,
            pass_fds=self.held,
        )
        return True

    def _running(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    def _read(self, limit_s: float) -> Json:
        deadline = time.monotonic() + limit_s
        out = self._running().stdout
        assert out is not None
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                data = os.read(out.fileno(), 1 << 16)
                if not data:
                    raise EOFError
                self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        message: Json = _clean(json.loads(line))
        return message

    def _last_words(self) -> str:
        lines = []
        if self._stderr is not None:
            self._stderr.seek(0)
            lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "its process exited without a message"


def _clean(value: Any) -> Any:
    """Return JSON values without what no file or database stores: halves of surrogate pairs, and NUL.

    Kaggle cuts long texts, also in the middle of an emoji.
    """
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "")
    if isinstance(value, dict):
        return {key: _clean(one) for key, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list) else value
