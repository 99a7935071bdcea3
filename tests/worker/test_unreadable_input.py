"""A batch of the input that cannot be unpacked: how long the loop tries, what it says, and that it ends."""

from collections.abc import Callable
from dataclasses import replace

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
    rig.stop.waits.clear()
    rig.cluster.unreadable = {0: rig.cluster.offsets[0] + 3}
    return rig


def turns(rig: Rig, clock: Clock, until: Callable[[], bool]) -> None:
    """Cycles of a tenth of a second and the pauses between them, with records for both partitions."""
    began = clock.now
    while not until():
        assert clock.now - began < 10 * GIVE_UP_S, f"not reached: {rig.loops['one'].why_not_ready}"
        rig.produce(2)
        waited = len(rig.stop.waits)
        rig.turn()
        clock.now += 0.1 + sum(rig.stop.waits[waited:])


def pauses(rig: Rig) -> list[float]:
    return [wait for wait in rig.stop.waits if wait]


def test_it_ends_the_worker_though_others_commit_with_the_place_and_the_fix(rig: Rig, clock: Clock) -> None:
    bad, before, began = rig.cluster.unreadable[0], dict(rig.cluster.offsets), clock.now
    sentence = rf"^partition 0 could not be read for \d+ s \(worker\.give_up_s\): .* from {bad} on; mend it$"
    with pytest.raises(Refusal, match=sentence):
        turns(rig, clock, lambda: False)
    assert GIVE_UP_S < clock.now - began < 2 * GIVE_UP_S
    assert pauses(rig)[:6] == PAUSES, "though each life commits, folds records from before again, and reads others"
    assert set(pauses(rig)[6:]) == {LONGEST_PAUSE_S}
    assert rig.cluster.offsets[0] == bad, "what came before it was forecast"
    assert rig.cluster.offsets[1] > before[1], "and the other partition went on"
    assert rig.sample("replayed_records_total") > 0


def test_readiness_tells_what_cannot_be_read(rig: Rig, clock: Clock) -> None:
    turns(rig, clock, lambda: len(pauses(rig)) == 2)
    why = rig.loops["one"].why_not_ready
    assert why is not None
    assert f"input-0 cannot be unpacked from {rig.cluster.unreadable[0]} on" in why


def test_once_it_is_read_all_is_forgotten(rig: Rig, clock: Clock) -> None:
    for _ in range(2):
        turns(rig, clock, lambda: len(pauses(rig)) == 3)
        assert pauses(rig) == PAUSES[:3]
        rig.cluster.unreadable.clear()
        turns(rig, clock, lambda: rig.loops["one"].why_not_ready is None)
        rig.stop.waits.clear()
        rig.cluster.unreadable = {0: rig.cluster.offsets[0] + 3}
    rig.cluster.unreadable.clear()
    rig.drain()
    rig.check_topics()


def test_a_partition_that_went_elsewhere_is_forgotten() -> None:
    rows = UnreadableInput(GIVE_UP_S)
    errors = [Unreadable(f"{p}", p, 7, "mend it") for p in range(2)]
    assert [rows.pause_after(errors[p]) for p in (0, 1, 0, 1)] == [0.5, 0.5, 1.0, 1.0]
    rows.keep({1})
    assert rows.why == ["1"]
    assert [rows.pause_after(errors[p]) for p in (0, 1)] == [0.5, 2.0]
    rows.arrived(1, 6)
    assert rows.pause_after(errors[1]) == 4.0, "a record before it is no news"
    rows.arrived(1, 7)
    assert rows.pause_after(errors[1]) == 0.5
