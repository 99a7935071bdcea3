"""Chosen dead letters sent to the input again, each once, however often and by whomever the command is run.

A transaction holds the records and, in the letters' own partition, a note of which letters they are of: so both are
there or neither is. Before anything is sent the producer of an earlier run is fenced, and what it committed is read:
a letter that a note names is not sent. Retention removes a letter no later than its note, which lies behind it.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass, field

import msgspec

from worker.broker.admin import bounds
from worker.broker.contract import Message
from worker.broker.resender import Resender
from worker.broker.restore import LogReader
from worker.letters.reading import FROM, NOTE, NOTE_KEY, Chosen, Found, Letter, Note, Place, original_of, scanned
from worker.refusal import Refusal
from worker.settings.settings import Settings

MOST_LETTERS, MOST_BYTES = 500, 8 << 20  # of one transaction


@dataclass
class Resent:
    """What became of the chosen letters."""

    sent: int = 0
    before: int = 0  # were sent by an earlier run
    foreign: int = 0  # of another topic than the input, or of a partition that it does not have
    missing: set[Place] = field(default_factory=set)  # named, and no letters
    gone: list[str] = field(default_factory=list)  # why a record cannot be had any more


def resend(settings: Settings, chosen: Chosen) -> Iterator[Resent]:
    """Send the chosen letters' records; what was done so far, after each transaction. Raises BrokerError, Refusal."""
    kafka, done = settings.kafka, Resent(missing=set(chosen.places))
    partitions, inputs = chosen.partitions(bounds(kafka, kafka.dead_letter_topic)), [*bounds(kafka, kafka.input_topic)]
    resender, logs = Resender(kafka), LogReader(kafka)  # in this order: what is read is final
    try:
        for partition in partitions:
            due = _due(logs, settings, partition, chosen, inputs, done)
            for part in _parts(logs, settings, partition, due, done):
                resender.send(part)
                done.sent += len(part) - 1
                yield done
    finally:
        logs.close()
        resender.close()
    yield done


def _due(
    logs: LogReader, settings: Settings, partition: int, chosen: Chosen, inputs: Container[int], done: Resent
) -> list[int]:
    """Offsets of the partition's letters to send."""
    found, offsets = Found(), list[int]()
    for letter in scanned(logs, settings.kafka.dead_letter_topic, partition, found):
        if chosen.has(letter):
            done.missing.discard(letter.place)
            ours = letter.facts.get("topic") == settings.kafka.input_topic and int(letter.facts["partition"]) in inputs
            done.foreign += not ours
            offsets += [letter.offset] if ours else []
    due = [offset for offset in offsets if (partition, offset) not in found.resent]
    done.before += len(offsets) - len(due)
    return due


def _parts(
    logs: LogReader, settings: Settings, partition: int, due: list[int], done: Resent
) -> Iterator[list[Message]]:
    """The messages of each transaction, the note last. The letters are read a second time: they may be many."""
    left, topic = set(due), settings.kafka.dead_letter_topic
    messages, offsets, size = list[Message](), list[int](), 0
    reading = scanned(logs, topic, partition, Found(), min(due)) if due else iter(())
    others = LogReader(settings.kafka)  # the input's, beside the log that is being read
    try:
        for letter in reading:
            if letter.offset not in left:
                continue
            left.discard(letter.offset)
            try:
                message = _message(settings, others, letter)
            except Refusal as why:
                done.gone.append(str(why))
                continue
            messages.append(message)
            offsets.append(letter.offset)
            size += len(message.value or b"")
            if len(messages) == MOST_LETTERS or size >= MOST_BYTES:
                yield [*messages, _note(topic, partition, offsets)]
                messages, offsets, size = [], [], 0
            if not left:
                break
        if messages:
            yield [*messages, _note(topic, partition, offsets)]
    finally:
        others.close()


def _message(settings: Settings, logs: LogReader, letter: Letter) -> Message:
    """The record as it was, and where its letter lies. Raises Refusal where it is gone, BrokerError."""
    key, value, headers = original_of(settings, logs, letter)
    source = f"{settings.kafka.dead_letter_topic}/{letter.partition}/{letter.offset}".encode()
    own = [(name, part) for name, part in headers if name != FROM]
    at_ms = max(int(letter.facts["timestamp"]), 0)
    partition = int(letter.facts["partition"])
    return Message(settings.kafka.input_topic, partition, key, value, [*own, (FROM, source)], at_ms)


def _note(topic: str, partition: int, offsets: list[int]) -> Message:
    value = msgspec.json.encode(Note(offsets))
    return Message(topic, partition, NOTE_KEY, value, [(NOTE, b"%d" % len(offsets))])
