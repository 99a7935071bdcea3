"""Workers over a broker in memory, each step held against a fold that nothing interrupts.

`Reference` folds a partition record by record. `Witness` compares every transaction with it before it goes out;
`Rig.cycle` compares every shard with it, bit for bit, and every counter with what was acknowledged.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Event

import msgspec

from pipeline.batch import Rejected
from pipeline.durable.image import MARKER_KEY, REFUSED_PREFIX, Refused, read_image
from pipeline.events import Decoder, Format
from pipeline.learning.adoption import Adoption
from pipeline.learning.fine_tune import Schedule
from pipeline.network.model import Shape
from pipeline.shard import Shard
from tests.rigs.memory_broker import CHANGELOG, DEAD_LETTERS, GROUP, INPUT, OUTPUT, ROWS, MemoryBroker, MemoryCluster
from tests.rigs.memory_log import Transaction
from tests.rigs.methods import SMALL
from tests.rigs.networks import with_head
from worker.broker.contract import BrokerError, CommitError, Message, Polled, Records, Topics
from worker.dead_letters import DeadLetterCatch, dead_letters
from worker.learning import Learning, LearningPolicy
from worker.lives.judge import Judge
from worker.lives.loading import loaded
from worker.lives.predecessor import Predecessor
from worker.lives.snapshot_clock import SnapshotPolicy
from worker.loop import Limits, Loop
from worker.observe.metrics import Metrics
from worker.observe.pulse import Pulse
from worker.plan import Plan
from worker.publish import forecast_messages
from worker.rows import row_messages
from worker.trainer.messages import Answer, Offer, TrainerSetup
from worker.trainer.work import Trainer

METHOD = SMALL
SCHEDULE = Schedule(every_events=8, streams=4, learning_rate=0.05)
TOPICS = Topics(INPUT, OUTPUT, DEAD_LETTERS, CHANGELOG, GROUP, ROWS)
FAILURES = ("refused", "unknown, committed", "unknown, not committed")


def trained_weights() -> bytes:
    """A checkpoint whose head is not zero, so that forecasts depend on the hidden state."""
    return with_head(Shape.of(METHOD), 3, 3).dump()


CHECKPOINT = trained_weights()


def nameless(message: Message) -> Message:
    """Without whose it is, which each dead letter says, and the last forecast of a transaction."""
    whose = {f"foldcast-{name}" for name in ("group", "source", "error-group", "error-source")}
    return message._replace(headers=[(name, value) for name, value in message.headers if name not in whose])


class Impatient(Event):
    """Nobody waits in memory; how long somebody would have is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return self.is_set()


def state(shard: Shard) -> tuple[object, ...]:
    """Everything a shard knows, as something to compare."""
    rows = shard.table.rows[: len(shard.table.names)].tobytes()
    counted = repr(shard.counters), shard.clock_ms, shard.next_sweep, shard.watch.tobytes()
    return rows, tuple(shard.table.names), counted, shard.weights_offset, shard.network.digest()


class MemoryTrainer:
    """A trainer that answers at once, unless `held`; `tampered` may change what it says."""

    def __init__(self) -> None:
        self.generation = 1
        self.held = False
        self.tampered: Callable[[Answer], Answer] = lambda answer: answer
        self.offers: list[Offer] = []
        self._setup = TrainerSetup(Shape.of(METHOD), SCHEDULE, METHOD.window)
        self._trainer = Trainer(self._setup)
        self._asked: Offer | None = None

    @property
    def idle(self) -> bool:
        return self._asked is None

    def send(self, offer: Offer) -> None:
        assert self._asked is None, "one offer at a time"
        self._asked = offer
        self.offers.append(offer)

    def turn(self) -> Answer | None:
        if self.held or self._asked is None:
            return None
        asked, self._asked = self._asked, None
        return self.tampered(self._trainer.answer(asked))

    def die(self) -> None:
        """Another one takes its place."""
        self.generation += 1
        self._trainer, self._asked = Trainer(self._setup), None

    def close(self) -> None:
        self._asked = None


