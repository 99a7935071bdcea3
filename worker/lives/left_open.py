"""A transaction that holds a partition open for good: whether it was committed, and its end.

A broker that ends a transaction while a partition has no leader writes no marker there. Whether it was committed the
rest of it tells: one transaction carries an event's forecast or dead letter, the changelog's records and C.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from worker.broker.contract import BY_HAND, RESENDER, Broker, LeftOpen, LogRead, LogRecord, NotYet, Topics
from worker.broker.headers import offset_in, texts
from worker.dead_letters import refused_offset
from worker.publish import ID, published_offset

log = logging.getLogger(__name__)

NEXT = "foldcast-next"  # the C of the transaction that a record of the changelog came with
LOOKED_THROUGH = 1000  # offsets at the end of a topic that is not held open
READ_S, LIMIT_S = 0.2, 10.0

Header = tuple[str, bytes]


def next_header(offset: int) -> Header:
    """Return the header of a changelog record that is committed together with this C."""
    return NEXT, str(offset).encode()


def end_left_open(broker: Broker, topics: Topics, partition: int, told: int | None, held: bool) -> None:
    """End what is left open in a partition, and say how; what cannot be ended here is named, with whose it is.

    `told` is C as the group has it; `held` says that it is from before a transaction that still holds it. The loop
    waits meanwhile. Raises BrokerError.
    """
    topics = replace(topics, source=broker.input_id())
    for left in broker.left_open(topics.names[1:], partition):
        where = ", ".join(f"{topic}-{partition} from offset {at} on" for topic, at in left.begins.items())
        whose = f"a transaction of {left.transactional_id or 'a forgotten id'} (producer {left.producer}) in {where}"
        own, name = f"{topics.group}/", left.transactional_id or ""
        if not name.startswith(own) or name == own + RESENDER:
            log.warning("%s is left open, and it is of no worker of this group: %s", whose, BY_HAND)
            continue
        evidence = _Evidence(broker, topics, partition, left)
        commit = evidence.committed(told, held)
        if commit is None:
            log.warning("%s is left open, and nothing tells whether it was committed: %s", whose, BY_HAND)
            continue
        offset = None if not held else evidence.end(told) if commit else told or 0
        broker.end_left_open(left, partition, commit, offset)
        as_what = "as committed, like the rest of it" if commit else "as aborted: no part of it was committed"
        log.warning("%s was left open, with no end written to it; it is ended now %s", whose, as_what)


class _Evidence:
    """The offsets C of whole transactions, as records tell: of the one that is left open, and of what is committed."""

    def __init__(self, broker: Broker, topics: Topics, partition: int, left: LeftOpen) -> None:
        """Reads what is there. Raises NotYet, BrokerError."""
        self._topics, self._partition = topics, partition
        self._undecided: list[int] = []  # of forecasts and dead letters
        self._changelog: list[int] = []  # as undecided
        self._elsewhere: list[int] = []
        self._twice = False
        self._overtaken, self._changelog_open = left.overtaken, topics.changelog in left.begins
        for topic in (topics.output, topics.dead_letters, topics.changelog):
            if topic in left.begins:
                records = _read(broker.open_undecided(topic, partition, left.begins[topic]), topic, partition)
                found = self._changelog if topic == topics.changelog else self._undecided
                found += self._ends(topic, records)
                self._twice |= _twice(records)
            else:
                records = _read(broker.open_end(topic, partition, LOOKED_THROUGH), topic, partition)
                self._elsewhere += self._ends(topic, records)

    def committed(self, told: int | None, held: bool) -> bool | None:
        """Whether the transaction was committed; None where nothing tells.

        It was if any part of it lies below C, or if it holds C and something beyond that is committed. But where a
        partition has been taken over from its worker, C is another's: an event that is there twice was forecast again,
        by one that has seen that this transaction was not committed; the changelog's records alone do not show it.
        """
        proven = self._proven(told)
        if self._twice:
            return False
        if any(end <= proven for end in self._undecided) or (held and proven > (told or 0)):
            return True
        if self._undecided or not self._changelog_open:
            return False
        if not self._changelog:
            return None
        below = any(end <= proven for end in self._changelog)
        return None if below and self._overtaken else below

    def end(self, told: int | None) -> int:
        """C as it is once all of this is committed."""
        return max([self._proven(told), *self._undecided, *self._changelog])

    def _proven(self, told: int | None) -> int:
        return max([told or 0, *self._elsewhere])

    def _ends(self, topic: str, records: Sequence[LogRecord]) -> list[int]:
        """The lowest C that each record's transaction can have."""
        if topic == self._topics.changelog:
            found = [offset_in(texts(record.headers).get(NEXT, "")) for record in records]
            return [end for end in found if end is not None]
        of = published_offset if topic == self._topics.output else refused_offset
        offsets = [of(record.headers, self._topics, self._partition) for record in records]
        return [offset + 1 for offset in offsets if offset is not None]


def _twice(records: Sequence[LogRecord]) -> bool:
    """Whether an event, or a target of it, has two forecasts among them."""
    ids = [own for record in records if (own := texts(record.headers).get(ID))]
    return len(set(ids)) < len(ids)


def _read(read: LogRead, topic: str, partition: int) -> list[LogRecord]:
    """All of it. Raises NotYet where that takes too long."""
    records, until = list[LogRecord](), time.monotonic() + LIMIT_S
    try:
        while not read.done:
            records += read.read(READ_S)
            if time.monotonic() > until:
                raise NotYet(f"{topic}-{partition} is not read to its end")
    finally:
        read.close()
    return records
