"""What leaves a worker as bytes: the JSON of a forecast, its numbers, and dead letters as they came."""

import hashlib
import json
import math
import struct
from dataclasses import replace
from itertools import pairwise

import numpy as np
import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatchBuilder

from pipeline.events import Decoder, Format
from pipeline.forecasts import Forecasts
from pipeline.method import Method
from pipeline.network.model import Shape
from pipeline.rounding import significant
from pipeline.shard import Shard
from tests.rigs.methods import MEDIAN, SMALL
from tests.rigs.networks import with_head
from worker import __version__
from worker.broker.contract import Message, Records, Topics
from worker.dead_letters import FRAMING_BYTES, MESSAGE_BYTES, SHOWN_BYTES, BadRecords, dead_letters
from worker.observe.log import JsonLines, TextLines
from worker.publish import forecast_messages

METHOD = SMALL
TOPICS = Topics("readings", "forecasts", "bad", "log", "group", source="id")
VERSION = "gru8-0"
LIMIT = 1_000_000  # bytes of a dead letter
Headers = list[tuple[str, bytes | None]]


def fold(bodies: list[bytes | None], method: Method = METHOD, first: int = 0) -> tuple[Forecasts, list[Message]]:
    """Forecasts and all messages of records a minute apart."""
    network = with_head(Shape.of(method), 1, 1)
    offsets = list(range(first, first + len(bodies)))
    records = Records(offsets, [60_000 * (o + 1) for o in offsets], [b"key"] * len(bodies), bodies, [()] * len(bodies))
    batch, rejected = Decoder(Format(positive=method.transform == "log")).decode(*records[:4])
    forecasts = Shard(method, network, first, {}).advance(batch)
    messages = forecast_messages(forecasts, method, VERSION, TOPICS, 3)
    return forecasts, messages + dead_letters(rejected, records, TOPICS, 3, LIMIT)


def event(n: int, value: object, stream: str = "s") -> bytes:
    return json.dumps({"stream": stream, "time": 60 * n, "value": value}).encode()


def strict(body: bytes | None) -> dict[str, object]:
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    found: dict[str, object] = json.loads(body or b"", parse_constant=refuse)
    return found


def numbers(found: object) -> list[object]:
    if isinstance(found, dict):
        return [n for v in found.values() for n in numbers(v)]
    if isinstance(found, list):
        return [n for v in found for n in numbers(v)]
    return [found]


# ---- forecasts


def test_a_forecast_has_the_shape_that_is_promised() -> None:
    _, messages = fold([event(n, 20.5 + n % 3) for n in range(30)])
    topic, partition, key, value, headers, timestamp_ms = messages[-1]
    assert (topic, partition, key, timestamp_ms) == ("forecasts", 3, b"s", None)
    told = [("content-type", b"application/json"), ("foldcast-id", b"readings-3-29")]
    whose = [("foldcast-group", b"group"), ("foldcast-source", b"id")]
    assert list(headers) == [*told, *whose], "the last one of a transaction says whose it is"
    body = strict(value)
    assert list(body) == [
        "id", "stream", "time", "value", "horizons", "times", "mean", "quantiles", "expected", "model",
    ]  # fmt: skip
    assert body["id"] == "readings-3-29"
    assert (body["stream"], body["time"], body["value"], body["model"]) == ("s", 29 * 60_000, 22.5, VERSION)
    assert body["horizons"] == [1, 3]
    assert body["times"] == [30 * 60_000, 32 * 60_000]
    assert isinstance(body["quantiles"], dict)
    assert list(body["quantiles"]) == ["0.025", "0.1", "0.5", "0.9", "0.975"]
    assert all(len(row) == 2 for row in body["quantiles"].values())
    assert isinstance(body["expected"], dict)
    assert list(body["expected"]) == ["mean", "low", "high", "level", "outside"]
    assert body["expected"]["level"] == 0.95


def test_numbers_are_those_of_the_forecast_transposed_by_quantile() -> None:
    forecasts, messages = fold([event(n, math.sin(n) * 100) for n in range(40)])
    for i, message in enumerate(messages):
        body = strict(message.value)
        np.testing.assert_allclose(body["mean"], forecasts.mean[i], rtol=6e-9)
        columns = np.array(list(body["quantiles"].values()))  # type: ignore[attr-defined]
        np.testing.assert_allclose(columns, forecasts.quantiles[i].T, rtol=6e-9)
        assert (np.diff(columns, axis=0) >= 0).all(), "quantiles never cross, rounded neither"