class Reference:
    """One partition folded record by record from `start`: what each record becomes, and each state on the way.

    What a worker refused by its clock or its memory is believed, where it is logged and its dead letter says why.
    """

    def __init__(self, plan: Plan, cluster: MemoryCluster, partition: int, start: int = 0) -> None:
        self.messages: dict[int, list[Message]] = {}  # by offset; empty: late, duplicate or missing
        self._plan, self._cluster, self._partition = plan, cluster, partition
        self._decoder = Decoder(plan.decoder.form)
        self._shard = Shard(METHOD, plan.network(), start, plan.settings)
        self._read, self._logged = 0, list[tuple[int, Adoption]]()  # of the changelog; adoptions not yet reached
        self._refused, self._reasons = set[int](), dict[int, tuple[str, str]]()  # by offset
        self._read_letters = 0
        self.states = {start: state(self._shard)}  # by position

    def _reach(self, offset: int) -> None:
        """Bring the adoptions into service that are logged to hold from here, or before."""
        for entry, m in self._cluster.logs[CHANGELOG, self._partition].readable(self._read):
            self._read = entry.offset + 1
            self.hear(m)
            at = (m.key or b"").removeprefix(b"weights-")
            if at.isdigit() and m.value is not None and int(at) > self._shard.weights_offset:
                self._logged.append((int(at), Adoption.load(m.value)))
        for entry, m in self._cluster.logs[DEAD_LETTERS, self._partition].readable(self._read_letters):
            self._read_letters = entry.offset + 1
            self.hear(m)
        while self._logged and self._logged[0][0] <= offset:
            at, adoption = self._logged.pop(0)
            self._shard.adopt(adoption.weights, at, adoption.rolled_back)
            self.states[at] = state(self._shard)

    def hear(self, m: Message) -> None:
        """Take note of a refusal, from a message that is committed, or is about to be."""
        if m.topic == CHANGELOG and (m.key or b"").startswith(REFUSED_PREFIX) and m.value is not None:
            self._refused |= set(msgspec.json.decode(m.value, type=Refused).offsets)
        if m.topic == DEAD_LETTERS:
            head = {name.removeprefix("foldcast-error-"): text.decode() for name, text in m.headers}
            self._reasons[int(head["offset"])] = head["reason"], head["message"]

    def at(self, position: int) -> tuple[object, ...]:
        """The state there."""
        self.follow(position)
        if position >= self._shard.position:
            self._reach(position)
        return self.states[max(at for at in self.states if at <= position)]  # over markers

    def follow(self, end: int | None = None) -> None:
        """Take in what the input has by now, up to `end`."""
        for entry, m in self._cluster.logs[INPUT, self._partition].readable(self._shard.position):
            if end is not None and entry.offset >= end:
                break
            self._reach(entry.offset)
            records = Records([entry.offset], [entry.timestamp_ms], [m.key], [m.value], [m.headers])
            batch, rejected = self._decoder.decode(*records[:4])
            if entry.offset in self._refused:
                assert batch.name, "a record that is no event needs no refusal"
                batch, rejected = batch.without(range(len(batch.name))), [Rejected(0, *self._reasons[entry.offset])]
            forecasts = self._shard.advance(batch)
            several = bool(self._decoder.form.target_fields)
            self.messages[entry.offset] = [
                *forecast_messages(
                    *(made := (forecasts, METHOD, self._shard.version, TOPICS, self._partition, several))
                ),
                *row_messages(*made),
                *dead_letters(rejected, records, TOPICS, self._partition, 1 << 20),
            ]
            self.states[self._shard.position] = state(self._shard)

    def between(self, low: int, high: int) -> list[Message]:
        return [nameless(m) for offset, ms in sorted(self.messages.items()) if low <= offset < high for m in ms]

    @property
    def position(self) -> int:
        return self._shard.position


class Witness(MemoryBroker):
    """A member whose transactions are looked at. `fail_renew` more renewals fail."""

    def __init__(self, rig: "Rig", name: str) -> None:
        self.fail_renew = 0
        self.records = self.forecasts = self.dead = self.pieces = 0  # acknowledged
        self.transactions = 0
        self._rig = rig
        super().__init__(rig.cluster, name)

    def poll(self, timeout_s: float) -> Polled:
        polled = super().poll(timeout_s)
        if polled.membership is not None:
            self._rig.reached(self)
        return polled

    def renew(self) -> None:
        if self.fail_renew:
            self.fail_renew -= 1
            raise BrokerError("renewal fails as told")
        super().renew()

    def commit(self, messages: Sequence[Message], offsets: dict[int, int], membership: object) -> None:
        assert {m.partition for m in messages} <= offsets.keys(), "every message comes with its partition's offset"
        records = 0
        for partition, offset in offsets.items() if self._rig.witnessing else ():
            reference = self._rig.references[partition]
            for message in (m for m in messages if m.partition == partition):
                reference.hear(message)
            reference.follow(offset)
            low = self.cluster.offsets.get(partition, self._rig.starts[partition])
            assert offset >= low, f"{offset} is below C = {low}"
            said = [m for m in messages if m.partition == partition and m.topic != CHANGELOG]
            expected = reference.between(low, offset)
            for topic in (OUTPUT, ROWS, DEAD_LETTERS):
                mine = [m for m in said if m.topic == topic]
                assert [nameless(m) for m in mine] == [m for m in expected if m.topic == topic]
                named = [len(m.headers) > len(nameless(m).headers) for m in mine]
                last = [topic != ROWS] * (len(mine) > 0)
                assert named == [topic == DEAD_LETTERS] * (len(mine) - 1) + last
            records += sum(low <= o < offset for o in reference.messages)
        try:
            super().commit(messages, offsets, membership)
        except CommitError:
            for partition in offsets if self._rig.refers_anew else ():
                self._rig.refer_anew(partition)  # the next life may judge otherwise
            raise
        self.transactions += 1
        self.records += records
        self.forecasts += sum(m.topic == OUTPUT for m in messages)
        self.dead += sum(m.topic == DEAD_LETTERS for m in messages)
        self.pieces += sum(m.topic == CHANGELOG for m in messages)


