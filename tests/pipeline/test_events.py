"""What a record must be to be an event, and the reason where it is none."""

import json
import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.batch import OUTSIDE, SENTINEL, Batch, Rejected
from pipeline.decoding.numbers import Numbers
from pipeline.decoding.times import Times, from_epoch, from_iso
from pipeline.events import LARGEST, NAME_BYTES, REASONS, Decoder, Format

NOW = 1_700_000_000_000
TIMES = '"time":1700000000'


def decode(
    form: Format, *records: tuple[bytes | None, bytes | None], timestamp: int = NOW
) -> tuple[Batch, list[Rejected]]:
    keys, values = [k for k, _ in records], [v for _, v in records]
    return Decoder(form).decode(range(10, 10 + len(records)), [timestamp] * len(records), keys, values)


REFUSED = [
    ("empty", b"a", None, NOW),
    ("undecodable", b"a", b"", NOW),
    ("undecodable", b"a", b'{"value":1', NOW),
    ("undecodable", b"a", b'{"value":NaN}', NOW),
    ("undecodable", b"a", b'{"stream":"\xff","value":1}', NOW),
    pytest.param("undecodable", b"a", b'{"x":' + b"[" * 100_000, NOW, id="deep"),
    ("wrong_type", b"a", b"[1]", NOW),
    ("wrong_type", b"a", b'{"value":"1"}', NOW),
    ("wrong_type", b"a", b'{"value":true}', NOW),
    ("wrong_type", b"a", b'{"value":1e999}', NOW),
    ("wrong_type", b"a", b'{"stream":7.5,"value":1}', NOW),
    ("wrong_type", b"a", b'{"time":[1],"value":1}', NOW),
    ("wrong_type", b"a", b'{"value":1,"wind":"x"}', NOW),
    ("no_stream", None, b'{"value":1}', NOW),
    ("no_stream", b"", b'{"stream":"","value":1}', NOW),
    ("no_stream", b"\xff", b'{"value":1}', NOW),
    ("name_too_long", b"a", json.dumps({"stream": "é" * (NAME_BYTES // 2 + 1), "value": 1}).encode(), NOW),
    ("no_time", b"a", b'{"value":1}', -1),
    ("bad_time", b"a", b'{"time":"noon","value":1}', NOW),
    ("bad_time", b"a", b'{"time":"","value":1}', NOW),
    ("bad_time", b"a", b'{"time":1e19,"value":1}', NOW),
    ("future_time", b"a", b'{"time":1700003600001,"value":1}', NOW),
    ("no_value", b"a", b"{}", NOW),
    ("out_of_range", b"a", b'{"value":1.1e36}', NOW),
    ("out_of_range", b"a", b'{"value":-1.1e36}', NOW),
]


@pytest.mark.parametrize(("reason", "key", "value", "timestamp"), REFUSED)
def test_a_record_that_is_no_event_is_refused_with_its_reason(
    reason: str, key: bytes | None, value: bytes | None, timestamp: int
) -> None:
    batch, rejected = decode(Format(covariates=("wind",)), (key, value), timestamp=timestamp)
    assert [(r.place, r.reason) for r in rejected] == [(0, reason)]
    assert rejected[0].message
    assert (batch.name, batch.records, batch.end, batch.covariates.shape) == ([], 1, 11, (0, 1))


def test_every_reason_has_its_case() -> None:
    reasons = {case[0] for case in REFUSED if isinstance(case, tuple) and isinstance(case[0], str)}
    elsewhere = {"too_many_streams", "unknown_schema", "unusable_schema"}  # found elsewhere
    assert reasons | elsewhere == set(REASONS)


@pytest.mark.parametrize("names", [("data.wind",), ("data.wind", "rain")])
def test_covariates_that_are_null_absent_below_null_or_absurd_are_absent(names: tuple[str, ...]) -> None:
    wind = [b'{"wind":2.5}', b'{"wind":null}', b"{}", b"null", b'{"wind":-1e37}', b'{"wind":0}']
    batch, rejected = decode(Format(covariates=names), *((b"a", b'{"value":1,"data":%s}' % data) for data in wind))
    assert rejected == []
    assert np.array_equal(batch.covariates[:, 0], [2.5, *[np.nan] * 4, 0.0], equal_nan=True)
    assert np.isnan(batch.covariates[:, 1:]).all()


def test_only_positive_values_have_a_logarithm() -> None:
    batch, rejected = decode(
        Format(positive=True), (b"a", b'{"value":0}'), (b"a", b'{"value":1e-300}'), (b"a", b'{"value":null}')
    )
    assert [r.reason for r in rejected] == ["out_of_range"]
    assert batch.value[0] == 1e-300
    assert math.isnan(batch.value[1])


def test_events_keep_their_offsets_among_refused_records() -> None:
    batch, rejected = decode(Format(), (b"a", b'{"value":1}'), (b"b", b"x"), (b"c", b'{"value":-0.0}'))
    assert (batch.offset.tolist(), batch.name, batch.value.tolist()) == ([10, 12], ["a", "c"], [1.0, -0.0])
    assert (batch.records, batch.end, batch.record_ms.tolist()) == (3, 13, [NOW, NOW])
    assert [r.place for r in rejected] == [1]


def test_fields_are_found_under_their_own_names() -> None:
    form = Format("symbol", "at", "price", covariates=("size", "wind speed"))
    value = b'{"symbol":"X","at":1700000000,"price":2,"size":3,"wind speed":null,"value":9,"more":{"a":[1]}}'
    batch, rejected = decode(form, (None, value))
    assert not rejected
    assert (batch.name, batch.time_ms.tolist(), batch.value.tolist()) == (["X"], [NOW], [2.0])
    assert batch.covariates[0, 0] == 3
    assert math.isnan(batch.covariates[0, 1])


NESTED = Format("tags.device", "at", "data.readings.1.value", covariates=(r"data.wind\.speed", "data.readings.0.value"))


def nested(**changes: object) -> bytes:
    data = {"wind.speed": 3, "readings": [{"value": 20.5}, {"value": 21.5, "unit": "C"}, 0]}
    whole = {"more": [1], "at": 1_700_000_000, "data": data, "tags": {"device": "a"}}
    return json.dumps(whole | changes).encode()


def test_a_path_leads_into_objects_and_lists() -> None:
    batch, rejected = decode(NESTED, (None, nested()))
    assert not rejected
    assert (batch.name, batch.time_ms.tolist(), batch.value.tolist()) == (["a"], [NOW], [21.5])
    assert batch.covariates.tolist() == [[3, 20.5]]


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"data": {}}, "no_value", "there is no field 'data.readings.1.value'"),
        ({"data": {"readings": [{"value": 1}]}}, "no_value", "there is no field"),
        ({"data": {"readings": {"1": {"value": 1}}}}, "wrong_type", "at `$.data.readings`"),
        ({"data": {"readings": [{}, {"value": "x"}]}}, "wrong_type", "at `$.data.readings[1].value`"),
        ({"data": 3}, "wrong_type", "at `$.data`"),
        ({"tags": {}}, "no_stream", "neither a field 'tags.device' nor a key"),
    ],
)
def test_what_is_not_at_the_end_of_a_path_is_named(changes: dict[str, object], reason: str, words: str) -> None:
    rejected = decode(NESTED, (None, nested(**changes)))[1]
    assert [r.reason for r in rejected] == [reason]
    assert words in rejected[0].message