def test_times_are_null_before_a_stream_has_a_step_and_expected_before_something_was_said() -> None:
    _, messages = fold([event(n, value) for n, value in enumerate((1, 5, 2, 4, 3))])
    bodies = [strict(m.value) for m in messages]
    assert [b["times"] is None for b in bodies] == [True, False, False, False, False]
    assert bodies[0]["expected"] is None
    assert bodies[-1]["expected"] is not None


def test_expected_is_what_the_forecast_before_said_and_outside_is_by_its_band() -> None:
    _, messages = fold([event(n, n % 4 + (1000.0 if n == 45 else 0)) for n in range(50)])
    bodies = [strict(m.value) for m in messages]
    known = 0
    for before, body in pairwise(bodies):
        said, quantiles = body["expected"], before["quantiles"]
        if said is None:
            continue
        known += 1
        assert isinstance(said, dict)
        assert isinstance(quantiles, dict)
        assert said["mean"] == before["mean"][0]  # type: ignore[index]
        assert (said["low"], said["high"]) == (quantiles["0.025"][0], quantiles["0.975"][0])
        assert said["outside"] == (not said["low"] <= body["value"] <= said["high"])
    assert known > 40
    assert bodies[45]["expected"]["outside"] is True  # type: ignore[index]


def test_without_a_band_nothing_is_expected() -> None:
    median = MEDIAN
    said = Forecasts.blank(1, median)._replace(name=["s"])
    said.mean[:], said.expected[:] = 1, 1
    [message] = forecast_messages(said, median, VERSION, TOPICS, 0)
    assert strict(message.value)["expected"] is None


def test_names_in_any_script_survive() -> None:
    _, messages = fold([event(1, 1.0, 'Zürich.温度/"\\\n\x00')])
    assert messages[0].key is not None
    assert messages[0].key.decode() == strict(messages[0].value)["stream"] == 'Zürich.温度/"\\\n\x00'


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e36, 1e36) | st.sampled_from([0.0, 1e36, -1e36, 5e-324, 1e-300]), max_size=30),
    st.sampled_from(["none", "log"]),
)
def test_no_number_of_a_forecast_is_ever_missing_or_infinite(values: list[float], transform: str) -> None:
    assume(values)
    method = replace(METHOD, transform=transform)  # type: ignore[arg-type]
    values = [abs(v) or 1.0 for v in values] if transform == "log" else values
    _, messages = fold([event(n, v) for n, v in enumerate(values)], method)
    assert len(messages) == len(values)
    for message in messages:
        body = strict(message.value)
        for name in ("mean", "quantiles"):
            assert all(isinstance(n, int | float) for n in numbers(body[name])), body
        if body["expected"] is not None:
            assert all(isinstance(n, int | float) for n in numbers(body["expected"])), body


@pytest.mark.parametrize("unit", [1.0, 1e-7, 1e-30, 1e13, 1e25, np.inf])
def test_a_body_is_what_orjson_makes_of_the_rounded_numbers(unit: float) -> None:
    forecasts, _ = fold([event(n, n % 7 + n / 3, f'"{n % 2}",\n') for n in range(60)])
    with np.errstate(invalid="ignore"):  # what is 0 is no number then
        for field in ("mean", "quantiles", "expected", "value"):
            forecasts.events[field][1:] *= unit
    messages = forecast_messages(forecasts, METHOD, VERSION, TOPICS, 3)
    assert len(messages) == 60
    for message, own in zip(messages, forecasts.events, strict=True):
        assert message.value is not None
        mean, low, high = significant(own["expected"]).tolist()
        outside = not low <= own["value"] <= high
        expected = {"mean": mean, "low": low, "high": high, "level": 0.95, "outside": outside}
        times = [own["time_ms"].item() + h * own["step_ms"].item() for h in METHOD.horizons]
        quantiles = significant(own["quantiles"]).T.tolist()
        body = {
            "id": f"readings-3-{own['offset']}",
            "stream": f'"{own["offset"] % 2}",\n',
            "time": own["time_ms"].item(),
            "value": own["value"].item(),
            "horizons": METHOD.horizons,
            "times": times if own["step_ms"] else None,
            "mean": significant(own["mean"]).tolist(),
            "quantiles": dict(zip(map(repr, METHOD.quantiles), quantiles, strict=True)),
            "expected": None if math.isnan(mean) else expected,
            "model": VERSION,
        }
        assert message.value == orjson.dumps(body)


