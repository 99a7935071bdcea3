"""The cycle: poll, restore, advance, adopt, commit, offer. What a shard does to the world is in one transaction of it.

A crash, a rebalance, a refused commit and a fenced producer end the same way: the lives they touched are over, and new
ones restore what the broker says is committed. Nothing is repaired in place.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event

from pipeline.image import weights_key
from worker.broker.contract import Broker, BrokerError, CommitError, Message, NotYet, Polled
from worker.durability import MOST_PAGES, SnapshotClock, SnapshotPolicy
from worker.failures import DeadLetterCatch, Failures, LateRestores, Pulse
from worker.learning import Learning
from worker.life import Life, Plan
from worker.log import life as log_life
from worker.metrics import Metrics, Stopwatch
from worker.publish import Topics, dead_letters, forecast_messages
from worker.transaction import Transaction

POLL_S = 0.1
Pieces = list[tuple[bytes, bytes]]  # keys and values for the changelog

RESTORE_S = 0.1  # of a cycle spent on restoring while live shards wait


@dataclass(frozen=True)
class Limits:
    """What the loop is held to."""

    min_cycle_s: float
    give_up_s: float
    snapshots: SnapshotPolicy
    history_s: float
    dead: DeadLetterCatch


class Loop:
    """A worker's shards and what it does with them, over and over."""

    def __init__(
        self,
        broker: Broker,
        plan: Plan,
        topics: Topics,
        limits: Limits,
        learning: Learning,
        metrics: Metrics,
        pulse: Pulse,
    ) -> None:
        self.lives: dict[int, Life] = {}
        self.joined = False
        self._pulse = pulse
        self.longest_snapshot_s = 0.0
        self._broker, self._plan, self._topics, self._limits, self._metrics = broker, plan, topics, limits, metrics
        self._learning = learning
        self._clocks: dict[int, SnapshotClock] = {}
        self._watch = Stopwatch(metrics.loop_seconds)
        self._incarnations = 0
        self._failures = Failures(limits.give_up_s)
        self._late = LateRestores(limits.give_up_s)
        self._dead = limits.dead
        self._last_cycle = 0.0
        self._snapshot_s = 0.0  # of this cycle
        self._membership: object = None
        self._broken = False  # a failure came after which the broker has to be renewed

    # ---- for others

    def clock(self, partition: int) -> SnapshotClock:
        """When this partition's image was last completed."""
        return self._clocks[partition]

    @property
    def partitions(self) -> int:
        """Of the input, whoever has them."""
        return self._broker.partitions

    def lag(self) -> dict[int, int]:
        """Records behind the end of the log, by partition."""
        return self._broker.lag()

    @property
    def why_not_ready(self) -> str | None:
        """None once joined, restored and caught up."""
        if not self.joined:
            return "not joined"
        why = [f"commits fail: {self._failures.last}"] if self._failures.failing else []
        if waiting := sorted(p for p, held in self.lives.items() if not held.live):
            why.append(f"restoring partitions {waiting}")
            why += [reason for p in waiting if (reason := self.lives[p].waits_for)][:3]
        return "; ".join(why) or None

    def run(self, stop: Event, leave: bool, after_cycle: Callable[["Loop"], None]) -> None:
        """Cycle until `stop`; then snapshot, commit and close. Raises Refusal."""
        try:
            while not stop.is_set():
                with self._recovery(stop):
                    self.cycle(stop)
                after_cycle(self)
            with self._recovery(stop):
                self._finish()
        finally:
            self._learning.close()
            self._broker.close(leave)

    def cycle(self, stop: Event) -> None:
        """One turn. Raises BrokerError: then everything it touched has to end."""
        self._wait_for_more(stop)
        if self._broken:  # until this is done a transaction of ours may be open, and nobody can read past it
            self._broker.renew()
            self._broken = False
        polled = self._broker.poll(POLL_S)
        self._last_cycle = time.monotonic()
        self._assignment(polled)
        if self.joined:
            self._late.keep(self.lives.keys())
        started = [(p, records) for p, records in polled.records.items() if self._started(p)]
        self._watch.lap("poll")
        self._restore()
        self._watch.lap("restore")
        transaction = Transaction()
        records_of = {}
        for partition, records in started:
            if not self.lives[partition].fits(records):
                self._begin(partition, "its records do not follow on its position")
                continue
            records_of[partition] = len(records.offsets)
            self._advance(self.lives[partition], polled, transaction)
        for life in self.lives.values():
            if life.live and polled.membership is not None:  # while the group rebalances every commit is refused
                self._add_durable(life, records_of.get(life.partition, 0), transaction)
        self.longest_snapshot_s = max(self.longest_snapshot_s, self._snapshot_s)
        self._snapshot_s = 0.0
        if transaction.offsets:
            self._commit(transaction)
        elif not self.lives and polled.membership is not None:
            self._failures.over()  # nothing to commit, and the group has us
        self._watch.lap("commit")
        self._learning.turn(self.lives)
        self._watch.lap("offer")

    def _wait_for_more(self, stop: Event) -> None:
        """A small transaction costs milliseconds whatever is in it: when little arrives, wait for more."""
        missing = self._last_cycle + self._limits.min_cycle_s - time.monotonic()
        if missing > 0:
            stop.wait(missing)
            self._watch.lap("idle")

    def _assignment(self, polled: Polled) -> None:
        self._membership = polled.membership
        self.joined = polled.membership is not None
        for partition in sorted(polled.ended):
            self._end(partition, "revoked")
        for partition in sorted(polled.began):
            self._begin(partition, "assigned")

    def _started(self, partition: int) -> bool:
        life = self.lives.get(partition)
        return life is not None and life.shard is not None

    def _restore(self) -> None:
        """One slice each, in turn: a partition that cannot be read now holds up no other."""
        now = time.monotonic()
        for life in [life for life in self.lives.values() if life.shard is None and life.not_before <= now]:
            if time.monotonic() > now + RESTORE_S:
                return
            try:
                loaded = life.restore(self._broker)
            except NotYet as reason:
                loaded = False
                if life.late(reason):
                    self._begin_late(life.partition, reason)
            if loaded:
                self._late.over(life.partition)
                tail = life.pending
                log_life("loaded", partition=life.partition, offset=life.committed, tail=tail, gap=life.gap)
                self._metrics.replayed.inc(life.replayed)
            else:
                self.lives[life.partition] = self.lives.pop(life.partition)  # behind the others

    def _advance(self, life: Life, polled: Polled, transaction: Transaction) -> None:
        advanced = life.advance(polled.records[life.partition], self._watch.lap)
        if advanced is None:
            return
        assert life.shard is not None, "only a loaded shard advances"
        forecasts = advanced.forecasts
        transaction.advanced.append(advanced)
        transaction.messages += forecast_messages(
            forecasts, self._plan.method, life.shard.version, self._topics, life.partition
        )
        transaction.messages += dead_letters(advanced.rejected, advanced.records, self._topics, life.partition)
        transaction.touch(life)
        self._watch.lap("publish")

    def _add_durable(self, life: Life, records: int, transaction: Transaction) -> None:
        """Adoption 0 with the shard's first transaction, newer ones, and this cycle's share of a snapshot."""
        assert life.shard is not None, "only a live shard is written"
        assert life.pupil is not None, "a loaded shard has a pupil"
        if life.restored_s is None:
            self._metrics.restore_seconds.set(life.become_live())
        adopted = self._learning.adopt(life)
        self._watch.lap("adopt")
        outstanding = life.pupil.outstanding(life.shard)
        pieces, last = self._clocks[life.partition].pieces(life.shard, records, outstanding)
        self._write(life, adopted, pieces, last, transaction)
        self._snapshot_s += self._watch.lap("snapshot")

    def _write(self, life: Life, adopted: Pieces, pieces: Pieces, last: bool, transaction: Transaction) -> None:
        assert life.shard is not None, "only a live shard is written"
        assert life.pupil is not None, "a loaded shard has a pupil"
        transaction.snapshot_bytes += sum(len(value) for _, value in pieces)
        transaction.snapshot_records += len(pieces)
        transaction.snapshots += last
        durable: list[tuple[bytes, bytes | None]] = [*life.first_messages, *adopted, *pieces]
        if last:
            before_ms = round((time.time() - self._limits.history_s) * 1000)
            durable += [(weights_key(offset), None) for offset in life.pupil.superseded(life.shard, before_ms)]
        if durable or life.must_commit:
            transaction.messages += [Message(self._topics.changelog, life.partition, *pair) for pair in durable]
            transaction.touch(life)

    # ---- commit

    def _commit(self, transaction: Transaction) -> None:
        self._dead.check([(len(a.records.offsets), len(a.rejected)) for a in transaction.advanced])
        self._broker.commit(transaction.messages, transaction.offsets, self._membership)
        self._failures.over()
        self._dead.committed()
        transaction.committed(self._metrics, self.lives)
        for life in transaction.lives:
            self._learning.committed(life)

    # ---- lives

    def _begin(self, partition: int, why: str) -> None:
        before = self.lives.get(partition)
        self._end(partition, why)
        self._incarnations += 1
        self.lives[partition] = life = Life(partition, self._incarnations, self._plan)
        life.last_record_ms = before.last_record_ms if before else 0  # it is as far behind as it was
        life.must_commit = self._failures.failing  # one commit of C shows that the way is open again
        self._clocks[partition] = SnapshotClock(self._limits.snapshots)
        log_life("restoring", partition=partition, incarnation=self._incarnations, why=why)

    def _begin_late(self, partition: int, reason: NotYet) -> None:
        """The same way back, for one life: no other depends on what failed."""
        self._metrics.failures.inc()
        pause_s = self._late.note(partition, reason)
        self._begin(partition, "its restore waits too long")
        self.lives[partition].not_before = time.monotonic() + pause_s
        self.lives[partition].waits_for = str(reason)
        self._broken = True

    def _end(self, partition: int, why: str) -> None:
        life = self.lives.pop(partition, None)
        if life is not None:
            life.end()
            log_life("dropped", partition=partition, incarnation=life.incarnation, why=why)

    @contextmanager
    def _recovery(self, stop: Event) -> Iterator[None]:
        """The one way back from any failure: new producer, new lives, after a pause that grows."""
        try:
            yield
        except BrokerError as error:
            self._metrics.failures.inc()
            if isinstance(error, CommitError):
                self._metrics.commits.labels(error.outcome).inc()
            self._recover(stop, self._failures.note(error))
        self._pulse.beat()

    def _recover(self, stop: Event, pause_s: float) -> None:
        for partition in sorted(self.lives):
            self._begin(partition, "a cycle failed")
        self._watch.lap("commit")
        stop.wait(pause_s)
        self._watch.lap("idle")
        self._broken = True

    def _finish(self) -> None:
        """An image of every live shard at its committed offset, so that a restart folds nothing again."""
        live = [life for life in self.lives.values() if life.live and self._membership is not None]
        for life in live:
            assert life.shard is not None, "a live life has a shard"
            life.shard.begin_snapshot(clean=True)
            last = False
            while not last:
                pieces, last = life.shard.snapshot_pieces(MOST_PAGES)
                transaction = Transaction()
                self._write(life, [], pieces, last, transaction)
                self._commit(transaction)
        log_life("stopped", shards=len(live))