@pytest.mark.parametrize(
    "data", [None, {"readings": None}, {"readings": [{}, None]}, {"readings": [{}, {"value": None}]}]
)
def test_below_null_a_value_is_missing_and_all_else_absent(data: object) -> None:
    batch, rejected = decode(NESTED, (b"key", nested(data=data, tags=None)))
    assert not rejected
    assert (batch.name, batch.time_ms.tolist()) == (["key"], [NOW])
    assert np.isnan([*batch.value, *batch.covariates[0]]).all()


def test_a_list_may_be_the_whole_message() -> None:
    batch, rejected = decode(Format("0", "1", "2"), (None, b'["a", 1700000000, 5, "more"]'), (b"k", b"[null, null, 6]"))
    assert not rejected
    assert (batch.name, batch.value.tolist()) == (["a", "k"], [5, 6])


SEVERAL = Format("device", target_fields=("data.temp", "data.rh", "ok"), covariates=("data.wind",))


def test_each_target_that_is_there_is_an_event_of_its_own_stream() -> None:
    batch, rejected = decode(
        SEVERAL,
        (None, b'{"device":"a","data":{"temp":1,"rh":2,"wind":3},"ok":4}'),
        (None, b'{"device":"b","data":{"rh":null}}'),
    )
    assert not rejected
    assert batch.name == ["a/temp", "a/rh", "a/ok", "b/rh"]
    assert batch.offset.tolist() == [10, 10, 10, 11]
    assert batch.value.tolist()[:3] == [1, 2, 4]
    assert math.isnan(batch.value[3])
    assert batch.covariates.tolist()[:3] == [[3]] * 3
    assert (batch.records, batch.end) == (2, 12)


