"""Several runs of a program in one process and in virtual time; one runs at a time, up to its next pause."""

import threading
from collections.abc import Callable
from typing import Any


class Killed(BaseException):
    """Raised to end a run as `kill -9` would."""


class Run:
    """One run, as a thread that runs only while `step` is called.

    result, error: how it ended; both None while it runs and after a kill.
    """

    def __init__(self, time: "VirtualTime", action: Callable[[], Any]) -> None:
        self._time, self._action = time, action
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._killed = False
        self.wakes_at = time.now
        self.result: Any = None
        self.error: BaseException | None = None
        self.over = False
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Run to the next pause or to the end; time advances until the run wakes up."""
        self._time.advance_to(self.wakes_at)
        self._time.running = self
        self._go.release()
        self._stopped.acquire()
        self._time.running = None

    def finish(self) -> None:
        """Run to the end."""
        while not self.over:
            self.step()

    def kill(self) -> None:
        """End at the current pause like `kill -9`: the system releases its locks, and nothing else happens."""
        self._killed, self.wakes_at = True, self._time.now
        self.finish()

    def pause(self) -> None:
        """Let other runs proceed; called by the run itself."""
        self._stopped.release()
        self._go.acquire()
        if self._killed:
            raise Killed

    def _main(self) -> None:
        self._go.acquire()
        try:
            if not self._killed:
                self.result = self._action()
        except Killed:
            pass
        except BaseException as err:
            self.error = err
        self.over = True
        self._stopped.release()


class VirtualTime:
    """Replacement for the module `time`: sleeping takes no time, but due actions are carried out."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.running: Run | None = None
        self._due: list[Due] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Advance the time; while a run sleeps, others may proceed."""
        if self.running is None:
            self.advance_to(self.now + seconds)
        else:
            self.running.wakes_at = self.now + seconds
            self.running.pause()

    def pause(self) -> None:
        """Let other runs proceed, if there are any."""
        if self.running is not None:
            self.running.pause()

    def advance_to(self, moment: float) -> None:
        self.now = max(self.now, moment)
        due = [item for item in self._due if item.at <= self.now]
        self._due = [item for item in self._due if item.at > self.now]
        for item in due:
            item.action()

    def later(self, seconds: float, action: Callable[[], object]) -> "Due":
        """Schedule an action; the `at` of the returned value can be changed."""
        self._due.append(Due(self.now + seconds, action))
        return self._due[-1]


class Due:
    """An action scheduled for a point in time."""

    def __init__(self, at: float, action: Callable[[], object]) -> None:
        self.at, self.action = at, action
