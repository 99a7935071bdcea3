"""The cycle over a broker in memory: whatever fails, the topics and the state are those of one fold."""

from collections.abc import Sequence
from dataclasses import replace
from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_broker import CHANGELOG, DEAD_LETTERS, INPUT, OUTPUT, MemoryBroker, MemoryCluster
from memory_log import Transaction

from pipeline.events import Decoder, Format
from pipeline.image import read_image
from pipeline.method import Method
from pipeline.model import Network, Shape
from pipeline.shard import Shard
from worker.broker.contract import Message
from worker.durability import SnapshotPolicy
from worker.failures import DeadLetterCatch, Pulse, Refusal
from worker.life import Plan
from worker.loop import Limits, Loop
from worker.metrics import Metrics
from worker.publish import Topics, dead_letters, forecast_messages

PARTITIONS = 2
SNAPSHOT_EVENTS = 12
METHOD = Method(horizons=(1, 3), hidden_size=8)
TOPICS = Topics(INPUT, OUTPUT, DEAD_LETTERS, CHANGELOG)
WORKERS = ("one", "two")


class Impatient(Event):
    """Nobody waits in memory."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


class Witness(MemoryBroker):
    """Looks at each transaction before it goes out."""

    def commit(self, messages: Sequence[Message], offsets: dict[int, int], membership: object) -> None:
        assert {m.partition for m in messages} <= offsets.keys(), "every message comes with its partition's offset"
        for partition, offset in offsets.items():
            below = self.cluster.offsets.get(partition, 0)
            assert offset >= below, "offsets never go back"
            said = [int(m.headers[1][1].rpartition(b"-")[2]) for m in messages if m[:2] == (OUTPUT, partition)]
            letters = [
                int(dict(m.headers)["foldcast-error-offset"]) for m in messages if m[:2] == (DEAD_LETTERS, partition)
            ]
            assert all(below <= o < offset for o in said + letters), "nothing from below C, nothing beyond the offsets"
        super().commit(messages, offsets, membership)


class Rig:
    """Two workers, an input, and the fold that nothing ever interrupts."""

    def __init__(self, **changes: object) -> None:
        checkpoint = Network(Shape.of(METHOD), seed=3)
        checkpoint.head.weight.data.uniform_(-1, 1)
        given = {"seed": 0, "checkpoint": checkpoint.dump(), "start": "earliest", "skip_gaps": False, **changes}
        self.plan = Plan(METHOD, {"model.cell": "gru"}, Decoder(Format()), **given)  # type: ignore[arg-type]
        self.limits = Limits(0, 1e9, SnapshotPolicy(SNAPSHOT_EVENTS, 1e9), DeadLetterCatch())
        self.cluster = MemoryCluster(PARTITIONS, max_poll_records=7)
        self.stop, self.sent = Impatient(), 0
        self.brokers: dict[str, Witness] = {}
        self.loops: dict[str, Loop] = {}

    def start(self, name: str) -> None:
        """A new process under this instance id, in place of the one before."""
        self.brokers[name] = Witness(self.cluster, name)
        self.loops[name] = Loop(self.brokers[name], self.plan, TOPICS, self.limits, Metrics(METHOD, "test"), Pulse())

    def cycle(self, name: str) -> None:
        loop = self.loops[name]
        with loop._recovery(self.stop):
            loop.cycle(self.stop)
        for life in loop.lives.values():
            assert not life.live or life.shard is None or life.shard.replay_tail <= SNAPSHOT_EVENTS

    def produce(self, number: int) -> None:
        for _ in range(number):
            self.sent += 1
            n, partition = self.sent, self.sent % PARTITIONS
            value: bytes | None = b'{"stream":"s%d","time":%d,"value":%d.5}' % (
                n % 5 * 2 + partition,
                n * 60,
                n * 7 % 13,
            )
            if n % 11 == 0:
                value = (b"{", None, b'{"stream":"late","time":1,"value":null}')[n % 3]
            self.cluster.produce(partition, b"key" if value else None, value, n * 60_000)
            if n % 9 == 0:  # a transaction's marker: a hole in the offsets
                self.cluster.logs[INPUT, partition].append(None, 0, Transaction("committed"))

    def drain(self) -> None:
        for _ in range(400):
            for name in self.loops:
                self.cycle(name)
            if all(self.cluster.offsets.get(p, 0) >= self.last(p) for p in range(PARTITIONS)):
                return
        raise AssertionError(f"stuck at {self.cluster.offsets}")

    def last(self, partition: int) -> int:
        return max((e.offset + 1 for e, _ in self.cluster.logs[INPUT, partition].readable(0)), default=0)

    def fold(self, shard: Shard, partition: int) -> list[Message]:
        """All of the log from the shard's position on, in one batch."""
        rows = [
            (e.offset, e.timestamp_ms, m.key, m.value)
            for e, m in self.cluster.logs[INPUT, partition].readable(shard.position)
        ]
        if not rows:
            return []
        from worker.broker.contract import Records

        records = Records(*map(list, zip(*rows, strict=True)))
        batch, rejected = self.plan.decoder.decode(*records)
        forecasts = shard.advance(batch)
        return [
            *forecast_messages(forecasts, METHOD, shard.version, TOPICS, partition),
            *dead_letters(rejected, records, TOPICS, partition),
        ]

    def check(self) -> None:
        """The topics hold what one fold says, and the changelog what it knows."""
        for partition in range(PARTITIONS):
            straight = Shard(METHOD, self.plan.network(), 0, self.plan.settings)
            messages = self.fold(straight, partition)
            for topic in (OUTPUT, DEAD_LETTERS):
                came = [m for m in self.cluster.committed_messages(topic) if m.partition == partition]
                assert came == [m for m in messages if m.topic == topic]
            restored = self.restored(partition)
            self.fold(restored, partition)
            rows = len(straight.table.names)
            assert restored.table.names == straight.table.names
            assert restored.table.rows[:rows].tobytes() == straight.table.rows[:rows].tobytes()
            assert (restored.counters, restored.clock_ms) == (straight.counters, straight.clock_ms)

    def restored(self, partition: int) -> Shard:
        log = self.cluster.logs[CHANGELOG, partition].readable(0)
        image = read_image([(m.key or b"", m.value) for _, m in log])
        shard = Shard(METHOD, self.plan.network(), min(image.weights, default=0), self.plan.settings)
        if image.marker is not None:
            shard.load(image)
        return shard


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("produce"), st.integers(1, 40)),
        st.tuples(st.just("cycle"), st.sampled_from(WORKERS)),
        st.tuples(st.just("restart"), st.sampled_from(WORKERS)),
        st.tuples(st.just("expire"), st.sampled_from(WORKERS)),
        st.tuples(st.just("poll fails"), st.sampled_from(WORKERS)),
        st.tuples(
            st.sampled_from(["refused", "unknown, committed", "unknown, not committed"]), st.sampled_from(WORKERS)
        ),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(ACTIONS)
