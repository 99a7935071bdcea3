"""The first SIGTERM or Ctrl-C asks, the second leaves now. Imports nothing slow.

Process 1 of a container ignores a signal that has no handler, so the handler stands before torch is imported, which
takes seconds. A worker that is asked meanwhile stops before it joins.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread


@contextmanager
def asked_to_stop(say: Callable[[str], None]) -> Iterator[Event]:
    """Yield an event that is set once a signal has come; `say` is called with the signal's name."""
    stop = Event()
    if current_thread() is not main_thread():  # a test's worker has no signals of its own
        yield stop
        return

    def asked(number: int, _frame: object) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()
        say(signal.Signals(number).name)

    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
