"""The decoder of events, in several formats, and the dead letters of what it refuses.

A clean refusal is a dead letter with a known reason. A find is any exception, a record that becomes neither an event
nor a dead letter, or an event outside what is documented.
"""

import math
from collections.abc import Iterator

from pipeline.decoding.numbers import Numbers
from pipeline.decoding.times import Times
from pipeline.events import LARGEST, NAME_BYTES, REASONS, Decoder, Format
from tests.security.fuzz import parts, promise
from worker.broker.contract import Records, Topics
from worker.dead_letters import dead_letters

LENIENT = Numbers(lenient=True, sentinels=frozenset({-9999.0, "unknown"}), low=-1e9, high=1e9)
FORMS = (
    Format(),
    Format(covariates=("humid", "wind"), positive=True),
    Format("tags.id", "at.0", "x", covariates=("tags.y",), numbers=LENIENT, times=Times(earliest_ms=0, lenient=True)),
    Format(target_field="."),
    Format(stream_field="id", time_field="at", target_field="x", covariates=("y",), max_ahead_ms=0),
)
DECODERS = tuple(map(Decoder, FORMS))
TIMESTAMPS = (-1, 0, 1_357_020_000_000, 1 << 62, -(1 << 62))
TOPICS = Topics("input", "output", "dead-letters", "changelog")
LETTER_BYTES = 2_000
LONGEST_MS = 1 << 60  # either way; more than any ISO time or nineteen digits of nanoseconds


def one(data: bytes) -> None:
    """Decode a record: a byte for format and timestamp, a line that is the key, and the value."""
    choice, rest = data[0] if data else 0, data[1:]
    key, value = parts(rest, 2)
    decoder = DECODERS[choice % len(DECODERS)]
    timestamp = TIMESTAMPS[choice // len(DECODERS) % len(TIMESTAMPS)]
    records = Records([7], [timestamp], [key or None], [value if choice < 240 else None], [[]])
    batch, rejected = decoder.decode(*records[:4])
    promise(batch.records == 1 and len(batch.name) + len(rejected) == 1, "a record is an event or a dead letter")
    letters = dead_letters(rejected, records, TOPICS, 0, LETTER_BYTES)
    promise(len(letters) == len(rejected), "what is refused becomes a dead letter")
    promise(all(each.reason in REASONS and each.message for each in rejected), "with a reason that is known")
    for name in batch.name:
        promise(0 < len(name.encode()) <= NAME_BYTES, "a name is 1 to 255 bytes")
        time_ms, value_ = int(batch.time_ms[0]), float(batch.value[0])
        promise(abs(time_ms) < LONGEST_MS or time_ms == timestamp, "a time is one that can be reckoned with")
        promise(math.isnan(value_) or abs(value_) <= LARGEST, "a value can be squared")
        promise(not decoder.form.positive or not value_ <= 0, "a value has a logarithm where one is asked for")
        promise(all(math.isnan(c) or abs(c) <= LARGEST for c in batch.covariates[0]), "covariates can be squared")


def seeds() -> Iterator[bytes]:
    """Yield events of each format, and some of which something is wrong."""
    for choice in range(len(FORMS) * len(TIMESTAMPS)):
        yield bytes([choice]) + b'a\n{"stream": "a", "time": "2013-01-01T06:00:00Z", "value": 39.02, "humid": 61}'
        yield bytes([choice]) + b'\n{"id": "a", "at": 1357020000000, "x": 1e3, "y": null, "z": [{}]}'
        yield bytes([choice]) + b'k\n{"tags": {"id": 7, "y": "3.5"}, "at": ["1357020000"], "x": "-9999"}'
        yield bytes([choice]) + b"k\n21.5"
    for value in (b"1e308", b"null", b"-0.0", b"1" * 30, b'"1"', b"[[[", b"true", b"1e-400"):
        yield b'\0k\n{"stream": "\\u00e4", "time": ' + value + b', "value": ' + value + b"}"
    yield b"\xf0k\n"
