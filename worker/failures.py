"""How long a worker puts up with failures of its brokers: pauses that grow, and an end to them."""

import logging
import time
from collections.abc import Collection

from worker.broker.contract import BrokerError, Unreadable
from worker.refusal import Refusal

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
FENCED_TWICE_S = 600.0


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

    def pause_after(self, error: BrokerError, where: str = "") -> float:
        """Return the seconds to pause before trying again. Raises Refusal when the worker should give up."""
        now = time.monotonic()
        self.last = f"{where}{error}"
        log.warning("%s: %s; %s", type(error).__name__, self.last, error.fix)
        if error.fenced:
            if self._fenced_at is not None and now - self._fenced_at < FENCED_TWICE_S:
                raise Refusal(
                    f"fenced twice: another worker runs under the same kafka.instance_id ({error}); give each its own"
                ) from error
            self._fenced_at = now
        if self._since is None:
            self._since = now
        if now - self._since > self._give_up_s:
            raise Refusal(
                f"{self._what} for {now - self._since:.0f} s (worker.give_up_s): {self.last}; {error.fix}"
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
        return failures.pause_after(error, f"partition {partition} is not restored: ")

    def succeeded(self, partition: int) -> None:
        """Forget the failures of a partition that is restored."""
        self._late.pop(partition, None)

    def keep(self, partitions: Collection[int]) -> None:
        """Forget all others: they are another worker's now."""
        for partition in self._late.keys() - partitions:
            del self._late[partition]


class UnreadableInput:
    """Polls that met a batch which cannot be unpacked: each partition has a row of its own, which no commit ends.

    It ends with a record from there or beyond, so not with those before it that every new life folds again.
    """

    def __init__(self, give_up_s: float) -> None:
        self._give_up_s = give_up_s
        self._rows: dict[int, tuple[int, Failures]] = {}  # by partition: the offset, and the failures there
        self._due: dict[int, float] = {}  # by partition: when to try again

    def pause(self, error: Unreadable) -> None:
        """Let its partition rest for a while. Raises Refusal when it is enough."""
        what = f"partition {error.partition} could not be read"
        row = self._rows.setdefault(error.partition, (error.offset, Failures(self._give_up_s, what)))
        self._due[error.partition] = time.monotonic() + row[1].pause_after(error)

    def again(self, partition: int) -> None:
        """Let a partition rest for a moment: it has not failed."""
        self._due[partition] = time.monotonic() + FIRST_PAUSE_S

    def rested(self) -> list[int]:
        """Partitions to try again now; each is told once."""
        now = time.monotonic()
        rested = [partition for partition, due in self._due.items() if due <= now]
        for partition in rested:
            del self._due[partition]
        return rested

    def arrived(self, partition: int, offset: int) -> None:
        """Forget the failures of a partition whose records were read up to this one."""
        if partition in self._rows and offset >= self._rows[partition][0]:
            del self._rows[partition]

    def keep(self, partitions: Collection[int]) -> None:
        """Forget all others: they are another worker's now."""
        for partition in self._rows.keys() - partitions:
            del self._rows[partition]
            self._due.pop(partition, None)

    @property
    def why(self) -> list[str]:
        """What cannot be read, in words."""
        return [failures.last for _, failures in self._rows.values()]
