"""A batch of the input that cannot be unpacked: how long the loop tries, what it says, and that it ends."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.rigs.clock import Clock
from tests.rigs.loop_rig import Rig, drained
from worker.broker.contract import Unreadable
from worker.failures import LONGEST_PAUSE_S, UnreadableInput
from worker.refusal import Refusal

GIVE_UP_S = 60.0
PAUSES = [0.5, 1.0, 2.0, 4.0, 8.0, LONGEST_PAUSE_S]


@pytest.fixture
def rig(clock: Clock) -> Rig:
    """Two partitions with state; a record of partition 0 that comes next can be unpacked by nobody."""
    rig = drained(66)
    rig.limits = replace(rig.limits, give_up_s=GIVE_UP_S)
    rig.start()
    rig.drain()
    rig.cluster.unreadable = {0: rig.cluster.offsets[0] + 3}
    return rig


@pytest.fixture
def tries() -> list[float]:
    """When it has met what it cannot unpack."""
    return []


def turns(rig: Rig, clock: Clock, tries: list[float], until: Callable[[], bool]) -> None:
    """Cycles of a tenth of a second, with records for both partitions."""
    began = clock.now
    while not until():
        assert clock.now - began < 10 * GIVE_UP_S, f"not reached: {rig.loops['one'].why_not_ready}"
        rig.produce(2)
        before = rig.sample("failures_total")
        rig.turn()
        if rig.sample("failures_total") > before:
            tries.append(clock.now)
        clock.now += 0.1


def check_pauses(tries: list[float]) -> None:
    """They grow; a cycle may pass until one is noticed to be over."""
    pauses = [after - before for before, after in pairwise(tries)]
    expected = [*PAUSES, *[LONGEST_PAUSE_S] * len(pauses)][: len(pauses)]
    assert all(least - 0.01 < pause < least + 0.21 for pause, least in zip(pauses, expected, strict=True)), pauses


def test_it_ends_the_worker_though_others_commit_with_the_place_and_the_fix(
    rig: Rig, clock: Clock, tries: list[float]
) -> None:
    bad, before, began = rig.cluster.unreadable[0], dict(rig.cluster.offsets), clock.now
    turns(rig, clock, tries, lambda: len(tries) == 1)
    lives = dict(rig.loops["one"].lives)
    assert len(lives) == 2
    sentence = rf"^partition 0 could not be read for \d+ s \(worker\.give_up_s\): .* from {bad} on; mend it$"
    with pytest.raises(Refusal, match=sentence):
        turns(rig, clock, tries, lambda: False)
    assert GIVE_UP_S < clock.now - began < 2 * GIVE_UP_S
    assert len(tries) > len(PAUSES)
    check_pauses(tries)
    assert rig.cluster.offsets[0] == bad, "what came before it was forecast"
    assert rig.cluster.offsets[1] > before[1], "and the other partition went on"
    assert rig.loops["one"].lives == lives, "no life ended"


def test_readiness_tells_what_cannot_be_read(rig: Rig, clock: Clock, tries: list[float]) -> None:
    turns(rig, clock, tries, lambda: len(tries) == 2)
    why = rig.loops["one"].why_not_ready
    assert why is not None
    assert f"input-0 cannot be unpacked from {rig.cluster.unreadable[0]} on" in why


def test_once_it_is_read_all_is_forgotten(rig: Rig, clock: Clock, tries: list[float]) -> None:
    for _ in range(2):
        turns(rig, clock, tries, lambda: len(tries) == 4)
        check_pauses(tries)
        rig.cluster.unreadable.clear()
        turns(rig, clock, tries, lambda: rig.loops["one"].why_not_ready is None)
        tries.clear()
        rig.cluster.unreadable = {0: rig.cluster.offsets[0] + 3}
    rig.cluster.unreadable.clear()
    rig.drain()
    rig.check_topics()


def test_a_commit_that_fails_meanwhile_is_no_other_way(rig: Rig, clock: Clock, tries: list[float]) -> None:
    turns(rig, clock, tries, lambda: len(tries) == 2)
    rig.brokers["one"].fail_commit = "refused"
    turns(rig, clock, tries, lambda: len(tries) >= 6)
    rig.cluster.unreadable.clear()
    turns(rig, clock, tries, lambda: rig.loops["one"].why_not_ready is None)
    rig.drain()
    rig.check_topics()


def test_a_partition_that_went_elsewhere_is_forgotten(clock: Clock) -> None:
    rows = UnreadableInput(GIVE_UP_S)

    def pause(partition: int) -> float:
        """How long it is let rest."""
        rows.pause(Unreadable(f"{partition}", partition, 7, "mend it"))
        began = clock.now
        while partition not in rows.rested():
            clock.now += 0.5
        return clock.now - began

    assert [pause(p) for p in (0, 1, 0, 1)] == [0.5, 0.5, 1.0, 1.0]
    rows.pause(Unreadable("0", 0, 7, "mend it"))
    rows.keep({1})
    clock.now += 10
    assert rows.rested() == []
    assert rows.why == ["1"]
    assert [pause(p) for p in (0, 1)] == [0.5, 2.0]
    rows.arrived(1, 6)
    assert pause(1) == 4.0, "a record before it is no news"
    rows.arrived(1, 7)
    assert pause(1) == 0.5
