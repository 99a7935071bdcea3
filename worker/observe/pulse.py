"""When the loop last turned, for `/livez` and for the watchdog of the process."""

import time


class Pulse:
    """When the main thread last showed that it is not stuck."""

    def __init__(self) -> None:
        self.beat()

    def beat(self) -> None:
        """It is not."""
        self._at = time.monotonic()

    @property
    def age_s(self) -> float:
        """Since the last beat."""
        return time.monotonic() - self._at
