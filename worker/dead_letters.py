"""Records that are no events, as messages that fit, and the catch that stops a worker which makes too many of them."""

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Sequence

from pipeline.batch import Rejected
from worker import __version__
from worker.broker.contract import Message, Records, Topics
from worker.broker.headers import offset_in, texts
from worker.observe.log import event as log_event
from worker.refusal import Refusal

MESSAGE_BYTES = 500  # of a dead letter's explanation
FRAMING_BYTES = 128  # of a batch and its one record beyond key, value and headers
PREFIX = "foldcast-error-"
RATIO_OF = 1000  # records before a ratio means anything

SHOWN_EVERY_S = 60.0
SHOWN_BYTES = 200  # of a record in the log

Headers = list[tuple[str, bytes]]


def dead_letters(
    rejected: Sequence[Rejected], records: Records, topics: Topics, partition: int, limit_bytes: int
) -> list[Message]:
    """Return one message per rejected record: its key, value and headers, its place and the reason in more headers.

    A record may be larger than `limit_bytes`, since limits are on batches as they are packed: what does not fit is
    left out, and its size stands in a header.
    """
    letters = []
    for place, reason, message in rejected:
        facts = {
            "reason": reason,
            "message": message.encode()[:MESSAGE_BYTES].decode(errors="ignore"),
            "topic": topics.input,
            "partition": str(partition),
            "offset": str(records.offsets[place]),
            "timestamp": str(records.timestamps_ms[place]),
            "group": topics.group,
            "source": topics.source,
            "version": __version__,
        }
        key, value = records.keys[place], records.values[place]
        own = [(name, part or b"") for name, part in records.headers[place]]  # kafka-python (3.0.12) sends no null
        name = f"{topics.input}-{partition}-{records.offsets[place]}".encode()
        key, value, own = _fitting(name if key is None else key, value, own, name, facts, limit_bytes)
        letters.append(Message(topics.dead_letters, partition, key, value, [*own, *_headers(facts)]))
    return letters


def refused_offset(headers: Sequence[tuple[str, bytes]], topics: Topics, partition: int) -> int | None:
    """Return the offset of the record that a dead letter is of, None where it does not say that it is this group's."""
    facts = texts(headers)  # of two with one name ours is the last
    found = [facts.get(PREFIX + name) for name in ("group", "source", "topic", "partition")]
    mine = found == [topics.group, topics.source, topics.input, str(partition)]
    return offset_in(facts.get(f"{PREFIX}offset", "")) if mine else None


def refused_reason(headers: Sequence[tuple[str, bytes]]) -> str:
    """Return a dead letter's reason; empty where it names none."""
    return texts(headers).get(f"{PREFIX}reason", "")


def _headers(facts: dict[str, str]) -> Headers:
    return [(PREFIX + name, text.encode()) for name, text in facts.items()]


def _fitting(
    key: bytes, value: bytes | None, own: Headers, name: bytes, facts: dict[str, str], limit_bytes: int
) -> tuple[bytes, bytes | None, Headers]:
    """Key, value and headers without the largest of them until the rest fits; what is left out is added to `facts`."""
    for _ in range(3):
        sizes = {"value": len(value or b""), "key": len(key), "headers": _bytes_of(own)}
        if sum(sizes.values()) + _bytes_of(_headers(facts)) + FRAMING_BYTES <= limit_bytes:
            break
        largest = max(sizes, key=sizes.__getitem__)
        if largest == "value":
            facts |= {"bytes": str(sizes[largest]), "sha256": hashlib.sha256(value or b"").hexdigest()}
            value = None
        elif largest == "key":
            facts |= {"key-bytes": str(sizes[largest]), "key-sha256": hashlib.sha256(key).hexdigest()}
            key = name
        else:
            facts["headers-bytes"] = str(sizes[largest])
            own = []
    return key, value, own


def _bytes_of(headers: Headers) -> int:
    return sum(_text_bytes(len(name.encode())) + _text_bytes(len(value)) for name, value in headers)


def _text_bytes(length: int) -> int:
    """What so many bytes take in a record: their length comes first, seven bits to a byte, one for the sign."""
    return length + max((2 * length).bit_length() + 6, 7) // 7


class BadRecords:
    """What the log shows of dead letters: the first of each reason in a minute, and how many there were since."""

    def __init__(self, input_topic: str) -> None:
        self._topic = input_topic
        self._next: dict[str, float] = {}  # by reason: when to show one again
        self._unshown: Counter[str] = Counter()

    def show(self, partition: int, rejected: Sequence[Rejected], records: Records) -> None:
        """Log those of one batch that are due: reason, id, message, and the start of the record, escaped."""
        now = time.monotonic()
        for place, reason, message in rejected:
            if now < self._next.get(reason, now):
                self._unshown[reason] += 1
                continue
            self._next[reason] = now + SHOWN_EVERY_S
            value = records.values[place]
            log_event(
                "dead letter",
                logging.WARNING,
                reason=reason,
                id=f"{self._topic}-{partition}-{records.offsets[place]}",
                why=message,
                record=None if value is None else value[:SHOWN_BYTES].decode(errors="backslashreplace"),
                bytes=len(value or b""),
                not_shown=self._unshown.pop(reason, 0),
            )


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