def test_whatever_fails_the_topics_and_the_state_are_those_of_one_fold(actions: list[tuple[str, int | str]]) -> None:
    rig = Rig()
    for name in WORKERS:
        rig.start(name)
    for what, who in actions:
        if isinstance(who, int):
            rig.produce(who)
        elif what == "cycle":
            rig.cycle(who)
        elif what == "restart":
            rig.start(who)
        elif what == "expire":
            if who in rig.cluster.members:
                rig.cluster.expire(who)
        elif what == "poll fails":
            rig.brokers[who].fail_poll = True
        else:
            rig.brokers[who].fail_commit = what
        for _ in range(3):
            for name in WORKERS:
                rig.cycle(name)
    rig.produce(5)
    rig.drain()
    rig.check()


def drained(events: int = 60, **changes: object) -> Rig:
    """One worker that has taken in so many events."""
    rig = Rig(**changes)
    rig.start("one")
    rig.produce(events)
    rig.drain()
    return rig


def stop(rig: Rig, leave: bool = False) -> None:
    rig.stop.set()
    rig.loops["one"].run(rig.stop, leave, lambda _: None)
    rig.stop.clear()


def settle(rig: Rig, cycles: int = 30) -> None:
    for _ in range(cycles):
        rig.cycle("one")


def test_the_first_transaction_logs_the_base_weights_and_sets_the_start() -> None:
    rig = Rig(start="latest")
    rig.produce(10)
    rig.start("one")
    settle(rig)
    ends = {p: rig.cluster.logs[INPUT, p].stable() for p in range(PARTITIONS)}
    assert rig.cluster.offsets == ends, "a latest start survives a crash before the first event"
    assert sorted(m.key or b"" for m in rig.cluster.committed_messages(CHANGELOG)) == sorted(
        [b"weights-%d" % end for end in ends.values()] + [b"shard"] * PARTITIONS
    )


def test_below_the_committed_offset_nothing_leaves() -> None:
    rig = drained(8)  # fewer than make a snapshot: all of it is replay
    said = {topic: len(rig.cluster.committed_messages(topic)) for topic in (OUTPUT, DEAD_LETTERS, CHANGELOG)}
    rig.start("one")
    settle(rig)
    assert {topic: len(rig.cluster.committed_messages(topic)) for topic in said} == said
    metrics = rig.loops["one"]._metrics
    assert metrics.registry.get_sample_value("foldcast_replayed_records_total") == sum(rig.cluster.offsets.values())
    assert metrics.registry.get_sample_value("foldcast_events_total") == 0
    assert metrics.registry.get_sample_value("foldcast_commits_total", {"outcome": "committed"}) == 0


