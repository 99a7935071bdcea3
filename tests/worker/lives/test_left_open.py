"""Transactions whose end never comes to a partition: whoever restores it ends them as the rest of them tells."""

from itertools import combinations

import pytest

from tests.rigs.clock import Clock
from tests.rigs.loop_rig import TOPICS, Rig
from tests.rigs.memory_broker import CHANGELOG, DEAD_LETTERS, GROUP, INPUT, OUTPUT, ROWS
from tests.rigs.memory_log import Transaction
from worker.broker.contract import RESENDER, Message
from worker.lives.left_open import end_left_open

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
    topics: tuple[str, ...], committed: bool, offsets: bool, turns: int, clock: Clock
) -> None:
    rig = with_a_lost_end(committed, topics, offsets, turns)
    settle(rig, clock)
    rig.produce(20)
    settle(rig, clock)
    rig.check_topics()
    assert all(log.stable() == log.end for log in rig.cluster.logs.values()), "nothing is left open"


def left_in(rig: Rig, topic: str, *headers: dict[str, str], by: str = f"{GROUP}/gone") -> None:
    """Records that are left open there."""
    lost = Transaction()
    for facts in headers:
        encoded = [(name, text.encode()) for name, text in facts.items()]
        rig.cluster.logs[topic, 0].append(Message(topic, 0, b"key", b"{}", encoded), 0, lost)
    rig.cluster.endless.append((by, lost))


def forecast(offset: int) -> dict[str, str]:
    return {"foldcast-id": f"{INPUT}-0-{offset}", "foldcast-group": GROUP, "foldcast-source": "first"}


@pytest.mark.parametrize(
    ("by", "topic", "facts", "overtaken"),
    [
        ("another/one", OUTPUT, forecast(0), False),
        ("", OUTPUT, forecast(0), False),  # a forgotten id
        (f"{GROUP}/{RESENDER}", DEAD_LETTERS, {"foldcast-resent": "0"}, False),
        (f"{GROUP}/gone", CHANGELOG, {}, False),  # of a version that does not say with which C it came
        (f"{GROUP}/gone", CHANGELOG, {"foldcast-next": "5"}, True),  # C may be that of another worker
    ],
)
def test_what_is_not_ours_or_tells_nothing_is_named_and_left(
    by: str, topic: str, facts: dict[str, str], overtaken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig()
    rig.start()
    left_in(rig, topic, facts, by=by)
    left_open = rig.brokers["one"].left_open
    rig.brokers["one"].left_open = lambda topics, partition: [  # type: ignore[method-assign]
        left._replace(overtaken=overtaken) for left in left_open(topics, partition)
    ]
    end_left_open(rig.brokers["one"], TOPICS, 0, 10, held=False)
    assert rig.cluster.logs[topic, 0].stable() == 0, "it is still open"
    (said,) = (record.getMessage() for record in caplog.records if "left open" in record.getMessage())
    assert f"{topic}-0 from offset 0 on" in said
    assert "kafka-transactions.sh abort" in said


def test_forecasts_that_another_worker_made_again_are_aborted_though_they_lie_below_c() -> None:
    rig = Rig()
    rig.start()
    left_in(rig, OUTPUT, forecast(3))
    message = Message(OUTPUT, 0, b"key", b"{}", [(name, text.encode()) for name, text in forecast(3).items()])
    rig.cluster.logs[OUTPUT, 0].append(message, 0, Transaction("committed"))
    end_left_open(rig.brokers["one"], TOPICS, 0, 4, held=False)
    assert rig.cluster.committed_messages(OUTPUT) == [message]
