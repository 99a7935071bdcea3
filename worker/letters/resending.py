"""Chosen dead letters sent to the input again, each once, however often and by whomever the command is run.

A transaction holds the records and, in the letters' own partition, a note of which letters they are of: so both are
there or neither is. Before anything is sent the producer of an earlier run is fenced, what it left open is aborted,
and what it committed is read: a letter that a note names is not sent. Retention removes a letter no later than its
note, which lies behind it.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from worker.broker.admin import bounds, topic_id
from worker.broker.contract import Message
from worker.broker.resender import Resender, Unsendable
from worker.broker.restore import LogReader
from worker.letters.reading import FROM, NOTE, NOTE_KEY, Chosen, Found, Letter, Note, Place, original_of, scanned
from worker.refusal import Refusal
from worker.settings.kafka import Kafka
from worker.settings.settings import Settings

MOST_LETTERS, MOST_BYTES = 500, 8 << 20  # of one transaction

Part = dict[int, Message]  # the records of one transaction, by the offsets of their letters


@dataclass
class Resent:
    """What became of the chosen letters."""

    sent: int = 0
    before: int = 0  # were sent by an earlier run
    foreign: int = 0  # of another group, or of another topic or partition than the input has now
    missing: set[Place] = field(default_factory=set)  # named, and no letters
    gone: list[str] = field(default_factory=list)  # why a record cannot be had or sent any more


class _Ours(NamedTuple):
    """Whose letters are sent: those of the settings' group, of records of the input as it is now."""

    kafka: Kafka
    input_id: str
    partitions: Container[int]

    def has(self, letter: Letter) -> bool:
        """Whether it is one of them."""
        return (
            letter.facts.get("group") == self.kafka.group_id
            and letter.is_from(self.kafka.input_topic, self.input_id)
            and int(letter.facts["partition"]) == letter.partition  # as workers write them
            and letter.partition in self.partitions
        )


def resend(settings: Settings, chosen: Chosen) -> Iterator[Resent]:
    """Send the chosen letters' records; what was done so far, after each transaction. Raises BrokerError, Refusal."""
    kafka, done = settings.kafka, Resent(missing=set(chosen.places))
    partitions = chosen.partitions(bounds(kafka, kafka.dead_letter_topic))
    ours = _Ours(kafka, topic_id(kafka, kafka.input_topic), [*bounds(kafka, kafka.input_topic)])
    topics = (kafka.input_topic, kafka.dead_letter_topic)
    places = [(topic, partition) for partition in partitions if partition in ours.partitions for topic in topics]
    resender, logs = Resender(kafka, places), LogReader(kafka)  # in this order: what is read is final
    try:
        for partition in partitions:
            due = _due(logs, partition, chosen, ours, done)
            for part in _parts(logs, settings, partition, due, done):
                for sent in _transactions(resender, settings, partition, part, due, done):
                    done.sent += sent
                    yield done
    finally:
        logs.close()
        resender.close()
    yield done


def _transactions(
    resender: Resender, settings: Settings, partition: int, part: Part, due: set[int], done: Resent
) -> Iterator[int]:
    """Send a part, in halves where it is refused, until the letter that is at fault stands alone; how many each time.

    Raises BrokerError.
    """
    kafka, waiting = settings.kafka, [part]
    while waiting:
        part = {offset: message for offset, message in waiting.pop().items() if offset in due}
        if not part:
            continue
        try:
            resender.send([*part.values(), _note(kafka.dead_letter_topic, partition, [*part])])
        except Unsendable as why:
            resender.renew()
            noted = due & _noted(settings, partition, min(due))  # another run may have come between
            due -= noted
            done.before += len(noted)
            offsets = [offset for offset in part if offset in due]
            if len(part) == 1 and offsets:
                due -= part.keys()
                done.gone.append(
                    f"the record of {partition}:{offsets[0]} is refused ({why}): see what {kafka.input_topic} takes, "
                    "as its max.message.bytes"
                )
            else:
                half = len(offsets) // 2
                waiting += [{offset: part[offset] for offset in some} for some in (offsets[half:], offsets[:half])]
        else:
            due -= part.keys()
            yield len(part)


def _noted(settings: Settings, partition: int, begin: int) -> set[int]:
    """Offsets of the letters that the notes from an offset on name."""
    logs, found = LogReader(settings.kafka), Found()
    try:
        for _ in scanned(logs, settings.kafka.dead_letter_topic, partition, found, begin):
            pass
    finally:
        logs.close()
    return {offset for _, offset in found.resent}


def _due(logs: LogReader, partition: int, chosen: Chosen, ours: _Ours, done: Resent) -> set[int]:
    """Offsets of the partition's letters to send."""
    found, offsets = Found(), list[int]()
    for letter in scanned(logs, ours.kafka.dead_letter_topic, partition, found):
        if chosen.has(letter):
            done.missing.discard(letter.place)
            if ours.has(letter):
                offsets.append(letter.offset)
            else:
                done.foreign += 1
    due = {offset for offset in offsets if (partition, offset) not in found.resent}
    done.before += len(offsets) - len(due)
    return due


def _parts(logs: LogReader, settings: Settings, partition: int, due: set[int], done: Resent) -> Iterator[Part]:
    """The records of each transaction. The letters are read a second time: they may be many."""
    if not due:
        return
    last, part, size = max(due), Part(), 0
    others = LogReader(settings.kafka)  # the input's, beside the log that is being read
    try:
        for letter in scanned(logs, settings.kafka.dead_letter_topic, partition, Found(), min(due)):
            if letter.offset in due:
                try:
                    part[letter.offset] = message = _message(settings, others, letter)
                    size += len(message.value or b"")
                except Refusal as why:
                    due.discard(letter.offset)
                    done.gone.append(str(why))
            if len(part) == MOST_LETTERS or size >= MOST_BYTES:
                yield part
                part, size = {}, 0
            if letter.offset >= last:
                break
        if part:
            yield part
    finally:
        others.close()


def _message(settings: Settings, logs: LogReader, letter: Letter) -> Message:
    """The record as it was, and where its letter lies. Raises Refusal where it cannot be had or sent, BrokerError."""
    key, value, headers = original_of(settings, logs, letter)
    if key is None and value is None:
        raise Refusal(f"{letter.record} has neither key nor value, and such a record cannot be sent: leave it")
    source = f"{settings.kafka.dead_letter_topic}/{letter.partition}/{letter.offset}".encode()
    own = [(name, part) for name, part in headers if name != FROM]
    at_ms = max(int(letter.facts["timestamp"]), 0)
    return Message(settings.kafka.input_topic, letter.partition, key, value, [*own, (FROM, source)], at_ms)


def _note(topic: str, partition: int, offsets: list[int]) -> Message:
    value = msgspec.json.encode(Note(offsets))
    return Message(topic, partition, NOTE_KEY + b"%d" % offsets[0], value, [(NOTE, b"%d" % len(offsets))])
