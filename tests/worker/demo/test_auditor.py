"""The auditor finds what it is for, and judges the input as the pipeline does."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.events import Decoder, Format
from pipeline.network.model import Network, Shape
from pipeline.parts import admission
from pipeline.shard import Shard
from tests.rigs.methods import SMALL
from worker.broker.restore import TopicRecord
from worker.demo.auditor import Report, Rules, audit, expected

TOPIC = "room-7-events"  # with dashes and a number, as in an id
NOW_MS = 1_700_000_000_000
Log = list[TopicRecord]


def record(
    offset: int, value: object, key: bytes | None = b"a", partition: int = 0, timestamp_ms: int = NOW_MS
) -> TopicRecord:
    body = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return TopicRecord(partition, offset, timestamp_ms, key, body, [])


def event(offset: int, stream: str, minute: int, value: object, partition: int = 0) -> TopicRecord:
    return record(offset, {"stream": stream, "time": f"2013-01-01T00:{minute:02}:00Z", "value": value}, None, partition)


INPUT = [
    event(0, "a", 0, 1.0),
    event(1, "b", 0, 5),
    event(2, "a", 1, 2.0),
    event(3, "a", 1, 2.0),  # duplicate
    event(4, "a", 0, 2.0),  # late
    event(5, "a", 2, None),  # missing
    record(7, b"{", b"k"),
    record(9, None),
    event(10, "a", 2, 3.0),
    event(0, "c", 0, 1.0, partition=1),
]


def forecast(offset: int, stream: str, minute: int, value: float, partition: int = 0) -> TopicRecord:
    key = f"{TOPIC}-{partition}-{offset}"
    body = {"id": key, "stream": stream, "time": 1_356_998_400_000 + minute * 60_000, "value": value}
    headers = [("foldcast-id", key.encode())]
    return TopicRecord(partition, 100 + offset, NOW_MS, stream.encode(), json.dumps(body).encode(), headers)


def dead_letter(of: TopicRecord) -> TopicRecord:
    names = {
        "reason": "why",
        "topic": TOPIC,
        "partition": str(of.partition),
        "offset": str(of.offset),
        "timestamp": str(of.timestamp_ms),
    }
    headers = [(f"foldcast-error-{name}", value.encode()) for name, value in names.items()]
    return of._replace(offset=50 + of.offset, headers=headers)


def outputs() -> Log:
    return [
        forecast(0, "a", 0, 1.0),
        forecast(1, "b", 0, 5.0),
        forecast(2, "a", 1, 2.0),
        forecast(10, "a", 2, 3.0),
        forecast(0, "c", 0, 1.0, partition=1),
    ]


def letters() -> Log:
    return [dead_letter(INPUT[6]), dead_letter(INPUT[7])]


def audited(output: Sequence[TopicRecord], dead: Sequence[TopicRecord]) -> Report:
    return audit(INPUT, output, dead, Rules(), TOPIC)


def test_what_is_right_is_found_right() -> None:
    report = audited(outputs(), letters())
    assert report.ok, "\n".join(report.lines())
    assert (report.events, report.dropped, dict(report.right)) == (10, 3, {"forecasts": 5, "dead letters": 2})
    assert dict(report.expected) == {"forecast": 5, "duplicate": 1, "late": 1, "missing": 1, "dead": 2}


AHEAD_MS = NOW_MS + 3_600_000 + 120_000
JUDGED = [
    *INPUT,
    record(11, {"stream": "a", "value": 4.0}, timestamp_ms=AHEAD_MS),
    record(12, {"stream": "new", "value": 1.0}),
    event(13, "a", 3, 5.0),
]


def refusal(of: TopicRecord, reason: bytes) -> TopicRecord:
    letter = dead_letter(of)
    headers = [(name, reason if name.endswith("reason") else value) for name, value in letter.headers]
    return letter._replace(headers=headers, timestamp_ms=NOW_MS)


def test_what_a_worker_refuses_by_its_clock_or_its_memory_is_believed_and_the_stream_goes_on() -> None:
    dead = [*letters(), refusal(JUDGED[10], b"future_time"), refusal(JUDGED[11], b"too_many_streams")]
    report = audit(JUDGED, [*outputs(), forecast(13, "a", 3, 5.0)], dead, Rules(), TOPIC)
    assert report.ok, "\n".join(report.lines())
    assert report.expected["dead"] == 4


@pytest.mark.parametrize(
    ("place", "reason"), [(10, b"too_many_streams"), (11, b"future_time"), (12, b"too_many_streams"), (11, b"other")]
)
def test_a_refusal_that_cannot_be_true_is_not_believed(place: int, reason: bytes) -> None:
    report = audit(JUDGED[: place + 1], outputs(), [*letters(), refusal(JUDGED[place], reason)], Rules(), TOPIC)
    assert report.faults["unexpected dead letters"] == 1


def drop(log: Log) -> Log:
    return log[1:]


def double(log: Log) -> Log:
    return [*log, log[0]]


def swap_streams(log: Log) -> Log:
    return [log[1], log[0], *log[2:]]


def swap_one_stream(log: Log) -> Log:
    return [log[2], log[1], log[0], *log[3:]]


def alter(**changed: object) -> Callable[[Log], Log]:
    def altered(log: Log) -> Log:
        return [log[0]._replace(**changed), *log[1:]]

    return altered


def say(**changed: object) -> Callable[[Log], Log]:
    def said(log: Log) -> Log:
        return alter(value=json.dumps(json.loads(log[0].value or b"") | changed).encode())(log)

    return said


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (drop, "missing forecasts"),
        (double, "forecasts twice"),
        (swap_one_stream, "forecasts out of order"),
        (say(value=1.0000001), "wrong forecasts"),
        (say(time=1_356_998_400_001), "wrong forecasts"),
        (say(stream="b"), "wrong forecasts"),
        (say(id=f"{TOPIC}-0-4"), "unexpected forecasts"),  # of a late event
        (say(id=f"{TOPIC}-0-7"), "unexpected forecasts"),  # of a dead letter
        (say(id=f"{TOPIC}-0-77"), "unexpected forecasts"),  # of nothing
        (say(id="room-8-events-0-0"), "wrong forecasts"),
        (say(id=7), "unreadable forecasts"),
        (alter(partition=1), "wrong forecasts"),
        (alter(key=b"b"), "wrong forecasts"),
        (alter(headers=[]), "wrong forecasts"),
        (alter(value=b"{"), "unreadable forecasts"),
        (alter(value=None), "unreadable forecasts"),
    ],
)
def test_a_damaged_output_is_found(damage: Callable[[Log], Log], fault: str) -> None:
    report = audited(damage(outputs()), letters())
    assert not report.ok
    assert report.faults[fault] == 1, "\n".join(report.lines())


def test_streams_may_overtake_each_other() -> None:
    assert audited(swap_streams(outputs()), letters()).ok


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (drop, "missing dead letters"),
        (double, "dead letters twice"),
        (alter(value=b"{ "), "wrong dead letters"),
        (alter(value=None), "wrong dead letters"),
        (alter(key=None), "wrong dead letters"),
        (alter(partition=1), "wrong dead letters"),
        (alter(headers=dead_letter(INPUT[0]).headers), "unexpected dead letters"),
        (alter(headers=dead_letter(INPUT[5]).headers), "unexpected dead letters"),
        (alter(headers=dead_letter(record(7, b"", timestamp_ms=1)).headers), "wrong dead letters"),
        (alter(headers=[]), "unreadable dead letters"),
    ],
)
def test_damaged_dead_letters_are_found(damage: Callable[[Log], Log], fault: str) -> None:
    report = audited(outputs(), damage(letters()))
    assert not report.ok
    assert report.faults[fault] == 1, "\n".join(report.lines())


def test_a_note_is_no_letter_and_a_letter_whose_own_header_has_its_name_is_one() -> None:
    first, second = letters()
    note = TopicRecord(0, 99, NOW_MS, b"foldcast-resent-57", b'{"offsets": [57]}', [("foldcast-resent", b"1")])
    own = first._replace(headers=[("foldcast-resent", b"1"), *first.headers])
    assert audited(outputs(), [own, second, note]).ok
    assert audited(outputs(), [own, own, second]).faults["dead letters twice"] == 1


def without_value(letter: TopicRecord, of: bytes) -> TopicRecord:
    """As a letter of this value goes where it is too large."""
    said = [("foldcast-error-bytes", b"%d" % len(of)), ("foldcast-error-sha256", sha256(of).hexdigest().encode())]
    return letter._replace(value=None, headers=[("trace", b"\xff"), *letter.headers, *said])


def test_a_value_that_is_left_out_has_to_be_named_rightly() -> None:
    first, second = letters()
    assert audited(outputs(), [without_value(first, b"{"), second]).ok
    for wrong in (without_value(first, b"["), without_value(first, b"{")._replace(value=b"[")):
        assert audited(outputs(), [wrong, second]).faults["wrong dead letters"] == 1


def test_a_letter_of_a_record_without_a_key_has_its_place_for_one() -> None:
    bad = record(0, b"{", None)
    for key, ok in ((f"{TOPIC}-0-0".encode(), True), (None, False), (b"", False)):
        assert audit([bad], [], [dead_letter(bad)._replace(key=key)], Rules(), TOPIC).ok == ok


# ---- the same verdicts as the pipeline's

numbers = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([0.5, -0.0, 1e36, 1.1e36, -1e36, 10**400, 2**53 + 1, 2**64, 5e-324]),
    st.floats(allow_nan=True, allow_infinity=True),
)
anything = st.one_of(numbers, st.none(), st.booleans(), st.text(max_size=3), st.just([]), st.just({"a": 1}))
times = st.one_of(
    st.integers(1_600_000_000, 1_600_000_003),
    st.sampled_from([f"2020-09-13T12:26:4{s}Z" for s in range(4)]),
    st.sampled_from(["2020-09-13", "2020-09-13T12:26:40.0019+00:00", "20200913T122640Z", "2020-W37-7", "noon", ""]),
    st.sampled_from(["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2020-09-13T12:26:40"]),
    st.sampled_from([10**11 - 1, 10**11, 10**14 - 1, 10**14, 10**17, 10**19, 10**30, -(10**12), -1.5, 1e300]),
    st.sampled_from([1_600_000_000_001, 1_600_000_000_001_500, 1_600_000_000_001_500_999, 1.6e18, 1600000000.0019]),
    st.integers(),
    anything,
)
streams = st.sampled_from(["a", "b", "", None, "ä" * 127, "ä" * 128, 7, "a\u0000"])
objects = st.fixed_dictionaries(
    {"stream": streams, "time": times},
    optional={"value": st.one_of(numbers, st.none(), anything), "humid": anything, "other": anything},
)
plausible = st.builds(
    lambda stream, time, value: json.dumps({"stream": stream, "time": time, "value": value}).encode(),
    st.sampled_from("ab"),
    st.integers(1_600_000_000, 1_600_000_002),
    st.sampled_from([0, -0.0, 1, 2.5, None]),
)
nasty = st.one_of(
    objects.map(lambda fields: json.dumps(fields).encode()),
    objects.map(lambda fields: json.dumps(fields, ensure_ascii=False).encode()),
    st.none(),
    st.binary(max_size=8),
    st.sampled_from([b"[]", b"1", b'"a"', b"null", b"{} {}", b"\xef\xbb\xbf{}", b'{"stream": "\xff", "value": 1}']),
    st.sampled_from([b'{"value": 01}', b'{"value": 1e999}', b'{"value": -Infinity}', b'{"value": 1.}', b"[" * 5000]),
    st.sampled_from(
        [b'{"stream": "\\ud800", "value": 1}', b"\xff\xfe{\x00}\x00", b'{"value": 1,}', b' {"value": 1}\n']
    ),
)
keys = st.sampled_from([b"a", b"b", None, b"", b"\xff", b"k" * 255, b"k" * 256])
timestamps = st.sampled_from([NOW_MS, 1_600_000_002_000, 1_600_000_000_000, -1, 0])
Row = tuple[bytes | None, bytes | None, int]
likely = st.tuples(plausible, keys, st.just(NOW_MS))
unlikely = st.tuples(nasty, keys, timestamps)
rows = st.lists(st.sampled_from([likely, likely, likely, unlikely]).flatmap(lambda row: row), min_size=1, max_size=30)


@settings(deadline=None)  # the first call compiles
@given(rows, st.sampled_from(["drop", "accept"]), st.booleans())
def test_its_verdicts_are_the_pipelines(rows: list[Row], same_time: str, positive: bool) -> None:
    rules = Rules(covariates=("humid",), positive=positive, same_time=same_time)
    log = [TopicRecord(0, offset, at, key, value, []) for offset, (value, key, at) in enumerate(rows)]
    assert expected(log, rules).of == {(0, o): verdict for o, verdict in enumerate(pipelines(log, rules))}


def pipelines(log: Log, rules: Rules) -> list[str]:
    transform = "log" if rules.positive else "none"
    method = replace(SMALL, covariates=rules.covariates, same_time=rules.same_time, transform=transform)
    decoder = Decoder(Format(covariates=rules.covariates, positive=rules.positive, max_ahead_ms=rules.max_ahead_ms))
    _, offsets, timestamps, keys, bodies, _ = zip(*log, strict=True)
    batch, rejected = decoder.decode(offsets, timestamps, keys, bodies)
    forecasts = Shard(method, Network(Shape.of(method)), 0, {}).advance(batch)
    names = {admission.ACCEPTED: "forecast", admission.LATE: "late"}
    names |= {admission.DUPLICATE: "duplicate", admission.MISSING: "missing"}
    became = dict(zip(batch.offset.tolist(), (names[v] for v in forecasts.verdict.tolist()), strict=True))
    became |= {offsets[place]: "dead" for place, _, _ in rejected}
    return [became[offset] for offset in offsets]