class Rig:
    """An input, its references, and workers by instance id."""

    def __init__(
        self,
        partitions: int = 2,
        streams: int = 5,
        snapshot_events: int | None = 12,
        max_poll_records: int = 7,
        learning: bool = False,
        form: Format | None = None,
        **changes: object,
    ) -> None:
        given = {"seed": 0, "checkpoint": CHECKPOINT, "start": "earliest", "skip_gaps": False, **changes}
        self.plan = Plan(METHOD, {"model.cell": "gru"}, Decoder(form or Format()), **given)  # type: ignore[arg-type]
        self.limits = Limits(0, 1e9, SnapshotPolicy(snapshot_events, 1e9), 0, DeadLetterCatch())
        self.cluster = MemoryCluster(partitions, max_poll_records)
        self.references = {p: Reference(self.plan, self.cluster, p) for p in range(partitions)}
        self.topics = TOPICS
        self.stop = Impatient()
        self.brokers: dict[str, Witness] = {}
        self.loops: dict[str, Loop] = {}
        self.trainers: dict[str, MemoryTrainer] = {}
        self._learning = learning
        self.witnessing, self.refers_anew = True, False
        self.starts = dict.fromkeys(range(partitions), 0)  # C where the group has none
        self._streams, self._sent = streams, 0

    # ---- what happens

    def judge(self, max_ahead_ms: int = 3_600_000, max_streams: int = 10**9) -> None:
        """Workers that start from now on refuse events by this."""
        self.limits, self.refers_anew = replace(self.limits, judge=Judge(max_ahead_ms, max_streams)), True

    def start(self, name: str = "one") -> Loop:
        """A new process under this instance id, in place of the one before."""
        self.brokers[name] = Witness(self, name)
        self.trainers[name] = MemoryTrainer()
        metrics = Metrics(METHOD, "test")
        link = self.trainers[name] if self._learning else None
        learning = Learning(LearningPolicy(SCHEDULE, 0, 1), link, metrics)
        self.loops[name] = Loop(self.brokers[name], self.plan, self.topics, self.limits, learning, metrics, Pulse())
        return self.loops[name]

    def turn(self, name: str = "one") -> None:
        """One cycle, whatever becomes of it."""
        loop = self.loops[name]
        with loop._recovery(self.stop):
            loop.cycle(self.stop)

    def cycle(self, name: str = "one", times: int = 1) -> None:
        """Cycles, and after each of them what must always hold."""
        for _ in range(times):
            self.turn(name)
            self.check(name)

    def stop_cleanly(self, name: str = "one", leave: bool = False) -> None:
        self.stop.set()
        self.loops[name].run(self.stop, leave, lambda _: None)
        self.stop.clear()

    def succeed(self, *unread: int) -> None:
        """The group has ended, and workers that start from now on are another's, which goes on with its work.

        It had never read the partitions `unread`.
        """
        ended = {p: offset for p, offset in self.cluster.offsets.items() if p not in unread}
        self.cluster.end_group(CHANGELOG)
        for partition in unread:
            self.cluster.empty(OUTPUT, ROWS, DEAD_LETTERS, partition=partition)
        letters = self.cluster.partitions - len(unread)
        self.limits = replace(self.limits, predecessor=Predecessor(self.topics, ended, letters))
        self.topics = replace(self.topics, group=f"after-{self.topics.group}")
        self.starts = {p: ended.get(p, 0) for p in self.references}
        self.references = {p: Reference(self.plan, self.cluster, p) for p in self.references}
        self.loops.clear()
        self.brokers.clear()

    def begin_at(self, start: int) -> None:
        """What comes before this offset is not to be read, in each partition."""
        for partition in self.references:
            self.starts[partition] = start
            self.refer_anew(partition)

    def refer_anew(self, partition: int) -> None:
        """Fold a partition from its beginning again: nothing is known but what is committed."""
        self.references[partition] = Reference(self.plan, self.cluster, partition, self.starts[partition])

    def reached(self, broker: Witness) -> None:
        """For tests that want something to happen between a poll and its commit."""

    def produce(self, number: int) -> None:
        """Records round robin over the partitions: mostly events, some that are none, some holes."""
        for _ in range(number):
            self._sent += 1
            n, partition = self._sent, self._sent % self.cluster.partitions
            stream = n % self._streams * self.cluster.partitions + partition
            body: bytes | None = b'{"stream":"s%d","time":%d,"value":%d.25}' % (stream, n * 60, n * 7 % 13)
            if n % 10 == 0:
                body = (b"{", None, b'{"stream":"s%d","time":1,"value":3}' % stream, b"[]")[n // 10 % 4]
            if n % 13 == 0:
                body = b'{"stream":"s%d","time":%d,"value":null}' % (stream, n * 60)
            self.cluster.produce(partition, b"key", body, n * 60_000)
            if n % 9 == 0:  # a transaction's marker: a hole in the offsets
                self.cluster.logs[INPUT, partition].append(None, 0, Transaction("committed"))

    def drain(self) -> None:
        """Cycle until everything is committed."""
        for _ in range(400):
            for name in self.loops:
                self.cycle(name)
            ends = {p: [e.offset for e, _ in self.cluster.logs[INPUT, p].readable(0)] for p in self.references}
            if all(self.cluster.offsets.get(p, -1) > (offsets or [-1])[-1] for p, offsets in ends.items()):
                return
        raise AssertionError(f"stuck at {self.cluster.offsets}")

    # ---- what is so

    def sample(self, metric: str, name: str = "one", **labels: str) -> float:
        value = self.loops[name]._metrics.registry.get_sample_value(f"foldcast_{metric}", labels)
        assert value is not None, f"there is no {metric} {labels}"
        return value

    def check(self, name: str = "one") -> None:
        """Shards are the reference's, bit for bit; counters are what was acknowledged; the tail is short."""
        loop, broker = self.loops[name], self.brokers[name]
        assert {*loop.lives, *loop.restoring} <= broker.owned | broker._ended, "a life ends with its assignment"
        for live in loop.lives.values():
            assert state(live.shard) == self.references[live.partition].at(live.shard.position)
        assert self.sample("events_total", name) == broker.records
        assert self.sample("forecasts_total", name) == broker.forecasts
        reasons = [s.value for s in loop._metrics.dead_letters.collect()[0].samples if s.name.endswith("_total")]
        assert sum(reasons) == broker.dead
        assert self.sample("commits_total", name, outcome="committed") == broker.transactions
        if self.limits.snapshots.events:
            begun = {p: tail for p, tail in self.tails().items() if self.cluster.offsets[p] > self.starts[p]}
            assert all(tail <= self.limits.snapshots.events for tail in begun.values())

    def tails(self) -> dict[int, int]:
        """By partition: what a crash now would have to fold again, by what the topics say."""
        offsets = {p: m.offset for p in range(self.cluster.partitions) if (m := self.image(p).marker) is not None}
        return {p: self.cluster.offsets[p] - offset for p, offset in offsets.items() if p in self.cluster.offsets}

    def image(self, partition: int):  # type: ignore[no-untyped-def]
        """What a reader of the changelog finds."""
        log = self.cluster.logs[CHANGELOG, partition].readable(0)
        return read_image([(m.key or b"", m.value) for _, m in log])

    def check_topics(self) -> None:
        """A read_committed reader sees what one uninterrupted fold says; a restored shard is that fold's."""
        for partition, reference in self.references.items():
            reference.follow()
            expected = reference.between(0, 1 << 60)
            for topic in (OUTPUT, ROWS, DEAD_LETTERS):
                came = [nameless(m) for m in self.cluster.committed_messages(topic) if m.partition == partition]
                assert came == [m for m in expected if m.topic == topic]
            image = self.image(partition)
            shard, learning = loaded(image, self.plan)
            learning.reach(shard, shard.position)
            assert state(shard) == reference.at(shard.position)

    def markers(self) -> list[Message]:
        return [m for m in self.cluster.committed_messages(CHANGELOG) if m.key == MARKER_KEY]

    def everything(self) -> dict[str, int]:
        """How many records each of the worker's topics holds, hidden ones too."""
        return {
            topic: sum(len(log.entries) for (name, _), log in self.cluster.logs.items() if name == topic)
            for topic in (OUTPUT, DEAD_LETTERS, CHANGELOG)
        }


def drained(events: int = 60, **changes: object) -> Rig:
    """One worker that has taken in so many records."""
    rig = Rig(**changes)  # type: ignore[arg-type]
    rig.start()
    rig.produce(events)
    rig.drain()
    return rig
