"""Objects that refer to themselves: looked for rarely in the loop's time, and once a minute all of them.

The loop makes none. kafka-python 3.0.12 does: the sockets of refused connections stay open until they are found, and
so do the buffers of clients that were thrown away. Memory that is free then goes back to the system: after a restore
it is as much as the streams take, and the C library would keep it.
"""

import ctypes
import gc
import time

EVERY_S = 60.0


class Garbage:
    """Made when everything is imported; `after_cycle` from then on."""

    def __init__(self) -> None:
        # imports leave 100,000 objects and, with torch, as many again, that every full collection would walk through
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        self._next = time.monotonic() + EVERY_S
        self._give_back = getattr(ctypes.CDLL(None), "malloc_trim", lambda _pad: 0)  # glibc's

    def after_cycle(self) -> None:
        """Find them all, where the last time was a minute ago; takes some milliseconds."""
        if time.monotonic() >= self._next:
            gc.collect()
            self._give_back(0)
            self._next = time.monotonic() + EVERY_S
