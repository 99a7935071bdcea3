"""Transactions whose end never comes to a partition: whoever restores it ends them as the rest of them tells."""

from dataclasses import replace
from itertools import combinations

import pytest

from tests.rigs.clock import Clock
from tests.rigs.loop_rig import TOPICS, Rig
from tests.rigs.memory_broker import CHANGELOG, DEAD_LETTERS, GROUP, INPUT, OUTPUT, ROWS
from tests.rigs.memory_log import MemoryRead, Transaction, UndecidedRead
from worker.broker.contract import RESENDER, Message, NotYet
from worker.lives.left_open import end_left_open, was_committed

WRITTEN = (OUTPUT, DEAD_LETTERS, CHANGELOG)
LOST_IN = [topics for size in range(1, 4) for topics in combinations(WRITTEN, size)]
MOST_S = 300


def with_a_lost_end(committed: bool, topics: tuple[str, ...], offsets: bool, turns: int = 1) -> Rig:
    """A worker in the middle of its work, whose last transaction has no end in these topics."""
    rig = Rig()
    rig.start()
    rig.produce(60)
    rig.drain()
    rig.produce(80)
    rig.cycle(times=turns)
    rig.brokers["one"].fail_commit = "unknown, not committed"
    rig.turn()
    rows = [ROWS] * (OUTPUT in topics)  # nobody has to be able to read them: they share the fate of forecasts
    rig.cluster.lose_end("one", committed, *topics, *rows, offsets=offsets)
    rig.witnessing = not offsets  # it believes the group
    return rig


def settle(rig: Rig, clock: Clock) -> None:
    """A cycle a second until all of the input is committed."""
    ends = {p: max(e.offset for e, _ in rig.cluster.logs[INPUT, p].readable(0)) for p in rig.references}
    for _ in range(MOST_S):
        for name in rig.loops:
            rig.turn(name)
        clock.now += 1
        if all(rig.cluster.offsets.get(p, 0) > end for p, end in ends.items()):
            return
    raise AssertionError({name: loop.why_not_ready for name, loop in rig.loops.items()})