def test_a_clean_stop_leaves_nothing_to_replay_and_even_lost_offsets_are_known() -> None:
    rig = drained()
    committed = dict(rig.cluster.offsets)
    stop(rig)
    rig.cluster.offsets.clear()
    rig.start("one")
    settle(rig)
    assert rig.cluster.offsets == committed
    assert rig.loops["one"]._metrics.registry.get_sample_value("foldcast_replayed_records_total") == 0
    rig.produce(20)
    rig.drain()
    rig.check()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda rig: rig.cluster.offsets.clear(), "has no committed offset for partition"),
        (
            lambda rig: [log.entries.clear() for (topic, _), log in rig.cluster.logs.items() if topic == CHANGELOG],
            "is empty",
        ),
        (lambda rig: rig.cluster.offsets.update({0: 1, 1: 1}), "behind the changelog's image"),
        (
            lambda rig: [rig.cluster.truncate(p, rig.cluster.offsets[p] - 1) for p in range(PARTITIONS)],
            "retention has passed",
        ),
        (lambda rig: rig.cluster.offsets.update({0: 999}), "beyond the input's end"),
        (lambda rig: rig.plan.settings.update({"model.cell": "lstm"}), "model.cell was 'gru' and is 'lstm'"),
    ],
)
def test_what_cannot_be_restored_is_refused_with_a_sentence(damage, sentence, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("worker.life.STABLE_S", -1.0)
    rig = drained()
    damage(rig)
    rig.start("one")
    with pytest.raises(Refusal, match=sentence):
        settle(rig)


def test_a_clean_stop_long_ago_does_not_stand_in_for_lost_offsets() -> None:
    rig = drained()
    stop(rig)
    rig.start("one")
    rig.produce(3)  # too few for a snapshot
    rig.drain()
    rig.cluster.offsets.clear()
    rig.start("one")
    with pytest.raises(Refusal, match="has no committed offset"):
        settle(rig)


def test_settings_are_compared_before_the_first_snapshot_too_and_before_weights_are_loaded() -> None:
    rig = drained(3)
    rig.plan = replace(rig.plan, method=Method(horizons=(1, 3), hidden_size=16), settings={"model.cell": "lstm"})
    rig.plan = replace(rig.plan, checkpoint=None)
    rig.start("one")
    with pytest.raises(Refusal, match=r"model\.cell was 'gru' and is 'lstm'"):
        settle(rig)


def test_one_failure_on_a_quiet_topic_passes() -> None:
    rig = drained()
    rig.brokers["one"].fail_poll = True
    rig.cycle("one")
    assert rig.loops["one"].why_not_ready is not None
    settle(rig)
    assert rig.loops["one"].why_not_ready is None


def test_a_worker_without_partitions_is_ready_and_stays_so_after_a_failure() -> None:
    rig = Rig()
    rig.cluster.partitions = 1
    rig.start("one")
    settle(rig)
    rig.start("two")
    for _ in range(20):
        rig.cycle("one")
        rig.cycle("two")
    idle = next(loop for loop in rig.loops.values() if not loop.lives)
    assert idle.why_not_ready is None
    rig.brokers[next(name for name, loop in rig.loops.items() if loop is idle)].fail_poll = True
    for _ in range(3):
        rig.cycle("one")
        rig.cycle("two")
    assert idle.why_not_ready is None


def test_a_partition_that_cannot_be_read_holds_up_no_other() -> None:
    rig = Rig()
    rig.start("one")
    with rig.cluster.held_offsets(0):
        settle(rig)
        states = {p: life.live for p, life in rig.loops["one"].lives.items()}
        assert states == {0: False, 1: True}
    settle(rig)
    assert rig.loops["one"].why_not_ready is None


def test_a_gap_can_be_gone_over_and_is_counted() -> None:
    rig = drained(skip_gaps=True)
    first = {p: rig.cluster.offsets[p] + 3 for p in range(PARTITIONS)}
    rig.produce(20)
    for partition, offset in first.items():
        rig.cluster.truncate(partition, offset)
    rig.start("one")
    rig.drain()
    assert rig.loops["one"]._metrics.registry.get_sample_value("foldcast_input_gap_records_total") > 0


def test_two_workers_with_one_identity_end_with_a_sentence() -> None:
    rig = drained()
    older = rig.loops["one"]
    rig.start("one")

    def both_go_on() -> None:
        for _ in range(60):
            rig.produce(2)
            rig.cycle("one")
            with older._recovery(rig.stop):
                older.cycle(rig.stop)

    with pytest.raises(Refusal, match="fenced twice"):
        both_go_on()


def test_a_cycle_commits_nothing_when_too_many_records_are_dead() -> None:
    rig = Rig()
    rig.limits = Limits(0, 1e9, SnapshotPolicy(None, 1e9), DeadLetterCatch(in_a_row=5))
    rig.start("one")
    settle(rig, 5)
    for _ in range(10):
        rig.cluster.produce(0, None, b"not JSON")
    with pytest.raises(Refusal, match="max_dead_in_a_row = 5"):
        settle(rig)
    assert rig.cluster.committed_messages(DEAD_LETTERS) == []
    assert rig.cluster.offsets[0] == 0
