"""What is lost, doubled or made up is seen while the output passes by, and little of it is remembered."""

from collections.abc import Iterable, Sequence

import pytest

from tests.soak.ledger import Ledger
from tests.soak.traffic import Passing, Traffic
from worker.broker.restore import TopicRecord
from worker.demo.auditor import Rules, expected
from worker.refusal import Refusal


def forecast(partition: int, offset: int, name: str | None = None) -> TopicRecord:
    told = name or f"soak-in-{partition}-{offset}"
    return TopicRecord(partition, 0, 0, b"s", b"{}", [("foldcast-id", told.encode())])


def taken(offsets: Iterable[int], end: int, early: int = 100) -> Ledger:
    ledger = Ledger("soak-in", early)
    for offset in offsets:
        ledger.take(forecast(0, offset))
    ledger.close({0: end})
    return ledger


@pytest.mark.parametrize(
    "offsets", [range(1000), [*range(1, 50), 0, *range(50, 1000)], [*range(999, 949, -1), *range(950)]]
)
def test_every_offset_once_is_right_in_whatever_order(offsets: Sequence[int]) -> None:
    ledger = taken(offsets, 1000)
    assert (ledger.right, ledger.faults) == (1000, {})


@pytest.mark.parametrize(
    ("offsets", "end", "right", "faults"),
    [
        ([*range(500), *range(501, 1000)], 1000, 999, {"lost": 1}),
        (range(990), 1000, 990, {"lost": 10}),
        ([*range(20), 7, *range(20, 50)], 50, 50, {"twice": 1}),
        ([1, 2, 2, 0], 3, 3, {"twice": 1}),
        ([*range(1, 300), 0], 300, 299, {"lost": 1, "twice": 1}),  # so late that it was given up
        (range(12), 10, 12, {"unexpected": 1}),
        ([], 5, 0, {"lost": 5}),
    ],
)
def test_each_fault_is_counted(offsets: Sequence[int], end: int, right: int, faults: dict[str, int]) -> None:
    ledger = taken(offsets, end)
    assert (ledger.right, ledger.faults) == (right, faults)
    assert ledger.examples


def test_a_forecast_of_another_input_or_in_another_partition_counts_for_none() -> None:
    ledger = Ledger("soak-in")
    ledger.take(forecast(0, 0, "other-in-0-0"))
    ledger.take(forecast(0, 0, "soak-in-1-0"))
    ledger.take(TopicRecord(0, 0, 0, None, None, []))
    assert (ledger.right, ledger.faults) == (0, {"unexpected": 3})


def test_a_lost_offset_does_not_make_the_ledger_remember_all_that_follow() -> None:
    ledger = Ledger("soak-in", early=100)
    for offset in range(1, 5000):
        ledger.take(forecast(0, offset))
        assert ledger.remembered <= 100
    assert ledger.faults == {"lost": 1}


def test_every_event_of_the_traffic_is_accepted_and_the_population_turns_over() -> None:
    passing = Passing.of(streams=500, rate=100, seconds=60)
    assert (passing.events, passing.width) == (6, 83)
    traffic = Traffic(20, 3, passing)
    made = [traffic.next() for _ in range(6000)]
    records = [TopicRecord(partition, n, -1, key, value, []) for n, (partition, key, value) in enumerate(made)]
    verdicts = expected(records, Rules())
    assert set(verdicts.of.values()) == {"forecast"}
    names = {event.stream for event in verdicts.forecast.values()}
    assert len(names) == traffic.streams >= 520
    middle = {record.key for record in records[2900:3100]}
    assert not any(record.key in middle for record in records[:1500] if (record.key or b"").startswith(b"passes"))


def test_more_streams_than_events_are_refused() -> None:
    with pytest.raises(Refusal, match=r"fewer --streams or a higher --rate"):
        Passing.of(streams=1000, rate=10, seconds=60)
