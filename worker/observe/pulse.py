"""When the loop last turned, for `/livez` and for the watchdog of the process."""

import time


class Pulse:
    """The time when the main thread last turned."""

    def __init__(self) -> None:
        self.beat()

    def beat(self) -> None:
        """Note that the loop turns."""
        self._at = time.monotonic()

    @property
    def age_s(self) -> float:
        """How many seconds ago the loop last turned."""
        return time.monotonic() - self._at