# ---- dead letters

finite = st.floats(allow_nan=False, allow_infinity=False)


def test_a_dead_letter_is_the_original_with_where_and_why_in_headers() -> None:
    body = b'\xff\x00{"not JSON'
    _, [letter] = fold([body], first=41)
    assert (letter.topic, letter.partition, letter.key, letter.value) == ("bad", 3, b"key", body)
    headers = dict(letter.headers)
    assert headers.pop("foldcast-error-message")
    assert headers == {
        "foldcast-error-reason": b"undecodable",
        "foldcast-error-topic": b"readings",
        "foldcast-error-partition": b"3",
        "foldcast-error-offset": b"41",
        "foldcast-error-timestamp": b"2520000",
        "foldcast-error-group": b"group",
        "foldcast-error-source": b"id",
        "foldcast-error-version": __version__.encode(),
    }


def letter_of(key: bytes | None, value: bytes | None, headers: Headers | None = None) -> Message:
    """The dead letter of this one record, at offset 7 of partition 0."""
    records = Records([7], [1], [key], [value], [headers or []])
    _, rejected = Decoder(Format()).decode(*records[:4])
    [letter] = dead_letters(rejected, records, TOPICS, 0, LIMIT)
    return letter


def size_of(letter: Message) -> int:
    """Bytes of a batch that holds it alone, as the client counts them."""
    builder = DefaultRecordBatchBuilder(2, 0, True, 1, 1, 1, 1 << 30)
    builder.append(0, 1, letter.key, letter.value, list(letter.headers))
    return len(builder.build())


@pytest.mark.parametrize("value", [None, b"{"])
def test_a_record_without_a_key_gets_its_place_for_one_so_that_a_compacted_topic_would_take_it(
    value: bytes | None,
) -> None:
    letter = letter_of(None, value)
    assert (letter.key, letter.value) == (b"readings-0-7", value)


def test_the_records_own_headers_come_first_and_ours_win() -> None:
    own: Headers = [("traceparent", b"00-4bf9"), ("foldcast-error-offset", b"99"), ("twice", b"1"), ("twice", None)]
    letter = letter_of(b"k", b"{", own)
    assert list(letter.headers[:4]) == [*own[:3], ("twice", b"")], "null cannot be sent"
    assert dict(letter.headers)["foldcast-error-offset"] == b"7"


def test_the_first_bad_record_of_each_reason_in_a_minute_is_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [5.0]
    monkeypatch.setattr("worker.dead_letters.time.monotonic", lambda: now[0])
    bad = BadRecords("readings")

    def shown(*bodies: bytes | None) -> list[dict[str, object]]:
        caplog.clear()
        offsets = list(range(7, 7 + len(bodies)))
        records = Records(offsets, [0] * len(bodies), [None] * len(bodies), list(bodies), [()] * len(bodies))
        bad.show(3, Decoder(Format()).decode(*records[:4])[1], records)
        assert {record.levelname for record in caplog.records} <= {"WARNING"}
        return [json.loads(JsonLines().format(record)) for record in caplog.records]

    first, second = shown(b"{\xff\n" + b"x" * 1000, None, b"{", b"{", None)
    assert (first["message"], first["level"], first["reason"]) == ("dead letter", "warning", "undecodable")
    assert (first["id"], first["bytes"], first["not_shown"]) == ("readings-3-7", 1003, 0)
    assert first["record"] == "{\\xff\n" + "x" * (SHOWN_BYTES - 3)
    assert (second["reason"], second["record"], second["bytes"]) == ("empty", None, 0)
    line = TextLines().format(caplog.records[0])
    assert line.count("\n") == 0
    now[0] += 59
    assert shown(b"{") == []
    now[0] += 1
    assert [(line["reason"], line["not_shown"]) for line in shown(b"{", b"{")] == [("undecodable", 3)]


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"k", b" " * 3_000_000, []),
        (b"k" * 3_000_000, b"{", []),
        (b"k" * 2_000_000, b" " * 3_000_000, [("traceparent", b"00-4bf9")]),
        (b"k", b"{", [("h", b"x" * 3_000_000)]),
        (b"k", b"{", [("h", b"")] * 400_000),
        (b"k" * 2_000_000, b" " * 3_000_000, [("h", b"x" * 4_000_000)]),
    ],
)
def test_what_is_larger_than_a_letter_may_be_is_left_out_and_its_size_is_said(
    key: bytes, value: bytes, headers: Headers
) -> None:
    letter = letter_of(key, value, headers)
    assert size_of(letter) <= LIMIT
    said = dict(letter.headers)
    assert {said[f"foldcast-error-{name}"] for name in ("topic", "partition", "offset")} == {b"readings", b"0", b"7"}
    if len(value) > LIMIT:
        assert letter.value is None
        assert said["foldcast-error-bytes"] == str(len(value)).encode()
        assert said["foldcast-error-sha256"] == hashlib.sha256(value).hexdigest().encode()
    else:
        assert (letter.value, "foldcast-error-bytes" in said) == (value, False)
    if len(key) > LIMIT:
        assert letter.key == b"readings-0-7"
        assert said["foldcast-error-key-bytes"] == str(len(key)).encode()
        assert said["foldcast-error-key-sha256"] == hashlib.sha256(key).hexdigest().encode()
    else:
        assert letter.key == key
    assert ("foldcast-error-headers-bytes" in said) == (len(headers) > 1 or "h" in dict(headers))


