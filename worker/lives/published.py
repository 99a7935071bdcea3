"""How far a group has published: the newest of its forecasts and dead letters in a partition tell.

The group's own offset may be an old one, or gone: a coordinator that loads its offsets twice at once answers with those
of long ago (Kafka 4.3.1), and offsets of a group without members expire. What is published is in the log.
"""

import logging
import time
from collections.abc import Callable, Sequence

from worker.broker.contract import Broker, LogRead, NotYet, Topics, Unreadable
from worker.dead_letters import refused_offset
from worker.publish import publisher

log = logging.getLogger(__name__)

READ_S = 0.05
FIRST, FURTHER, MOST = 64, 16, 16_384  # offsets before a topic's end: looked at first, times as many, not more than

Headers = Sequence[tuple[str, bytes]]


class Published:
    """Looks through the ends of both topics, further and further back, a moment at a time."""

    def __init__(self, partition: int, topics: Topics, letters: bool = True) -> None:
        """Without `letters` the topic of dead letters has no such partition."""
        self.others: dict[str, int] = {}  # offset of the newest forecast of other groups that was come across
        self._partition, self._topics = partition, topics
        self._ends = [_End(topics.output, partition, self._forecast)]
        if letters:
            letter = _End(topics.dead_letters, partition, lambda headers: refused_offset(headers, topics, partition))
            self._ends.append(letter)

    @property
    def offset(self) -> int:
        """The lowest offset that the group can have committed with what was found; 0 where nothing was."""
        return max(end.newest for end in self._ends) + 1

    def slice(self, broker: Broker) -> bool:
        """Look on for a moment; True once all is looked through. Raises NotYet, BrokerError.

        What is in an open transaction is waited for without a limit: it may be this group's, and be committed yet.
        """
        began, came = time.monotonic(), False
        for end in self._ends:
            while not end.over:
                if time.monotonic() - began > READ_S:
                    return False
                if end.slice(broker):
                    came = True
                elif came:
                    return False
                else:
                    unread = f"{end.name} is not read to its end"
                    raise NotYet(unread, fix="see that the broker answers, and whose transaction stays open")
        return True

    def beyond(self, committed: int | None) -> int | None:
        """Return the C that what was found proves, where that is more than the group says; else None.

        Where the group has none a dead letter alone says too little, since the forecasts may be gone; so does what
        lies before something that cannot be unpacked.
        """
        if committed is None and (self._ends[0].newest < 0 or any(end.cut for end in self._ends)):
            return None
        return self.offset if self.offset > (committed or 0) else None

    def close(self) -> None:
        """Let go of what is held outside memory."""
        for end in self._ends:
            end.close()

    def _forecast(self, headers: Headers) -> int | None:
        found = publisher(headers, self._topics, self._partition)
        if found is None:
            return None
        group, offset = found
        if group == self._topics.group:
            return offset
        self.others[group] = max(self.others.get(group, -1), offset)
        return None


class _End:
    """The end of one topic's partition."""

    def __init__(self, topic: str, partition: int, offset_of: Callable[[Headers], int | None]) -> None:
        self.name = f"{topic}-{partition}"
        self.newest = -1  # the input's offset of the newest that was found
        self.over = False
        self.cut = False  # something cannot be unpacked: there may be more behind it
        self._topic, self._partition, self._offset_of = topic, partition, offset_of
        self._last = FIRST
        self._begin: int | None = None
        self._read: LogRead | None = None

    def slice(self, broker: Broker) -> bool:
        """Read on; False where nothing came though there is more."""
        if self._read is None:
            self._read = broker.open_end(self._topic, self._partition, self._last)
        try:
            records = self._read.read(READ_S)
        except Unreadable as error:  # whoever wrote it, it stays: to wait for its retention would be worse
            log.warning("what is published is looked for no further than here, and the restore goes on: %s", error)
            self.over = self.cut = True
            return True
        found = [offset for record in records if (offset := self._offset_of(record.headers)) is not None]
        self.newest = max([self.newest, *found])
        if not self._read.done:
            return bool(records)
        before, self._begin = self._begin, self._read.begin
        self.over = self.newest >= 0 or self._begin == before or self._last >= MOST
        self._last *= FURTHER
        self.close()
        return True

    def close(self) -> None:
        if self._read is not None:
            self._read.close()
            self._read = None
