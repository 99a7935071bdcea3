"""A restore that cannot go on: how long the loop waits, what it counts, and when it declines to go on."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.rigs.clock import Clock
from tests.rigs.loop_rig import Rig, drained
from tests.rigs.memory_broker import CHANGELOG
from tests.rigs.memory_log import Transaction
from worker.broker.contract import UNANSWERED_S, Message, Unanswered
from worker.failures import LateRestores
from worker.refusal import Refusal

GIVE_UP_S = 60.0


@pytest.fixture
def rig(clock: Clock) -> Rig:
    """Two partitions with state, and a worker that has just been started again."""
    rig = drained()
    rig.limits = replace(rig.limits, give_up_s=GIVE_UP_S)
    rig.start()
    return rig


def turns(rig: Rig, clock: Clock, until: Callable[[], bool], most_s: float) -> float:
    """A cycle a second, with events for both partitions; how long it took."""
    began = clock.now
    while not until():
        assert clock.now - began < most_s, f"not within {most_s} s: {rig.loops['one'].why_not_ready}"
        rig.produce(2)
        rig.turn()
        clock.now += 1
    return clock.now - began


def live(rig: Rig, partition: int) -> bool:
    life = rig.loops["one"].lives.get(partition)
    return life is not None and life.at_c


def failures(rig: Rig) -> float:
    return rig.sample("failures_total")


def test_one_that_never_gets_an_answer_ends_the_worker_though_others_commit(rig: Rig, clock: Clock) -> None:
    rig.cluster.unanswered = {0}
    turns(rig, clock, lambda: live(rig, 1), 5)
    other, began, committed = rig.loops["one"].lives[1], clock.now, rig.cluster.offsets[1]
    with pytest.raises(
        Refusal, match=r"partition 0 could not be restored for \d+ s \(worker\.give_up_s\): .*changelog"
    ):
        turns(rig, clock, lambda: False, 10 * GIVE_UP_S)
    assert GIVE_UP_S < clock.now - began < 2 * GIVE_UP_S
    assert rig.loops["one"].lives[1] is other, "it was left alone"
    assert rig.cluster.offsets[1] > committed, "and went on"
    assert 2 <= failures(rig) <= 10, "counted, with pauses between"


def test_one_whose_input_nobody_tells_the_ends_of_is_late_too(rig: Rig, clock: Clock) -> None:
    """All that a restore reads is read by then, again and again, and that is no progress."""
    broker = rig.brokers["one"]
    bounds = broker.bounds

    def unanswered(partition: int) -> tuple[int, int]:
        if partition == 0:
            raise Unanswered("no broker tells where input-0 ends")
        return bounds(partition)

    broker.bounds = unanswered  # type: ignore[method-assign]
    with pytest.raises(
        Refusal, match=r"partition 0 could not be restored for \d+ s .*no broker tells where input-0 ends"
    ):
        turns(rig, clock, lambda: False, 10 * GIVE_UP_S)


def test_one_whose_changelog_cannot_be_unpacked_ends_the_worker_with_the_place_and_the_fix(
    rig: Rig, clock: Clock
) -> None:
    rig.cluster.damaged = {0}
    turns(rig, clock, lambda: live(rig, 1), 5)
    other, committed = rig.loops["one"].lives[1], rig.cluster.offsets[1]
    sentence = (
        r"partition 0 could not be restored for \d+ s \(worker\.give_up_s\): partition 0 is not restored: "
        r"changelog-0 cannot be unpacked from offset 3 on; mend it$"
    )
    with pytest.raises(Refusal, match=sentence):
        turns(rig, clock, lambda: False, 2 * GIVE_UP_S)
    assert rig.loops["one"].lives[1] is other, "it was left alone"
    assert rig.cluster.offsets[1] > committed, "and went on"
    why = rig.loops["one"].why_not_ready
    assert why is not None
    assert "changelog-0 cannot be unpacked" in why
    assert 2 <= failures(rig) <= 12, "counted, with pauses between"


def test_readiness_tells_what_it_waits_for(rig: Rig, clock: Clock) -> None:
    rig.cluster.unanswered = {0}
    turns(rig, clock, lambda: live(rig, 1), 5)
    waits = "restoring partitions [0]; no broker tells where the changelog of partition 0 ends"
    for _ in range(20):
        assert rig.loops["one"].why_not_ready == waits
        rig.turn()
        clock.now += 1


def test_one_that_is_answered_in_time_is_no_failure(rig: Rig, clock: Clock) -> None:
    rig.cluster.unanswered = {0, 1}
    began = clock.now
    turns(rig, clock, lambda: clock.now - began >= UNANSWERED_S, 60)
    rig.cluster.unanswered = set()
    turns(rig, clock, lambda: live(rig, 0) and live(rig, 1), 60)
    assert failures(rig) == 0
    rig.drain()
    rig.check_topics()


def test_waiting_for_the_transaction_of_another_worker_is_no_failure(rig: Rig, clock: Clock) -> None:
    began = clock.now
    with rig.cluster.held_offsets(0):
        turns(rig, clock, lambda: clock.now - began >= rig.limits.longest_transaction_s, 60)
    turns(rig, clock, lambda: live(rig, 0), 60)
    assert failures(rig) == 0


def test_waiting_for_longer_than_any_transaction_lasts_is_one(rig: Rig, clock: Clock) -> None:
    with (
        rig.cluster.held_offsets(0),
        pytest.raises(Refusal, match=r"partition 0 could not be restored .* an open transaction holds the offset"),
    ):
        turns(rig, clock, lambda: False, 5 * GIVE_UP_S)
    assert failures(rig) >= 2


def test_a_changelog_that_is_not_read_to_its_end_for_longer_is_one_too(rig: Rig, clock: Clock) -> None:
    transaction = Transaction()
    rig.cluster.logs[CHANGELOG, 0].append(Message(CHANGELOG, 0, b"page-0", b"half"), 0, transaction)
    began = clock.now
    turns(rig, clock, lambda: clock.now - began >= rig.limits.longest_transaction_s, 60)
    assert failures(rig) == 0
    turns(rig, clock, lambda: failures(rig) == 1, 10)
    transaction.state = "aborted"
    turns(rig, clock, lambda: live(rig, 0), 10)
    rig.drain()
    rig.check_topics()


def test_one_that_is_answered_after_failures_goes_live_and_the_row_is_over(rig: Rig, clock: Clock) -> None:
    for _ in range(3):  # together longer than it would put up with
        rig.cluster.unanswered, before = {0}, failures(rig)
        rig.loops["one"]._begin(0, "for the test")
        turns(rig, clock, lambda: failures(rig) >= before + 3, GIVE_UP_S)  # noqa: B023
        rig.cluster.unanswered = set()
        assert turns(rig, clock, lambda: live(rig, 0), 60) < 20
    rig.drain()
    rig.check_topics()


def test_a_partition_that_another_worker_had_meanwhile_begins_a_new_row(clock: Clock) -> None:
    late, error = LateRestores(GIVE_UP_S), Unanswered("nobody")
    assert [late.pause_after(0, error), late.pause_after(1, error), late.pause_after(0, error)] == [0.5, 0.5, 1.0]
    late.keep({1})
    clock.now += 2 * GIVE_UP_S
    assert late.pause_after(0, error) == 0.5
    with pytest.raises(Refusal, match="partition 1 could not be restored for 120 s"):
        late.pause_after(1, error)
