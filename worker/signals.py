"""The first SIGTERM or Ctrl-C asks, the second leaves now. Imports nothing slow.

Process 1 of a container ignores a signal that has no handler, so the handler stands before numba is imported, which
takes seconds. While a worker imports and compiles there is nothing to finish, so already the first signal leaves.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread


class Stop(Event):
    """Set once a signal has come; while `at_once` is true, a signal ends the process there and then, with code 0."""

    def __init__(self, at_once: bool = False) -> None:
        super().__init__()
        self.at_once = at_once


@contextmanager
def asked_to_stop(say: Callable[[str], None], at_once: bool = False) -> Iterator[Stop]:
    """Yield an event that is set once a signal has come; `say` is called with the signal's name."""
    stop = Stop(at_once)
    if current_thread() is not main_thread():  # a test's worker has no signals of its own
        yield stop
        return

    def asked(number: int, _frame: object) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()
        say(signal.Signals(number).name)
        if stop.at_once:  # an exception instead could be caught by whatever is imported or compiled
            os._exit(0)

    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
