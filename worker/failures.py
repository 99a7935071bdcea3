"""How long a worker puts up with failures, and with data that is not meant for it."""

import logging
import time
from collections.abc import Collection

from worker.broker.contract import BrokerError, CommitError
from worker.refusal import Refusal

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
FENCED_TWICE_S = 600.0
RATIO_OF = 1000  # records before a ratio means anything


class Failures:
    """Failures in a row: pauses grow, and there is an end to it. A broker restart is not a crash loop."""

    def __init__(self, give_up_s: float, what: str = "nothing could be committed") -> None:
        self._give_up_s = give_up_s
        self._what = what
        self.last = ""  # failure, in words
        self._since: float | None = None
        self._number = 0
        self._fenced_at: float | None = None

    @property
    def failing(self) -> bool:
        """Whether no transaction was committed since the last failure."""
        return self._since is not None

    def succeeded(self) -> None:
        """Note that a transaction was committed: failures are forgotten."""
        self._since, self._number = None, 0

    def pause_after(self, error: BrokerError) -> float:
        """Return the seconds to pause before trying again. Raises Refusal when the worker should give up."""
        now = time.monotonic()
        self.last = str(error)
        log.warning("%s: %s", type(error).__name__, error)
        if isinstance(error, CommitError) and error.fenced:
            if self._fenced_at is not None and now - self._fenced_at < FENCED_TWICE_S:
                raise Refusal(
                    f"fenced twice: another worker runs under the same kafka.instance_id ({error}); give each its own"
                ) from error
            self._fenced_at = now
        if self._since is None:
            self._since = now
        if now - self._since > self._give_up_s:
            raise Refusal(
                f"{self._what} for {now - self._since:.0f} s (worker.give_up_s): {error}; {error.fix}"
            ) from error
        self._number += 1
        return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._number - 1)))


class LateRestores:
    """Restores that waited too long: each partition has a row of failures of its own, which no commit ends."""

    def __init__(self, give_up_s: float) -> None:
        self._give_up_s = give_up_s
        self._late: dict[int, Failures] = {}

    def pause_after(self, partition: int, error: BrokerError) -> float:
        """Seconds to pause before trying again. Raises Refusal when it is enough."""
        what = f"partition {partition} could not be restored"
        failures = self._late.setdefault(partition, Failures(self._give_up_s, what))
        return failures.pause_after(type(error)(f"partition {partition} is not restored: {error}", fix=error.fix))

    def succeeded(self, partition: int) -> None:
        """Forget the failures of a partition that is restored."""
        self._late.pop(partition, None)

    def keep(self, partitions: Collection[int]) -> None:
        """Forget all others: they are another worker's now."""
        for partition in self._late.keys() - partitions:
            del self._late[partition]


class DeadLetterCatch:
    """A safety catch for a worker that reads the wrong topic or the wrong fields; off unless set."""

    def __init__(self, in_a_row: int | None = None, ratio: float | None = None) -> None:
        self._limit_in_a_row, self._limit_ratio = in_a_row, ratio
        self._now = self._new = (0, 0, 0)  # in a row, dead, seen; with this cycle's

    def check(self, batches: list[tuple[int, int]]) -> None:
        """Check batches of (records, dead letters) before they are committed. Raises Refusal."""
        in_a_row, dead, seen = self._now
        for records, rejected in batches:
            in_a_row = in_a_row + records if rejected == records else 0
            dead, seen = dead + rejected, seen + records
        self._new = in_a_row, dead, seen
        fix = "look at their reasons, mend the source or the [events] fields"
        if self._limit_in_a_row is not None and in_a_row >= self._limit_in_a_row:
            raise Refusal(
                f"the last {in_a_row} records were all dead letters (events.max_dead_in_a_row = "
                f"{self._limit_in_a_row}): {fix}"
            )
        if self._limit_ratio is not None and seen >= RATIO_OF and dead > self._limit_ratio * seen:
            raise Refusal(
                f"{dead} of {seen} records were dead letters (events.max_dead_ratio = {self._limit_ratio}): {fix}"
            )

    def committed(self) -> None:
        """Note that the batches checked last are committed; those of a failed commit are checked again."""
        self._now = self._new