@settings(deadline=None, max_examples=20)
@given(st.integers(-300, 300), st.integers(0, 5000), st.sampled_from(["key", "value"]))
def test_whatever_fits_goes_as_it_is(beyond: int, headers: int, where: str) -> None:
    own: Headers = [("traceparent", b"00")] * headers
    rest = size_of(letter_of(b"", b"", own))
    large = b"{" * (LIMIT - rest + beyond - 8)
    letter = letter_of(*((large, b"{") if where == "key" else (b"k", large)), own)
    assert size_of(letter) <= LIMIT
    if beyond <= -FRAMING_BYTES:
        assert large in (letter.key, letter.value)


def test_every_record_is_a_forecast_a_dead_letter_or_dropped_and_letters_name_their_own_offset() -> None:
    bodies = [event(0, 1.0), b"{", event(1, None), None, event(1, 2.0), event(1, 2.0), b"[]", event(2, 3.0)]
    _, messages = fold(bodies)
    assert [dict(m.headers)["foldcast-id"] for m in messages if m.topic == "forecasts"] == [
        b"readings-3-0",
        b"readings-3-4",
        b"readings-3-7",
    ]
    assert [dict(m.headers)["foldcast-error-offset"] for m in messages if m.topic == "bad"] == [b"1", b"3", b"6"]


@pytest.mark.parametrize("size", [10, 600, 5000])
def test_explanations_are_cut_between_characters(size: int) -> None:
    _, [letter] = fold([json.dumps({"stream": "s", "time": "é温" * size, "value": 1}).encode()])
    message = dict(letter.headers)["foldcast-error-message"]
    assert len(message) <= MESSAGE_BYTES
    message.decode()


@settings(deadline=None)
@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | finite | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    ).map(lambda v: json.dumps(v).encode())
    | st.fixed_dictionaries(
        {
            "stream": st.text(max_size=300) | st.integers() | st.none(),
            "time": st.text(max_size=30) | finite | st.integers() | st.none(),
            "value": finite | st.integers() | st.none() | st.text(max_size=5),
        }
    ).map(lambda v: json.dumps(v).encode())
    | st.sampled_from([b'{"stream":"\\ud800","time":1,"value":1}', b'{"stream":"s","time":"\\udfff","value":1}'])
)
def test_whatever_comes_is_sent_on_or_forecast(body: bytes) -> None:
    forecasts, messages = fold([body])
    dropped = int((forecasts.verdict > 0).sum())
    assert len(messages) + dropped == 1
    for message in messages:
        if message.topic == "forecasts":
            strict(message.value)
        else:
            assert message.value == body


def test_single_precision_noise_does_not_show() -> None:
    noisy = struct.unpack("f", struct.pack("f", 20.1))[0]
    _, messages = fold([event(n, noisy) for n in range(3)])
    assert b"20.1000004" in (messages[-1].value or b"")
    assert b"20.100000381" not in (messages[-1].value or b"").partition(b'"mean"')[2]