@pytest.mark.parametrize(
    ("body", "names", "reason", "words"),
    [
        (b'{"data":{"temp":"x","rh":2},"ok":1e37}', ["k/rh"], "wrong_type", "temp: Expected `float | null`, got `str`"),
        (b'{"data":{"temp":"x","rh":2},"ok":1e37}', ["k/rh"], "wrong_type", "; ok: 1e+37 is beyond"),
        (b'{"data":{"wind":"x"},"ok":1}', [], "wrong_type", "Expected `float | null`, got `str` - at `$.data.wind`"),
        (b'{"data":{}}', [], "no_value", "temp: there is no field 'data.temp'; rh: there is no field"),
        (b"{", [], "undecodable", "truncated"),
    ],
)
def test_a_bad_target_is_one_dead_letter_beside_the_events_of_the_others(
    body: bytes, names: list[str], reason: str, words: str
) -> None:
    batch, rejected = decode(SEVERAL, (b"before", b'{"ok":1}'), (b"k", body), (b"after", b'{"ok":2}'))
    assert batch.name == ["before/ok", *names, "after/ok"]
    assert [(one.place, one.reason) for one in rejected] == [(1, reason)]
    assert words in rejected[0].message


def test_a_name_has_room_for_its_target() -> None:
    name = "x" * (NAME_BYTES - len("/temp"))
    batch, rejected = decode(SEVERAL, (None, b'{"device":"%s","data":{"temp":1}}' % name.encode()))
    assert (batch.name, rejected) == ([f"{name}/temp"], [])
    batch, [one] = decode(SEVERAL, (None, b'{"device":"%sx","data":{"temp":1,"rh":2}}' % name.encode()))
    assert (batch.name, one.reason) == ([f"{name}x/rh"], "name_too_long")


def test_other_keys_of_several_targets_are_counted_once_a_record() -> None:
    decoder = Decoder(SEVERAL)
    decoder.decode([1, 2], [NOW] * 2, [b"b", b"a"], [b'{"device":"a","ok":1,"data":{"rh":1}}'] * 2)
    assert decoder.other_keys == 1


def test_a_number_may_be_a_stream_s_name() -> None:
    batch, rejected = decode(Format(), (b"7", b'{"stream":7,"value":1}'), (b"k", b'{"stream":0,"value":1}'))
    assert (batch.name, rejected) == (["7", "0"], [])


BARE = Format(target_field=".")


def test_a_message_may_be_the_value_alone() -> None:
    batch, rejected = decode(BARE, (b"a", b" 21.5\n"), (b"b", b"-3"), (b"c", b"null"), (b"d", b'"1"'), (None, b"1"))
    assert (batch.name, batch.value.tolist()[:2], batch.time_ms.tolist()) == (["a", "b", "c"], [21.5, -3], [NOW] * 3)
    assert math.isnan(batch.value[2])
    assert [(one.place, one.reason) for one in rejected] == [(3, "wrong_type"), (4, "no_stream")]


LENIENT = Numbers(lenient=True, sentinels=frozenset({-9999.0, "unavailable"}), low=-50, high=60)


