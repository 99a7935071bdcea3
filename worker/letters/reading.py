"""Dead letters as an operator reads them: whose they are, why, which were sent again, and their original bytes.

A record of the topic is a letter, a note of letters that were sent again (resending.py writes them), or another's.
"""

import hashlib
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from worker.broker.admin import bounds, topic_id
from worker.broker.contract import LogRecord
from worker.broker.restore import LogReader, whole
from worker.dead_letters import PREFIX
from worker.refusal import Refusal
from worker.settings.settings import Settings

FIRST_FACT = f"{PREFIX}reason"  # own headers come before it
NOTE = "foldcast-resent"  # header of a note: how many letters it names
NOTE_KEY = b"foldcast-resent-"  # the first letter's offset behind it: where a topic is compacted all notes stay
FROM = "foldcast-resent-from"  # header of a record that was sent again: topic/partition/offset of its letter
LEFT_OUT = ("bytes", "key-bytes", "headers-bytes")
NUMBER = re.compile(r"-?[0-9]{1,18}")

Headers = list[tuple[str, bytes]]
Place = tuple[int, int]  # partition and offset in the dead letter topic


class Note(msgspec.Struct, frozen=True):
    """Which letters of the note's own partition were sent to the input in the note's transaction."""

    offsets: list[int]


class Original(NamedTuple):
    """The record that a letter is of."""

    key: bytes | None
    value: bytes | None
    headers: Headers


class Letter(NamedTuple):
    """A dead letter where it lies; `facts` are the worker's headers without their prefix."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    own: Headers
    facts: dict[str, str]

    @property
    def place(self) -> Place:
        """Where the letter is."""
        return self.partition, self.offset

    @property
    def record(self) -> str:
        """Where the record is: `topic-partition-offset`."""
        return "-".join(self.facts.get(name, "?") for name in ("topic", "partition", "offset"))

    @property
    def sent_before(self) -> str | None:
        """The letter whose record, sent again, became this one; None where the record came from a producer."""
        found = dict(self.own).get(FROM)
        return None if found is None else found.decode(errors="replace")

    def is_from(self, topic: str, topic_id: str) -> bool:
        """Whether its record was in this topic: one of the name that was made anew has others. Ids may be empty."""
        source = self.facts.get("source", "")
        return self.facts.get("topic") == topic and (topic_id in ("", source) or not source)

    @property
    def whole(self) -> bool:
        """Whether nothing of the record was left out for its size."""
        return not any(name in self.facts for name in LEFT_OUT)

    def original(self) -> Original:
        """The record as far as the letter has it; a key that names the record's place stands for none."""
        return Original(None if self.key == self.record.encode() else self.key, self.value, self.own)


@dataclass(frozen=True)
class Chosen:
    """Which letters are meant. Times are the letters' own, in milliseconds; None: any."""

    reason: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    partition: int | None = None
    places: frozenset[Place] = frozenset()  # empty: all that the others let pass

    def has(self, letter: Letter) -> bool:
        """Whether it is one of them."""
        return (
            self.reason in (None, letter.facts["reason"])
            and (self.since_ms is None or letter.timestamp_ms >= self.since_ms)
            and (self.until_ms is None or letter.timestamp_ms < self.until_ms)
            and self.partition in (None, letter.partition)
            and (not self.places or letter.place in self.places)
        )

    def partitions(self, every: Iterable[int]) -> list[int]:
        """Those of the topic's partitions where such letters may be."""
        named = {partition for partition, _ in self.places}
        return [p for p in sorted(every) if self.partition in (None, p) and (not named or p in named)]


@dataclass
class Found:
    """What was read of the topic: the chosen letters by reason, and the newest of them."""

    reasons: dict[str, Counter[int]] = field(default_factory=dict)  # letters by reason and partition
    first_ms: dict[str, int] = field(default_factory=dict)
    last_ms: dict[str, int] = field(default_factory=dict)
    resent: set[Place] = field(default_factory=set)  # of all letters read, chosen or not
    places: list[Place] = field(default_factory=list)  # of the chosen
    others: int = 0  # records that are neither letters nor notes
    newest: list[Letter] = field(default_factory=list)  # without their values

    def count(self, letter: Letter) -> None:
        """Take a chosen letter into the counts."""
        reason, at_ms = letter.facts["reason"], letter.timestamp_ms
        self.reasons.setdefault(reason, Counter())[letter.partition] += 1
        self.first_ms[reason] = min(self.first_ms.get(reason, at_ms), at_ms)
        self.last_ms[reason] = max(self.last_ms.get(reason, at_ms), at_ms)
        self.places.append(letter.place)


def letter_of(partition: int, record: LogRecord) -> Letter | None:
    """Return the letter that a record is; None where it is none: anybody may write such headers."""
    names = [name for name, _ in record.headers]
    if FIRST_FACT not in names:
        return None
    cut = len(names) - 1 - names[::-1].index(FIRST_FACT)  # the record's own may have the same names
    facts = {n.removeprefix(PREFIX): (v or b"").decode(errors="replace") for n, v in record.headers[cut:]}
    if not all(NUMBER.fullmatch(facts.get(name, "")) for name in ("partition", "offset", "timestamp")):
        return None
    own = [(name, part or b"") for name, part in record.headers[:cut]]
    return Letter(partition, record.offset, record.timestamp_ms, record.key, record.value, own, facts)


