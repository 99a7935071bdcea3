"""A dead letter gives back the record that it is of, whatever headers that came with, and whoever writes such."""

from collections.abc import Iterator

import pytest

from pipeline.batch import Rejected
from worker.broker.contract import LogRecord, Message, Records, Topics
from worker.broker.restore import LogReader
from worker.dead_letters import dead_letters
from worker.letters import reading
from worker.letters.reading import Chosen, Letter, Original, letter_of, note_of
from worker.refusal import Refusal
from worker.settings.sources import load

TOPICS = Topics("in", "out", "dead", "changelog", "mine", source="first")
HOSTILE = [
    ("foldcast-error-reason", b"mine"),
    ("foldcast-error-offset", b"99"),
    ("foldcast-resent", b"1"),
    ("own", b""),
]


def record_of(message: Message, offset: int = 4, timestamp_ms: int = 1_600_000_000_000) -> LogRecord:
    return LogRecord(message.key or b"", message.value, message.headers, offset, timestamp_ms)


def letter(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]], limit: int = 1 << 20) -> Letter:
    records = Records([7], [1_600_000_000_000], [key], [value], [headers])
    [message] = dead_letters([Rejected(0, "bad_time", "why")], records, TOPICS, 2, limit)
    found = letter_of(2, record_of(message))
    assert found is not None
    return found


@pytest.mark.parametrize("headers", [[], HOSTILE])
@pytest.mark.parametrize(("key", "value"), [(b"a", b"{"), (None, b""), (b"", None)])
def test_the_record_comes_back_as_it_was(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    found = letter(key, value, headers)
    assert found.original() == (key, value, headers)
    assert (found.facts["reason"], found.record, found.place, found.whole) == ("bad_time", "in-2-7", (2, 4), True)


def test_what_was_left_out_is_told() -> None:
    assert not letter(b"a", bytes(5000), [], 1000).whole
    assert not letter(bytes(5000), b"a", [], 1000).whole
    assert not letter(b"a", b"a", [("own", bytes(5000))], 1000).whole


LARGE_KEY = (b"a" * 5000, b"{", [])
LARGE_VALUE = (b"a", b"{" * 5000, [])
LARGE_HEADERS = (None, b"{", [("own", b"x" * 5000)])


@pytest.mark.parametrize(
    ("lost", "there", "source", "same"),
    [
        (LARGE_KEY, LARGE_KEY, "first", True),
        (LARGE_VALUE, LARGE_VALUE, "", True),
        (LARGE_HEADERS, LARGE_HEADERS, "first", True),
        (LARGE_VALUE, LARGE_VALUE, "deleted", False),
        (LARGE_KEY, (b"b" * 5000, b"{", []), "first", False),
        (LARGE_KEY, (b"a" * 5000, b"[", []), "first", False),
        (LARGE_VALUE, (b"b", b"{" * 5000, []), "first", False),
        (LARGE_VALUE, (None, b"{" * 5000, []), "first", False),
        (LARGE_HEADERS, (b"a", b"{", [("own", b"x" * 5000)]), "first", False),
        (LARGE_HEADERS, (None, None, [("own", b"x" * 5000)]), "first", False),
    ],
)
def test_what_was_left_out_is_taken_from_the_letters_own_record_alone(
    lost: Original, there: Original, source: str, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def log(*place: object) -> Iterator[LogRecord]:
        yield LogRecord(*there, 7, 0)

    monkeypatch.setattr(reading, "bounds", lambda kafka, topic: {2: (0, 9)})
    monkeypatch.setattr(reading, "topic_id", lambda kafka, topic: "first")
    monkeypatch.setattr(reading, "whole", log)
    short = letter(*lost, 1000)
    short.facts["source"] = source
    settings = load(None, {}, kafka={"input_topic": "in", "output_topic": "out"})
    logs = LogReader(settings.kafka)
    if same:
        assert reading.original_of(settings, logs, short) == there
    else:
        with pytest.raises(Refusal, match="in-2-7 was too large"):
            reading.original_of(settings, logs, short)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("foldcast-error-reason", b"bad_time")],
        [("foldcast-error-reason", b"x"), *((f"foldcast-error-{n}", b"1") for n in ("partition", "timestamp"))],
        [
            ("foldcast-error-reason", b"x"),
            *((f"foldcast-error-{n}", b"\xff") for n in ("partition", "timestamp", "offset")),
        ],
    ],
)
def test_what_others_write_is_no_letter(headers: list[tuple[str, bytes]]) -> None:
    assert letter_of(0, LogRecord(b"", b"", headers)) is None


@pytest.mark.parametrize(
    ("key", "value", "offsets"),
    [
        (b"foldcast-resent-1", b'{"offsets": [1, 5]}', [1, 5]),
        (b"other", b'{"offsets": [1, 5]}', None),
        (None, b'{"offsets": [1, 5]}', None),
        (b"foldcast-resent-1", b'{"offsets": "all"}', None),
        (b"foldcast-resent-1", None, None),
    ],
)
def test_a_note_names_letters_and_what_looks_like_one_names_none(
    key: bytes | None, value: bytes | None, offsets: list[int] | None
) -> None:
    assert note_of(LogRecord(key, value, [("foldcast-resent", b"2")])) == offsets


def test_a_letter_whose_record_looks_like_a_note_is_none() -> None:
    records = Records([7], [0], [b"foldcast-resent-4"], [b'{"offsets": [4]}'], [[("foldcast-resent", b"1")]])
    [message] = dead_letters([Rejected(0, "wrong_type", "")], records, TOPICS, 2, 1 << 20)
    assert note_of(record_of(message)) is None


def test_filters_choose() -> None:
    one, at_ms = letter(b"a", b"{", []), 1_600_000_000_000
    right = [Chosen(), Chosen("bad_time", at_ms, at_ms + 1, 2), Chosen(places=frozenset({(2, 4)}))]
    wrong = [Chosen("no_value"), Chosen(since_ms=at_ms + 1), Chosen(until_ms=at_ms), Chosen(partition=1)]
    assert all(chosen.has(one) for chosen in right)
    assert not any(chosen.has(one) for chosen in [*wrong, Chosen(places=frozenset({(2, 5)}))])
    assert Chosen(partition=1).partitions([0, 1]) == [1]
    assert Chosen(places=frozenset({(0, 3)})).partitions([0, 1]) == [0]