@pytest.mark.parametrize(
    ("text", "value"), [("3.5", 3.5), (" -1e1 ", -10), ("+.5", 0.5), ("60", 60), ("7.", 7), ("-50.0", -50)]
)
def test_lenient_numbers_may_be_text(text: str, value: float) -> None:
    form = Format(covariates=("c",), numbers=LENIENT)
    batch, rejected = decode(form, (b"a", json.dumps({"value": text, "c": text}).encode()))
    assert (batch.value.tolist(), batch.covariates.tolist(), rejected) == ([value], [[value]], [])
    rejected = decode(Format(), (b"a", json.dumps({"value": text}).encode()))[1]
    assert 'events.numbers = "lenient"' in rejected[0].message


@pytest.mark.parametrize("text", ["3,5", "", "nan", "inf", "1_000", "0x1", "21 C", "٣", "1" * 30 + "x"])
def test_other_text_is_no_number(text: str) -> None:
    for body in ({"value": text}, {"value": 1, "c": text}):
        batch, [one] = decode(Format(covariates=("c",), numbers=LENIENT), (b"a", json.dumps(body).encode()))
        assert (batch.name, one.reason) == ([], "wrong_type")
        assert "is no number" in one.message
        assert ("comma" in one.message) == ("," in text)


def test_sentinels_and_values_outside_the_range_are_dropped_by_their_own_names() -> None:
    bodies = [b"-9999", b'"-9999.0"', b'"unavailable"', b"60.1", b"-50.1", b"1e99", b"null", b"5"]
    records = [(b"a", b'{"value":%s,"c":-9999}' % body) for body in bodies]
    batch, rejected = decode(Format(covariates=("c",), numbers=LENIENT), *records)
    assert not rejected
    assert batch.drop.tolist() == [SENTINEL] * 3 + [OUTSIDE] * 3 + [0, 0]
    assert np.isnan(batch.value).tolist() == [True] * 7 + [False]
    assert np.isnan(batch.covariates).all(), "a sentinel is absent"
    positive = Format(positive=True, numbers=LENIENT)
    assert decode(positive, (b"a", b'{"value":-9999}'))[0].drop.tolist() == [SENTINEL], "before it has no logarithm"


def test_a_value_outside_the_range_may_be_a_dead_letter() -> None:
    form = Format(numbers=Numbers(low=0, high=1), outside_is_dead=True)
    batch, [one] = decode(form, (b"a", b'{"value":1}'), (b"a", b'{"value":1.5}'), (b"a", b'{"value":null}'))
    assert (len(batch.name), one.reason) == (2, "out_of_range")
    assert "1.5 is outside 0 to 1 (events.range)" in one.message


def test_a_schema_registry_s_framing_is_named() -> None:
    [one] = decode(Format(), (b"a", b"\0\0\0\0\x2a\x02abc"))[1]
    assert one.reason == "undecodable"
    assert "schema registry's framing (a zero byte, then the id of schema 42)" in one.message


def test_a_covariate_beyond_what_can_be_squared_is_absent() -> None:
    batch, _ = decode(Format(covariates=("c",)), (b"a", b'{"value":1,"c":1e37}'), (b"a", b'{"value":1,"c":1e36}'))
    assert math.isnan(batch.covariates[0, 0])
    assert batch.covariates[1, 0] == LARGEST


def test_the_name_is_the_fields_else_the_keys_and_other_keys_are_counted() -> None:
    decoder = Decoder(Format())
    keys = [b"a", b"b", b"", None, "ä".encode(), b"\xff"]
    values = [b'{"value":1}', *[b'{"stream":"a","value":1}'] * 3, b'{"value":1}', b'{"stream":"a","value":1}']
    batch, rejected = decoder.decode(range(6), [NOW] * 6, keys, values)
    assert not rejected
    assert batch.name == ["a", "a", "a", "a", "ä", "a"]
    assert decoder.other_keys == 2


@pytest.mark.parametrize(
    ("time", "time_ms"),
    [
        ('"2023-11-14T22:13:20Z"', NOW),
        ('"2023-11-14T22:13:20"', NOW),
        ('"2023-11-14 23:13:20.0019+01:00"', NOW + 1),
        ('"2023-11-14"', NOW - NOW % 86_400_000),
        ("1700000000", NOW),
        ("1700000000.25", NOW + 250),
        ("1700000000001", NOW + 1),
        ("1700000000001999", NOW + 1),
        ("1700000000001999999", NOW + 1),
        ("-1.0005", -1001),
        ("0", 0),
        ("null", NOW),
    ],
)
def test_times_are_iso_or_epoch_by_size_rounded_down(time: str, time_ms: int) -> None:
    batch, rejected = decode(Format(), (b"a", b'{"value":1,"time":%s}' % time.encode()))
    assert not rejected
    assert batch.time_ms.tolist() == [time_ms]


