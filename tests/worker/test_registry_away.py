"""A registry that is away, or that forgets: nothing is dead-lettered or lost by it, and a replay is what was."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import pytest

from pipeline.batch import Batch, Rejected
from pipeline.decoding.schemas import SchemasAway, StillAsking
from pipeline.events import Decoder, Format
from tests.rigs.clock import Clock
from tests.rigs.loop_rig import Rig
from tests.rigs.memory_broker import CHANGELOG, DEAD_LETTERS, INPUT
from worker.refusal import Refusal

GIVE_UP_S = 60.0


class Forgetful(Decoder):
    """A decoder whose registry is away for the streams in `away`, and does not know those in `unknown`."""

    def __init__(self) -> None:
        super().__init__(Format())
        self.away, self.unknown = set[bytes](), set[bytes]()
        self.asked = 0
        self.kind, self.reason = SchemasAway, "unknown_schema"

    def decode(
        self,
        offsets: Sequence[int],
        timestamps_ms: Sequence[int],
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
    ) -> tuple[Batch, list[Rejected]]:
        if any(name in (value or b"") for value in values for name in self.away):
            self.asked += 1
            raise self.kind("the schema registry at http://r:1 does not answer", "start it")
        hidden = [any(name in (value or b"") for name in self.unknown) for value in values]
        shown = [None if hide else value for hide, value in zip(hidden, values, strict=True)]
        batch, rejected = super().decode(offsets, timestamps_ms, keys, shown)
        named = [
            r._replace(reason=self.reason, message="there is no schema 7") if hidden[r.place] else r for r in rejected
        ]
        return batch, named


@pytest.fixture
def decoder() -> Forgetful:
    return Forgetful()


@pytest.fixture
def rig(clock: Clock, decoder: Forgetful) -> Rig:
    """Two partitions with state."""
    rig = Rig()
    rig.plan = replace(rig.plan, decoder=decoder)
    rig.limits = replace(rig.limits, give_up_s=GIVE_UP_S)
    rig.start()
    rig.produce(60)
    rig.drain()
    return rig


def feed(rig: Rig, stream: bytes, times: int = 1) -> None:
    """Events of one stream for partition 0."""
    for _ in range(times):
        rig._sent += 2
        n = rig._sent
        rig.cluster.produce(0, None, b'{"stream":"%s","time":%d,"value":2.5}' % (stream, n * 60), n * 60_000)


def test_its_partition_waits_and_the_other_goes_on(rig: Rig, clock: Clock, decoder: Forgetful) -> None:
    before, dead = dict(rig.cluster.offsets), len(rig.cluster.committed_messages(DEAD_LETTERS))
    lives, decoder.away = dict(rig.loops["one"].lives), {b"newer"}
    feed(rig, b"newer", 20)
    while clock.now < 1020.0:
        rig.cluster.produce(1, b"s1", b'{"value":1}', rig._sent * 60_000)
        rig.turn()
        clock.now += 0.1
    assert 4 <= decoder.asked <= 8, "pauses grow"
    assert rig.loops["one"].why_not_ready == "the schema registry at http://r:1 does not answer"
    assert rig.loops["one"].lives == lives, "no life has ended"
    assert rig.cluster.offsets[0] == before[0]
    assert rig.cluster.offsets[1] > before[1]
    assert len(rig.cluster.committed_messages(DEAD_LETTERS)) == dead
    decoder.away = set()
    clock.now += 11
    rig.drain()
    assert rig.loops["one"].why_not_ready is None
    rig.check_topics()


def test_it_ends_the_worker_after_a_while_with_the_address_and_the_fix(
    rig: Rig, clock: Clock, decoder: Forgetful
) -> None:
    decoder.away = {b"newer"}
    feed(rig, b"newer", 3)

    def turns() -> None:
        for _ in count():
            rig.cluster.produce(1, b"s1", b'{"value":1}', rig._sent * 60_000)  # its commits are no way out
            rig.turn()
            clock.now += 0.1
            assert clock.now < 1000 + 2 * GIVE_UP_S

    with pytest.raises(
        Refusal, match=r"partition 0 .* \(worker.give_up_s\): the schema registry at http://r:1 .*; start it"
    ):
        turns()
    assert clock.now > 1000 + GIVE_UP_S


def test_a_registry_that_is_still_being_asked_has_not_failed(rig: Rig, clock: Clock, decoder: Forgetful) -> None:
    decoder.away, decoder.kind = {b"newer"}, StillAsking
    feed(rig, b"newer", 3)
    while clock.now < 1000 + 2 * GIVE_UP_S:
        rig.turn()
        clock.now += 0.4
    assert decoder.asked > GIVE_UP_S, "pauses do not grow"
    assert rig.sample("failures_total") == 0
    decoder.away = set()
    clock.now += 1
    rig.drain()
    rig.check_topics()


def test_holes_are_counted_once_however_often_the_registry_is_asked(clock: Clock, decoder: Forgetful) -> None:
    rig = Rig(partitions=1, skip_gaps=True)
    rig.plan = replace(rig.plan, decoder=decoder)
    rig.start()
    rig.produce(20)
    rig.drain()
    newest = rig.loops["one"].lives[0].last_record_ms
    feed(rig, b"newer", 3)
    decoder.away = {b"newer"}
    rig.cluster.logs[INPUT, 0].remove(rig.cluster.logs[INPUT, 0].end - 2)
    rig.witnessing = False  # another state from here on, by the user's leave
    while clock.now < 1020.0:
        rig.turn()
        clock.now += 0.4
    assert decoder.asked > 3
    assert rig.loops["one"].lives[0].last_record_ms == newest
    decoder.away = set()
    for _ in range(50):
        rig.turn()
        clock.now += 1
    assert rig.cluster.offsets[0] == rig.cluster.logs[INPUT, 0].end
    assert rig.sample("input_gap_records_total") == 1


@pytest.mark.parametrize("away", [True, False, "unusable"])
def test_a_replay_needs_what_was_known(rig: Rig, clock: Clock, decoder: Forgetful, away: object) -> None:
    rig.limits = replace(rig.limits, snapshots=replace(rig.limits.snapshots, events=10**6))
    rig.start()
    rig.drain()
    feed(rig, b"newer", 9)
    rig.drain()
    decoder.away, decoder.unknown = ({b"newer"}, set()) if away is True else (set(), {b"newer"})
    rig.start()  # after a kill
    if away is not True:
        decoder.reason = "unusable_schema" if away else "unknown_schema"
        with pytest.raises(Refusal, match=r"(no longer has|cannot use) the schema of the record at \d+ of partition 0"):
            rig.cycle(times=20)
        return
    rig.cycle(times=20)
    assert not rig.loops["one"].lives[0].at_c
    assert "does not answer" in str(rig.loops["one"].why_not_ready)
    decoder.away = set()
    clock.now += 1
    rig.cycle(times=20)
    assert rig.loops["one"].lives[0].at_c
    rig.check_topics()


@pytest.mark.parametrize("reason", ["unknown_schema", "unusable_schema"])
def test_what_was_refused_for_its_schema_once_is_refused_in_every_replay(
    rig: Rig, decoder: Forgetful, reason: str
) -> None:
    decoder.reason = reason
    rig.limits = replace(rig.limits, snapshots=replace(rig.limits.snapshots, events=10**6))
    rig.refers_anew = True
    rig.start()
    rig.drain()
    decoder.unknown = {b"newer"}
    feed(rig, b"newer")
    feed(rig, b"s0", 2)
    rig.drain()
    [letter] = [m for m in rig.cluster.committed_messages(DEAD_LETTERS) if m.value and b"newer" in m.value]
    assert ("foldcast-error-reason", reason.encode()) in letter.headers
    offset = next(e.offset for e, m in rig.cluster.logs[INPUT, 0].readable(0) if m.value and b"newer" in m.value)
    assert any(m.key == b"refused-%d" % offset for m in rig.cluster.committed_messages(CHANGELOG))
    for unknown in (set[bytes](), {b"newer"}):
        decoder.unknown = unknown  # it was registered meanwhile, or was not
        rig.start()
        rig.cycle(times=20)
        assert rig.loops["one"].lives[0].at_c
        rig.check_topics()
