"""A transaction that holds a partition open for good: whether it was committed, and its end.

The rest of it tells whether it was: a transaction carries forecasts and C together, so its forecasts are below C where
it was, and from C on where it was not. Where that is not certain nothing is done, and it is named.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from worker.broker.contract import RESENDER, Broker, LeftOpen, LogRead, LogRecord, NotYet, OffsetHeld, Topics
from worker.broker.headers import offset_in, texts
from worker.dead_letters import refused_offset
from worker.publish import GROUP, ID, SOURCE, event_offset

log = logging.getLogger(__name__)

NEXT = "foldcast-next"  # the C of the transaction that a record of the changelog came with
LOOKED_THROUGH = 1000  # offsets at the ends of the changelog and the dead letters
EARLIER, MOST = 16_384, 50_000  # offsets of forecasts: before it, and from its beginning to the end
READ_S, LIMIT_S = 0.2, 20.0  # of one read, and of all
OTHER = "of another input, or of one that was deleted"
UNSURE = "see docs/runbook.md before you end it"


def next_header(offset: int) -> tuple[str, bytes]:
    """Return the header of a changelog record that is committed together with this C."""
    return NEXT, str(offset).encode()


def end_left_open(broker: Broker, topics: Topics, partition: int) -> None:
    """End what is left open in a partition, and say how; what is not certain, or not ours, is named. The loop waits.

    Raises BrokerError.
    """
    topics = replace(topics, source=broker.input_id())
    for left in broker.left_open(topics.names[1:], partition):
        where = ", ".join(f"{topic}-{partition} from offset {at} on" for topic, at in left.begins.items())
        whose = f"a transaction of {left.transactional_id or 'an id that is not told'} (producer {left.producer})"
        own, name = f"{topics.group}/", left.transactional_id or ""
        if not name.startswith(own) or name == own + RESENDER:
            log.warning("%s is left open in %s, and it is of no worker of this group: %s", whose, where, UNSURE)
            continue
        try:
            commit = was_committed(broker, topics, partition, left)
        except NotYet:  # another one that is left open may be in the way
            commit = None
        if commit is None:
            log.warning("%s is left open in %s, and it is not certain how it ended: %s", whose, where, UNSURE)
            continue
        broker.end_left_open(left, partition, commit)
        as_what = "as committed: C is behind it" if commit else "as aborted: C is before it"
        log.warning("%s was left open in %s, with no end written to it; it is ended now %s", whose, where, as_what)


def was_committed(broker: Broker, topics: Topics, partition: int, left: LeftOpen) -> bool | None:
    """Return whether a transaction of this group was committed; None where that is not certain.

    Nobody restores the partition while it is open. So either its worker had the partition, and C has moved over all of
    its forecasts or over none; or another had restored before, and has published some of the same events before it.
    Raises NotYet, BrokerError.
    """
    if topics.output not in left.begins:
        return None
    until = time.monotonic() + LIMIT_S
    try:
        c = broker.committed(partition)
    except OffsetHeld:
        return None
    opened = _opened(broker, topics, partition, left.begins[topics.output], until)
    ends = _Ends(broker, topics, partition, left, until)
    if opened is None or opened.groups - {topics.group}:
        return None
    if not opened.events:  # nothing else than what a sweep writes, and aborts
        return None if opened.groups else False
    if opened.events & opened.before:
        return None if opened.others else False
    at = c or 0
    if not opened.whole or (c is None and ends.there) or max(ends.committed, opened.end_before) > at:
        return None  # what was before it is not all there, or C is gone, or an old one
    if at <= min(opened.events):
        return False if min(ends.opened, default=at) >= at else None
    all_below = max(opened.events) < at and max(ends.opened, default=at) <= at
    return True if all_below and opened.groups and not opened.twice else None


class _Ends:
    """The lowest C of the transactions that wrote dead letters and to the changelog."""

    def __init__(self, broker: Broker, topics: Topics, partition: int, left: LeftOpen, until: float) -> None:
        """Reads both topics. Raises NotYet, BrokerError."""
        self.opened: list[int] = []  # of what is left open
        self.committed = 0  # the largest of what is committed
        self.there = False  # something in the changelog is committed
        for topic in (topics.dead_letters, topics.changelog):
            begin = left.begins.get(topic)
            records = _read(broker.open_end(topic, partition, LOOKED_THROUGH, before=begin), until)
            self.there |= topic == topics.changelog and bool(records)
            self.committed = max([self.committed, *_ends(topics, partition, topic, records)])
            if begin is not None:
                records = _undecided(broker, topic, partition, begin, until) or []
                self.opened += _ends(topics, partition, topic, records)


def _ends(topics: Topics, partition: int, topic: str, records: Iterable[LogRecord]) -> list[int]:
    if topic == topics.changelog:
        found = [offset_in(texts(record.headers).get(NEXT, "")) for record in records]
        return [end for end in found if end is not None]
    offsets = [refused_offset(record.headers, topics, partition) for record in records]
    return [offset + 1 for offset in offsets if offset is not None]


class _Opened(NamedTuple):
    """Forecasts from where a transaction begins in the output, by the offsets of their events, and those before it."""

    events: set[int]
    twice: bool  # one of them, or a target of it, is there another time, be it aborted
    groups: set[str]  # whose they are: the last forecast of each transaction says it
    before: set[int]  # as `events`, of the forecasts that were committed before it
    others: bool  # of other groups, too
    whole: bool  # all that can be of the same events is among them

    @property
    def end_before(self) -> int:
        """The lowest C that what was committed before it can have, where that is all of one group."""
        return 0 if self.others else max(self.before, default=-1) + 1


def _opened(broker: Broker, topics: Topics, partition: int, begin: int, until: float) -> _Opened | None:
    """None where it is too much, or retention has taken its beginning. Raises NotYet, BrokerError."""
    records = _undecided(broker, topics.output, partition, begin, until)
    if records is None:
        return None
    last = _offsets_from(broker, topics.output, partition, begin) + EARLIER
    read = broker.open_end(topics.output, partition, last, before=begin)
    told, earlier = ([texts(record.headers) for record in some] for some in (records, _read(read, until)))
    ids = [facts[ID] for facts in told if event_offset(facts, topics, partition) is not None]
    groups = {facts[GROUP] if facts.get(SOURCE) == topics.source else OTHER for facts in told if GROUP in facts}
    events, before = _events(told, topics, partition), _events(earlier, topics, partition)
    others = any(facts.get(GROUP, topics.group) != topics.group for facts in earlier)
    whole = read.begin == 0 or (bool(before) and min(before) < min(events, default=0))
    return _Opened(events, len({*ids}) < len(ids), groups, before, others, whole)


def _events(told: Iterable[Mapping[str, str]], topics: Topics, partition: int) -> set[int]:
    """The offsets of the events of this input that forecasts with these headers are of."""
    return {offset for facts in told if (offset := event_offset(facts, topics, partition)) is not None}


def _offsets_from(broker: Broker, topic: str, partition: int, begin: int) -> int:
    """How many offsets the topic has from `begin` on."""
    read = broker.open_end(topic, partition, 1)
    read.close()
    return read.end - begin


def _undecided(broker: Broker, topic: str, partition: int, begin: int, until: float) -> list[LogRecord] | None:
    """All records from `begin` on, whatever became of them; None where they are too many, or the first are gone."""
    number = _offsets_from(broker, topic, partition, begin)
    if number > MOST:
        return None
    read = broker.open_end(topic, partition, number, undecided=True)
    if read.begin > begin:
        read.close()
        return None
    return [record for record in _read(read, until) if record.offset >= begin]


def _read(read: LogRead, until: float) -> list[LogRecord]:
    """All of it. Raises NotYet where that takes too long, BrokerError."""
    records = list[LogRecord]()
    try:
        while not read.done:
            records += read.read(READ_S)
            if time.monotonic() > until:
                raise NotYet("what a transaction has left open, or what is before it, is not read to its end")
    finally:
        read.close()
    return records
