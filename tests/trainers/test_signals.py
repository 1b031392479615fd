"""Ctrl-C and SIGTERM between two steps."""

import os
import signal
import threading

import pytest

from trainers.runtime.signals import Stopped, StopRequest


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Stopped)])
def test_a_signal_is_deferred_until_the_end_of_the_step(number: int, raised: type[BaseException]) -> None:
    before = signal.getsignal(number)
    with StopRequest() as request:
        assert not request.is_requested
        send(number)
        assert request.is_requested
        with pytest.raises(raised):
            request.stop()
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_stops_at_once() -> None:
    with StopRequest():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_second_sigterm_changes_nothing() -> None:
    """Some schedulers send SIGTERM to each process of a group as well as to the group."""
    with StopRequest() as request:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        with pytest.raises(Stopped):
            request.stop()


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before, requested = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with StopRequest() as request:
            requested.append(request.is_requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert requested == [False]
    assert signal.getsignal(signal.SIGINT) is before
