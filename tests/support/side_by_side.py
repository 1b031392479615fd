"""Run functions concurrently."""

import threading
from collections.abc import Callable


def run_together(*parts: Callable[[], None]) -> list[str]:
    """Run functions in threads and return the errors that they raised."""
    errors: list[str] = []

    def guarded(part: Callable[[], None]) -> None:
        try:
            part()
        except Exception as err:
            errors.append(repr(err))

    threads = [threading.Thread(target=guarded, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