def test_a_time_may_be_ahead_by_so_much_and_without_a_timestamp_by_anything() -> None:
    value = b'{"value":1,"time":1700000005}'
    assert not decode(Format(max_ahead_ms=5000), (b"a", value))[1]
    assert decode(Format(max_ahead_ms=4999), (b"a", value))[1][0].reason == "future_time"
    assert not decode(Format(max_ahead_ms=0), (b"a", value), timestamp=-1)[1]


@settings(max_examples=100, deadline=None)
@given(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.timezones()),
    st.integers(-(10**19), 10**19),
    st.floats(-1e19, 1e19),
)
def test_all_times_fit_the_tables_integers(moment, whole, number) -> None:  # type: ignore[no-untyped-def]
    for time_ms in (from_iso(moment.isoformat()), from_epoch(whole), from_epoch(number)):
        assert time_ms is None or abs(time_ms) < 2**62
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)  # exact, which moment.timestamp() is not
    assert from_iso(moment.isoformat()) == (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
INNER = st.fixed_dictionaries({}, optional=dict.fromkeys(("a", "b"), JSON | st.lists(JSON, max_size=2))) | JSON
DIGITS = st.from_regex(r"[-+ ]?[0-9]{1,20}[-:T. ]?[0-9]{0,9}( UTC)?", fullmatch=True)
EVENT = st.fixed_dictionaries({}, optional=dict.fromkeys(("stream", "time", "value", "wind"), INNER | DIGITS)) | JSON
BYTES = st.none() | st.binary(max_size=40)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(BYTES, BYTES | EVENT.map(lambda e: json.dumps(e).encode()), st.integers(-1, 2**62)),
        min_size=1,
        max_size=5,
    )
)
@example([(None, b'{"stream":"\\ud800","value":1}', 0)])
@example([(None, b'{"stream":"a","time":' + b"9" * 5000 + b',"value":1}', 0)])
@example([(None, b'{"stream":"a","time":"9999-12-31T23:59:59-23:59","value":1}', 0)])
@example([(None, b'{"stream":"a","time":"0001-01-01T00:00:00+23:59","value":1}', 0)])
def test_anything_is_an_event_or_refused_and_never_an_exception(records) -> None:  # type: ignore[no-untyped-def]
    keys, values, timestamps = ([r[i] for r in records] for i in range(3))
    for form in FORMS:
        judge_all(form, keys, values, timestamps)


FORMS = [
    Format(covariates=("wind",)),
    Format(covariates=("wind",), numbers=LENIENT, positive=True),
    Format("stream.a", "time.0", "value.a.0", covariates=("wind.a", "value.b")),
    Format("stream.a", target_fields=("value", "wind.a"), numbers=LENIENT),
    BARE,
    Format("0", "1.a", "2"),
    Format(times=Times(ZoneInfo("America/New_York"), 0, lenient=True)),
]


def judge_all(form, keys, values, timestamps) -> None:  # type: ignore[no-untyped-def]
    batch, rejected = Decoder(form).decode(range(len(keys)), timestamps, keys, values)
    dead = [r.place for r in rejected]
    assert {*batch.offset.tolist(), *dead} == {*range(len(keys))}
    assert len(set(dead)) == len(dead)
    assert form.target_fields or not {*batch.offset.tolist()} & {*dead}
    assert all(r.reason in REASONS and r.message for r in rejected)
    assert all(0 < len(name.encode()) <= NAME_BYTES for name in batch.name)
    assert not np.isinf(batch.value).any()


# ---- times that people send


BERLIN = Format(times=Times(ZoneInfo("Europe/Berlin"), 631_152_000_000))
SINCE_1990 = Format(times=Times(earliest_ms=631_152_000_000), max_ahead_ms=10**18)