@pytest.mark.parametrize("turns", [0, 2])  # with and without a snapshot
@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("topics", LOST_IN, ids="+".join)
def test_nothing_is_lost_or_doubled_wherever_the_end_is_lost(
    topics: tuple[str, ...],
    committed: bool,
    offsets: bool,
    turns: int,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = with_a_lost_end(committed, topics, offsets, turns)
    broker, certain = rig.brokers["one"], OUTPUT in topics and not offsets
    if certain:
        settle(rig, clock)
    else:
        waits(rig, clock)
        opened = [(left, p) for p in rig.references for left in broker.left_open((*WRITTEN, ROWS), p)]
        assert ("it is not certain how it ended" in caplog.text) == bool(opened)
        if offsets:
            rig.cluster.settle_offsets(committed)
        for left, partition in opened:  # by hand
            broker.end_left_open(left, partition, committed)
        settle(rig, clock)
    rig.produce(20)
    settle(rig, clock)
    rig.check_topics()
    assert all(log.stable() == log.end for log in rig.cluster.logs.values()), "nothing is left open"


def waits(rig: Rig, clock: Clock) -> None:
    """For longer than any transaction lasts."""
    for _ in range(50):
        rig.turn()
        clock.now += 1


def left_in(rig: Rig, topic: str, *headers: dict[str, str], by: str = f"{GROUP}/gone") -> None:
    """Records that are left open there."""
    lost = Transaction()
    for facts in headers:
        encoded = [(name, text.encode()) for name, text in facts.items()]
        rig.cluster.logs[topic, 0].append(Message(topic, 0, b"key", b"{}", encoded), 0, lost)
    rig.cluster.endless.append((by, lost))


def forecast(offset: int, group: str | None = GROUP) -> dict[str, str]:
    whose = {"foldcast-group": group, "foldcast-source": "first"} if group else {}
    return {"foldcast-id": f"{INPUT}-0-{offset}", **whose}


def published(rig: Rig, *headers: dict[str, str]) -> None:
    """Forecasts that are committed."""
    for facts in headers:
        encoded = [(name, text.encode()) for name, text in facts.items()]
        rig.cluster.logs[OUTPUT, 0].append(Message(OUTPUT, 0, b"key", b"{}", encoded), 0, Transaction("committed"))


def verdict(rig: Rig, c: int | None = None) -> bool | None:
    """What is said of what is left open in the first partition."""
    broker = rig.brokers["one"]
    if c is not None:
        rig.cluster.offsets[0] = c
    (left, *_) = broker.left_open(WRITTEN, 0)
    return was_committed(broker, replace(TOPICS, source="first"), 0, left)


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.start()
    return rig


def test_forecasts_below_c_are_committed_and_those_from_c_on_are_not(rig: Rig) -> None:
    published(rig, forecast(1))
    left_in(rig, OUTPUT, forecast(3, None), forecast(4))
    assert [verdict(rig, c) for c in (2, 3, 4, 5, 9)] == [False, False, None, True, True]


def test_without_a_c_nothing_was_committed_unless_the_changelog_shows_a_group_that_had_one(rig: Rig) -> None:
    left_in(rig, OUTPUT, forecast(0))
    assert verdict(rig) is False
    rig.cluster.logs[CHANGELOG, 0].append(Message(CHANGELOG, 0, b"page", b"", []), 0, Transaction("committed"))
    assert verdict(rig) is None


def test_what_never_came_to_its_last_forecast_was_not_committed(rig: Rig) -> None:
    left_in(rig, OUTPUT, forecast(3, None))
    assert [verdict(rig, c) for c in (3, 5)] == [False, None]


@pytest.mark.parametrize("when", ["before", "after"])
def test_forecasts_that_another_worker_made_too_were_not_committed_though_they_lie_below_c(rig: Rig, when: str) -> None:
    again = forecast(3, None), forecast(4)
    published(rig, forecast(2), *again[: 2 * (when == "before")])
    left_in(rig, OUTPUT, *again)
    published(rig, *again[: 2 * (when == "after")])
    assert verdict(rig, 5) is (False if when == "before" else None)
    assert verdict(rig, 3) is False


def test_a_c_that_lies_below_what_was_published_before_proves_nothing(rig: Rig) -> None:
    published(rig, forecast(2))
    left_in(rig, OUTPUT, forecast(3))
    assert verdict(rig, 1) is None


def test_forecasts_of_another_group_among_them_leave_it_uncertain(rig: Rig) -> None:
    left_in(rig, OUTPUT, forecast(3))
    published(rig, forecast(3, "another"))
    assert verdict(rig, 5) is None


def test_forecasts_of_an_input_that_was_deleted_leave_it_uncertain(rig: Rig) -> None:
    left_in(rig, OUTPUT, {**forecast(3), "foldcast-source": "before"})
    assert [verdict(rig, c) for c in (3, 5)] == [None, None]


def test_the_same_events_forecast_by_another_group_before_leave_it_uncertain(rig: Rig) -> None:
    published(rig, forecast(2), forecast(3, None), forecast(4, "another"))
    left_in(rig, OUTPUT, forecast(3, None), forecast(4))
    assert verdict(rig, 5) is None


def test_what_was_published_too_long_ago_to_be_seen_leaves_it_uncertain(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.lives.left_open.MOST", 1)
    monkeypatch.setattr("worker.lives.left_open.EARLIER", 2)
    published(rig, forecast(3), forecast(8), forecast(9))
    left_in(rig, OUTPUT, forecast(3))
    assert verdict(rig, 10) is None


def test_more_than_anybody_should_read_is_left(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.lives.left_open.MOST", 2)
    left_in(rig, OUTPUT, *map(forecast, (1, 2, 3)))
    assert verdict(rig, 10) is None


@pytest.mark.parametrize(
    ("by", "topic", "facts"),
    [
        ("another/one", OUTPUT, forecast(0)),
        ("", OUTPUT, forecast(0)),  # an id that is forgotten, or that the user may not see
        (f"{GROUP}/{RESENDER}", DEAD_LETTERS, {"foldcast-resent": "0"}),
        (f"{GROUP}/gone", CHANGELOG, {}),  # of a version that does not say with which C it came
        (f"{GROUP}/gone", CHANGELOG, {"foldcast-next": "5"}),  # C may be that of another worker
    ],
)
def test_what_is_not_ours_or_not_certain_is_named_and_left(
    by: str, topic: str, facts: dict[str, str], rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    left_in(rig, topic, facts, by=by)
    rig.cluster.offsets[0] = 10
    end_left_open(rig.brokers["one"], TOPICS, 0)
    assert rig.cluster.logs[topic, 0].stable() == 0, "it is still open"
    (said,) = (record.getMessage() for record in caplog.records if "left open" in record.getMessage())
    assert f"{topic}-0 from offset 0 on" in said
    assert "see docs/runbook.md before you end it" in said


@pytest.mark.parametrize(("topic", "facts"), [(CHANGELOG, {"foldcast-next": "5"}), (DEAD_LETTERS, None)])
def test_a_c_that_lies_below_what_else_is_committed_proves_nothing(
    rig: Rig, topic: str, facts: dict[str, str] | None
) -> None:
    published(rig, forecast(2))
    left_in(rig, OUTPUT, forecast(3), forecast(4))
    facts = facts or {f"foldcast-error-{name}": text for name, text in LETTER.items()}
    encoded = [(name, text.encode()) for name, text in facts.items()]
    rig.cluster.logs[topic, 0].append(Message(topic, 0, b"key", b"", encoded), 0, Transaction("committed"))
    assert [verdict(rig, c) for c in (3, 5)] == [None, True]


LETTER = {"group": GROUP, "source": "first", "topic": INPUT, "partition": "0", "offset": "4"}


@pytest.mark.parametrize(("end", "said"), [("2", [None, True]), ("5", [False, True]), ("7", [False, None])])
def test_a_changelog_that_was_left_open_by_another_transaction_leaves_it_uncertain(
    rig: Rig, end: str, said: list[bool | None]
) -> None:
    published(rig, forecast(2))
    left_in(rig, OUTPUT, forecast(3), forecast(4))
    lost = rig.cluster.endless[0][1]
    encoded = [("foldcast-next", end.encode())]
    rig.cluster.logs[CHANGELOG, 0].append(Message(CHANGELOG, 0, b"page", b"", encoded), 0, lost)
    assert [verdict(rig, c) for c in (3, 5)] == said


def test_what_nobody_can_read_to_its_end_is_asked_for_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.lives.left_open.LIMIT_S", 0.0)
    left_in(rig, OUTPUT, forecast(3))
    monkeypatch.setattr(MemoryRead, "read", lambda *_: [])
    monkeypatch.setattr(UndecidedRead, "read", lambda *_: [])
    with pytest.raises(NotYet):
        verdict(rig, 4)
