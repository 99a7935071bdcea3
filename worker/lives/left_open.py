"""A transaction that holds a partition open for good: whether it was committed, and its end.

The rest of it tells whether it was: a transaction carries forecasts and C together, so its forecasts are below C where
it was, and from C on where it was not. Where that is not certain nothing is done, and it is named.
"""

import logging
import time
from collections.abc import Iterable
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
READ_S, LIMIT_S, QUIET = 0.2, 10.0, 5  # of one read and of all; reads in a row that bring nothing
OTHER = "of another input, or of one that was deleted"
UNSURE = "see docs/runbook.md before you end it"


def next_header(offset: int) -> tuple[str, bytes]:
    """Return the header of a changelog record that is committed together with this C."""
    return NEXT, str(offset).encode()


def end_left_open(broker: Broker, topics: Topics, partition: int) -> None:
    """End what is left open in a partition, and say how; what is not certain, or not ours, is named. The loop waits.

    Raises NotYet, BrokerError.
    """
    topics = replace(topics, source=broker.input_id())
    for left in broker.left_open(topics.names[1:], partition):
        where = ", ".join(f"{topic}-{partition} from offset {at} on" for topic, at in left.begins.items())
        whose = f"a transaction of {left.transactional_id or 'an id that is not told'} (producer {left.producer})"
        own, name = f"{topics.group}/", left.transactional_id or ""
        if not name.startswith(own) or name == own + RESENDER:
            log.warning("%s is left open in %s, and it is of no worker of this group: %s", whose, where, UNSURE)
            continue
        commit = was_committed(broker, topics, partition, left)
        if commit is None:
            log.warning("%s is left open in %s, and it is not certain how it ended: %s", whose, where, UNSURE)
            continue
        broker.end_left_open(left, partition, commit)
        as_what = "as committed: C is behind it" if commit else "as aborted: C is before it"
        log.warning("%s was left open in %s, with no end written to it; it is ended now %s", whose, where, as_what)


def was_committed(broker: Broker, topics: Topics, partition: int, left: LeftOpen) -> bool | None:
    """Return whether a transaction of this group was committed; None where that is not certain.

    Nobody restores the partition while it is open. So either its worker had the partition, and C has moved over all of
    its forecasts or over none; or another had restored before, and what that one published are the same events again.
    Raises NotYet, BrokerError.
    """
    c, held = _committed(broker, partition)
    ends = _Ends(broker, topics, partition, left)
    if topics.output not in left.begins:
        return False if not held and ends.opened and min(ends.opened) > c else None
    opened = _look(broker, topics, partition, left.begins[topics.output])
    if opened is None or opened.groups - {topics.group}:
        return None
    if not opened.events:
        return None if opened.groups else False
    if opened.twice:
        return False
    first, last = min(opened.events), max(opened.events)
    if first in opened.before:
        return False
    if not opened.whole or max(opened.before, default=-1) >= c >= 0 or (c < 0 and ends.there):
        return None  # what was before it is not all there, or C is an old one, or gone
    if last < c:
        return True if opened.groups else None
    if first < c or (held and opened.transactions > 1):
        return None
    return held and any(end > c for end in ends.elsewhere)


def _committed(broker: Broker, partition: int) -> tuple[int, bool]:
    """C as the group has it now, -1 where there is none; and whether a transaction holds it, so that it may be more."""
    try:
        told, held = broker.committed(partition), False
    except OffsetHeld as error:
        told, held = error.offset, True
    return -1 if told is None else told, held


class _Ends:
    """The lowest C of the transactions that wrote dead letters and to the changelog."""

    def __init__(self, broker: Broker, topics: Topics, partition: int, left: LeftOpen) -> None:
        """Reads both topics. Raises NotYet, BrokerError."""
        self.opened: list[int] = []  # of what is left open
        self.elsewhere: list[int] = []  # of what is committed, in a topic of which nothing is left open
        self.there = False  # something in the changelog is committed
        for topic in (topics.dead_letters, topics.changelog):
            last = broker.open_end(topic, partition, LOOKED_THROUGH)
            records = _read(last)
            self.there |= topic == topics.changelog and bool(records)
            if topic in left.begins:
                records = _read(broker.open_end(topic, partition, last.end - left.begins[topic], undecided=True))
                self.opened += _ends(topics, partition, topic, records)
            else:
                self.elsewhere += _ends(topics, partition, topic, records)


def _ends(topics: Topics, partition: int, topic: str, records: Iterable[LogRecord]) -> list[int]:
    if topic == topics.changelog:
        found = [offset_in(texts(record.headers).get(NEXT, "")) for record in records]
        return [end for end in found if end is not None]
    offsets = [refused_offset(record.headers, topics, partition) for record in records]
    return [offset + 1 for offset in offsets if offset is not None]


class _Opened(NamedTuple):
    """Forecasts from where a transaction begins in the output, by the offsets of their events, and those before it."""

    events: set[int]
    twice: bool  # one of them, or a target of it, has two
    groups: set[str]  # whose they are: the last forecast of each transaction says it
    transactions: int  # of this group
    before: set[int]  # as `events`, of the forecasts of this group that were committed before it
    whole: bool  # all that can be of the same events is among them


def _look(broker: Broker, topics: Topics, partition: int, begin: int) -> _Opened | None:
    """None where there is too much of it, or the log begins behind it. Raises NotYet, BrokerError."""
    end = broker.open_end(topics.output, partition, 1)
    end.close()
    if end.end - begin > MOST:
        return None
    undecided = broker.open_end(topics.output, partition, end.end - begin, undecided=True)
    told = [texts(record.headers) for record in _read(undecided)]
    ids = [facts[ID] for facts in told if event_offset(facts, topics, partition) is not None]
    events = {offset for facts in told if (offset := event_offset(facts, topics, partition)) is not None}
    groups = [facts[GROUP] if facts.get(SOURCE) == topics.source else OTHER for facts in told if GROUP in facts]
    committed = broker.open_end(topics.output, partition, end.end - begin + EARLIER)
    earlier = [texts(record.headers) for record in _read(committed) if record.offset < begin]
    before, others = set[int](), False
    for facts in reversed(earlier):
        others = facts[GROUP] != topics.group if GROUP in facts else others
        if not others and (offset := event_offset(facts, topics, partition)) is not None:
            before.add(offset)
    whole = undecided.begin <= begin and (committed.begin == 0 or min(before, default=end.end) < min(events, default=0))
    return _Opened(events, len({*ids}) < len(ids), {*groups}, groups.count(topics.group), before, whole)


def _read(read: LogRead) -> list[LogRecord]:
    """What there is, up to what is open. Raises NotYet where that takes too long, BrokerError."""
    records, until, quiet = list[LogRecord](), time.monotonic() + LIMIT_S, 0
    try:
        while not read.done and quiet < QUIET:
            came = read.read(READ_S)
            records += came
            quiet = 0 if came else quiet + 1
            if time.monotonic() > until:
                raise NotYet("what a transaction has left open is not read to its end")
    finally:
        read.close()
    return records