def time_of(form: Format, time: object, timestamp: int = NOW) -> int | str:
    """The time in ms, or the reason and the message of a refusal."""
    batch, rejected = decode(form, (b"a", json.dumps({"value": 1, "time": time}).encode()), timestamp=timestamp)
    return f"{rejected[0].reason}: {rejected[0].message}" if rejected else int(batch.time_ms[0])


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2016-07-01 12:30:00 UTC", "2016-07-01T12:30:00Z"),
        ("2016-07-01T24:00", "2016-07-02T00:00Z"),
        ("2016-12-31 24:00:00.000+02:00", "2017-01-01T00:00:00+02:00"),
        ("1960-01", "1960-01-01T00:00Z"),
        ("1711-12-13", "1711-12-13T00:00Z"),
        ("20160701", "2016-07-01T00:00Z"),
        ("20160701T123000Z", "2016-07-01T12:30Z"),
        (631_152_000, "1990-01-01T00:00Z"),
    ],
)
def test_times_with_dashes_are_taken_however_old_and_others_since_1990(text: object, same: str) -> None:
    assert time_of(SINCE_1990, text) == from_iso(same)


@pytest.mark.parametrize("text", ["2016-07-01T24:01", "2016-07-01T24:00:00.5", "9999-12-31T24:00", "2016-13", "24:00"])
def test_what_is_like_those_is_no_time(text: str) -> None:
    assert str(time_of(SINCE_1990, text)).startswith("bad_time: ")


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (
            20160701,
            "UTC, before events.earliest (1990-01-01): it looks like a date of 8 digits, write it as 2016-07-01",
        ),
        (201607011230, "a date of 12 digits, write it as 2016-07-01T12:30"),
        (42552, "a spreadsheet's day number"),
        (42552.5, "a spreadsheet's day number"),
        (2016, "a year, write it as 2016-01-01"),
        (0, "a clock that was never set"),
        (-5, "before events.earliest (1990-01-01)"),
        ("1711121312345", 'is a number in text: send a number, or set events.numbers = "lenient"'),
        ("2016070112", "is a number in text"),
        ("17111213T2345", "would be 1711-12-13 23:45 UTC, before events.earliest (1990-01-01): write it with dashes"),
        ("20161301", "is a number in text"),
    ],
)
def test_digits_that_are_no_epoch_are_refused_with_the_likely_cause(time: object, words: str) -> None:
    answer = str(time_of(SINCE_1990, time))
    assert answer.startswith("bad_time: ")
    assert words in answer


@pytest.mark.parametrize(("time", "words"), [(2016070112, "as 2016-07-01T12:00"), (20160701123000, "T12:30:00")])
def test_a_date_in_digits_a_year_ahead_is_named_as_one(time: int, words: str) -> None:
    answer = str(time_of(Format(), time))
    assert answer.startswith("bad_time: ")
    assert "ahead of the record's timestamp: it looks like a date of" in answer
    assert words in answer
    assert str(time_of(Format(), "2016-07-01", timestamp=0)).startswith("future_time: "), "with dashes it is meant so"


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [("1711121312345", 1711121312345), (" 1711121312 ", 1711121312000), ("1711121312.5", 1711121312500)],
)
def test_lenient_times_may_be_epochs_in_text(text: str, time_ms: int) -> None:
    form = Format(times=Times(earliest_ms=0, lenient=True), max_ahead_ms=10**18)
    assert time_of(form, text) == time_ms
    assert "a date of 10 digits" in str(time_of(Format(times=form.times), "2016070112"))


def test_a_time_without_a_zone_is_in_the_one_that_is_set() -> None:
    """Europe/Berlin put its clocks back at 03:00 on 2023-10-29 and ahead at 02:00 on 2023-03-26."""
    for text, same in (
        ("2023-07-01T12:00", "2023-07-01T10:00Z"),
        ("2023-10-29T02:30", "2023-10-29T00:30Z"),  # comes twice: the first
        ("2023-03-26T02:30", "2023-03-26T01:30Z"),  # was left out: so much later, 03:30
        ("2023-07-01T12:00Z", "2023-07-01T12:00Z"),
        ("20230701", "2023-06-30T22:00Z"),
        ("2023-06-30T24:00", "2023-06-30T22:00Z"),
    ):
        assert time_of(BERLIN, text) == from_iso(same), text
