"""The real data as it is: what the demo's summary and the back-test's tests may count on."""

from collections import Counter, defaultdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from worker.demo.newyork import CACHE, STREAMS, Event, events, write_csv

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def weather() -> list[Event]:
    return events()


def of_streams(weather: list[Event]) -> dict[str, list[Event]]:
    by_stream = defaultdict(list)
    for event in weather:
        by_stream[event.stream].append(event)
    return by_stream


def test_eighteen_streams_hold_all_hours_but_a_few(weather: list[Event]) -> None:
    expected = {stream: 8703 if stream.startswith("EWR") else 8706 for stream in STREAMS}
    assert Counter(event.stream for event in weather) == expected
    assert len(weather) == 156_690


def test_missing_values_are_kept_as_none(weather: list[Event]) -> None:
    assert Counter(event.stream for event in weather if event.value is None) == {
        "EWR.temp": 1,
        "EWR.dewp": 1,
        "EWR.humid": 1,
        "EWR.wind_speed": 1,
        "JFK.wind_speed": 3,
        "EWR.pressure": 935,
        "JFK.pressure": 831,
        "LGA.pressure": 963,
    }


def test_times_rise_and_no_stream_is_late_or_doubled(weather: list[Event]) -> None:
    assert [event.time_ms for event in weather] == sorted(event.time_ms for event in weather)
    steps: Counter[int] = Counter()
    for own in of_streams(weather).values():
        steps.update((b.time_ms - a.time_ms) // HOUR_MS for a, b in pairwise(own))
    assert steps == {1: 6 * 26_067, 2: 6 * 33, 3: 6 * 6, 6: 6 * 6}


def test_times_are_utc(weather: list[Event]) -> None:
    first, last = weather[0].time_ms, weather[-1].time_ms
    assert datetime.fromtimestamp(first / 1000, UTC) == datetime(2013, 1, 1, 6, tzinfo=UTC)  # one o'clock there
    assert datetime.fromtimestamp(last / 1000, UTC) == datetime(2013, 12, 30, 23, tzinfo=UTC)
    night_of_the_clock = datetime(2013, 11, 3, 5, tzinfo=UTC).timestamp() * 1000  # local hour 1 comes twice
    there = {event.time_ms: event.value for event in of_streams(weather)["EWR.temp"]}
    assert [there[int(night_of_the_clock) + hour * HOUR_MS] for hour in range(3)] == [51.98, 50.0, 51.08]


def test_at_one_time_the_order_is_that_of_the_streams(weather: list[Event]) -> None:
    assert tuple(event.stream for event in weather[:18]) == STREAMS


def test_the_csv_holds_the_same_in_three_columns(weather: list[Event], tmp_path: Path) -> None:
    write_csv(tmp_path / "all.csv")
    write_csv(tmp_path / "two.csv", {"JFK.temp", "LGA.pressure"})
    lines = (tmp_path / "two.csv").read_text().splitlines()
    assert lines[:3] == [
        "stream,time,value",
        "JFK.temp,2013-01-01T06:00:00Z,39.02",
        "LGA.pressure,2013-01-01T06:00:00Z,1011.9",
    ]
    assert "LGA.pressure,2013-01-01T17:00:00Z," in lines
    assert len(lines) == 1 + 2 * 8706
    with (tmp_path / "all.csv").open() as file:
        assert sum(1 for _ in file) == 1 + len(weather)


def test_a_second_reading_fetches_nothing(weather: list[Event]) -> None:
    said: list[str] = []
    assert events(CACHE, said.append) == weather
    assert said == []
