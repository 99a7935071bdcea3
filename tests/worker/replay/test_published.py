"""What a group has published is told from what others have, in one output topic."""

from collections.abc import Iterator

import orjson
import pytest

from worker.broker.contract import LogRecord, Topics
from worker.replay import published
from worker.replay.published import PublishedForecasts
from worker.settings.kafka import Kafka

TOPICS = Topics("in", "out", "dead", "changelog", "mine", source="first")


class Closed:
    """What stands for the Kafka clients."""

    def __init__(self, kafka: Kafka) -> None: ...

    def close(self) -> None: ...


def run(*offsets: int, group: str = "mine", target: str = "") -> list[LogRecord]:
    """A transaction's forecasts: the last says whose they are."""
    records = []
    for offset in offsets:
        name = f"in-0-{offset}{target}"
        body = orjson.dumps({"stream": f"s{target}", "offset": offset})
        records.append(LogRecord(b"s", body, [("foldcast-id", name.encode())]))
    whose = [("foldcast-group", group.encode()), ("foldcast-source", b"first")]
    return [*records[:-1], records[-1]._replace(headers=[*records[-1].headers, *whose])]


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> list[LogRecord]:
    """The output topic's records."""
    records: list[LogRecord] = []

    def whole(*_: object) -> Iterator[LogRecord]:
        return (record for record in records)

    monkeypatch.setattr(published, "LogReader", Closed)
    monkeypatch.setattr(published, "whole", whole)
    return records


def test_forecasts_of_the_stretch_come_upwards_and_once(reading: list[LogRecord]) -> None:
    reading += [*run(1, 2, 3), *run(5, 6), *run(7, target=":t"), LogRecord(b"x", b"{", [("foldcast-id", b"odd")])]
    found = PublishedForecasts(Kafka(), TOPICS, 0, 2, 8)
    assert [*found.up_to(2)] == [(2, "s")]
    assert [*found.up_to(6)] == [(3, "s"), (5, "s"), (6, "s")]
    assert [*found.up_to(99)] == [(7, "s:t")]
    assert found.up_to(99) == {}
    found.close()


def test_those_of_another_group_are_not_ours(reading: list[LogRecord]) -> None:
    reading += [*run(1, 2), *run(1, 2, 3, group="other"), *run(3)]
    found = PublishedForecasts(Kafka(), TOPICS, 0, 0, 9)
    assert [*found.up_to(9)] == [(1, "s"), (2, "s"), (3, "s")]
    found.close()


def test_it_is_not_read_beyond_the_end(reading: list[LogRecord]) -> None:
    reading += [*run(1, 2), *run(8, 9, group="other"), *run(3, 4, 5), *run(0)]
    found = PublishedForecasts(Kafka(), TOPICS, 0, 0, 5)
    assert [*found.up_to(9)] == [(1, "s"), (2, "s"), (3, "s"), (4, "s")]
    found.close()