def note_of(record: LogRecord) -> list[int] | None:
    """Return the offsets of the letters that a note names; None where the record is no note."""
    names = {name for name, _ in record.headers}
    if NOTE not in names or FIRST_FACT in names:  # a letter may have any key and header
        return None
    if not (record.key or b"").startswith(NOTE_KEY):
        return None
    try:
        return msgspec.json.decode(record.value or b"", type=Note).offsets
    except msgspec.MsgspecError:
        return None


def letters(settings: Settings, chosen: Chosen, limit: int, read: Callable[[], object] = lambda: None) -> Found:
    """Read the topic and return what is there of the chosen, with the `limit` newest; `read` is called for each letter.

    Raises BrokerError, Refusal.
    """
    kafka = settings.kafka
    topic, found = kafka.dead_letter_topic, Found()
    newest: list[Letter] = []
    logs = LogReader(kafka)
    try:
        for partition in chosen.partitions(bounds(kafka, topic)):
            latest: deque[Letter] = deque(maxlen=limit)
            for letter in scanned(logs, topic, partition, found):
                read()
                if chosen.has(letter):
                    found.count(letter)
                    latest.append(letter._replace(value=None))
            newest += latest
    finally:
        logs.close()
    found.newest = sorted(newest, key=lambda letter: (letter.timestamp_ms, letter.place))[-limit:] if limit else []
    return found


def scanned(logs: LogReader, topic: str, partition: int, found: Found, begin: int | None = None) -> Iterator[Letter]:
    """The letters of a partition; notes and other records are counted in `found`. Raises NotYet, BrokerError."""
    for record in whole(logs, topic, partition, begin):
        if (offsets := note_of(record)) is not None:
            found.resent |= {(partition, offset) for offset in offsets}
        elif (letter := letter_of(partition, record)) is not None:
            yield letter
        else:
            found.others += 1


def letter_at(settings: Settings, place: Place) -> tuple[Letter, bool]:
    """Return the letter at a place, and whether its record was sent again. Raises Refusal, BrokerError."""
    kafka, (partition, offset) = settings.kafka, place
    topic, found = kafka.dead_letter_topic, Found()
    first, end = bounds(kafka, topic).get(partition, (0, 0))
    letter = None
    logs = LogReader(kafka)
    try:
        if first <= offset < end:
            for other in scanned(logs, topic, partition, found, offset):
                letter = letter or (other if other.offset == offset else None)
                if letter is None:
                    break
    finally:
        logs.close()
    if letter is None:
        raise Refusal(
            f"there is no dead letter at {partition}:{offset} of {topic}: `foldcast dead-letters list` names those "
            "that are there"
        )
    return letter, place in found.resent


def original_of(settings: Settings, logs: LogReader, letter: Letter) -> Original:
    """Return the record that a letter is of, from the input where the letter lacks a part of it.

    Raises Refusal where the input does not have it any more, BrokerError.
    """
    if letter.whole:
        return letter.original()
    topic, partition, offset = settings.kafka.input_topic, int(letter.facts["partition"]), int(letter.facts["offset"])
    gone = Refusal(
        f"{letter.record} was too large for its dead letter, and {topic} does not have it any more: only its size and "
        "hash are known"
    )
    first, end = bounds(settings.kafka, topic).get(partition, (0, 0))
    if not letter.is_from(topic, topic_id(settings.kafka, topic)) or not first <= offset < end:
        raise gone
    reading = whole(logs, topic, partition, offset)
    record = next(reading, None)
    reading.close()
    if record is None or record.offset != offset or not _is_of(letter, record):
        raise gone
    return Original(record.key, record.value, [(name, part or b"") for name, part in record.headers])


def _is_of(letter: Letter, record: LogRecord) -> bool:
    """Whether what the letter has of its record, or the hash of it, is in this one."""
    key = letter.record.encode() if record.key is None else record.key  # as a worker names it
    return all(
        hashlib.sha256(part or b"").hexdigest() == letter.facts[name] if name in letter.facts else part == kept
        for name, part, kept in (("sha256", record.value, letter.value), ("key-sha256", key, letter.key))
    )


def facts_of(letter: Letter, resent: bool) -> dict[str, Any]:
    """Return a letter in plain facts, as JSON has them; times in milliseconds."""
    return {
        "letter": f"{letter.partition}:{letter.offset}",
        "time_ms": letter.timestamp_ms,
        "record": letter.record,
        "resent": resent,
        "resent_from": letter.sent_before,
        **{name.replace("-", "_"): letter.facts.get(name) for name in ("reason", "message", "timestamp", "version")},
        "left_out": [name for name in LEFT_OUT if name in letter.facts],
    }
