"""The cycle: poll, restore, advance, adopt, commit, offer. What a shard does to the world is in one transaction of it.

A crash, a rebalance, a refused commit and a fenced producer end the same way: the lives they touched are over, and new
ones restore what the broker says is committed. Nothing is repaired in place.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Event

from pipeline.decoding.schemas import SchemasAway, StillAsking
from pipeline.durable.image import refused_key, weights_key
from worker.broker.contract import Broker, BrokerError, CommitError, Message, Polled, Records, Topics, Unreadable
from worker.dead_letters import BadRecords, DeadLetterCatch, dead_letters
from worker.failures import Failures, LateRestores, UnreadableInput
from worker.learning import Learning
from worker.lives.held import Held
from worker.lives.judge import Judge
from worker.lives.left_open import next_header
from worker.lives.live import Live
from worker.lives.predecessor import Predecessor
from worker.lives.snapshot_clock import MOST_PAGES, SnapshotPolicy
from worker.observe.log import event as log_event
from worker.observe.metrics import Metrics, Stopwatch
from worker.observe.pulse import Pulse
from worker.plan import Plan
from worker.publish import forecast_messages
from worker.rows import row_messages
from worker.transaction import Pieces, Transaction

POLL_S, CALM_S = 0.1, 0.5  # longer where only records are waited for: a turn costs CPU for every partition


@dataclass(frozen=True)
class Limits:
    """What the loop is held to."""

    min_cycle_s: float
    give_up_s: float
    snapshots: SnapshotPolicy
    history_s: float
    dead: DeadLetterCatch
    longest_transaction_s: float = 30.0  # so long another worker's transaction may hold up a restore
    dead_letter_bytes: int = 1 << 20  # a dead letter's batch, at most
    judge: Judge = field(default_factory=Judge)
    predecessor: Predecessor | None = None  # whose work partitions go on with that the group has not begun


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
        self._late = LateRestores(limits.give_up_s)
        self._held = Held(
            plan, topics, limits.snapshots, limits.longest_transaction_s, self._late, metrics, limits.predecessor
        )
        self.restoring, self.lives = self._held.restoring, self._held.lives
        self.joined = False
        self._pulse = pulse
        self.longest_snapshot_s = 0.0
        self._broker, self._plan, self._topics, self._limits, self._metrics = broker, plan, topics, limits, metrics
        self._learning = learning
        self._watch = Stopwatch(metrics.loop_seconds)
        self._failures = Failures(limits.give_up_s)
        self._unreadable = UnreadableInput(limits.give_up_s)
        self._unexplained = UnreadableInput(limits.give_up_s)  # for want of a schema, while the registry is away
        self._dead, self._judge, self._bad = limits.dead, limits.judge, BadRecords(topics.input)
        self._last_cycle = 0.0
        self._membership: object = None
        self._broken = False  # a failure came after which the broker has to be renewed

    # ---- for others

    @property
    def partitions(self) -> int:
        """Of the input when it joined, whoever has them: no others are read."""
        return self._broker.partitions

    @property
    def partitions_now(self) -> int:
        """Of the input, those included that nobody reads."""
        return self._broker.partitions_now()

    def lag(self) -> dict[int, int]:
        """Records behind the end of the log, by partition."""
        return self._broker.lag()

    def silence(self) -> str | None:
        """Return which brokers leave fetches without an answer, in words; None where all answer."""
        return self._broker.silence()

    @property
    def why_not_ready(self) -> str | None:
        """None once joined, restored and caught up."""
        if not self.joined:
            return "not joined"
        why = [f"commits fail: {self._failures.last}"] if self._failures.failing else []
        why += [*self._unreadable.why, *self._unexplained.why, *filter(None, [self._broker.silence()])]
        if waiting := self._held.waiting:
            why += [f"restoring partitions {waiting}", *self._held.waits_for[:3]]
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
        rested = [*self._unreadable.rested(), *self._unexplained.rested()]
        for live in [self.lives[p] for p in rested if p in self.lives]:
            self._broker.start(live.partition, live.shard.position)
        polled = self._broker.poll(CALM_S if self._held.calm and not self._learning.waits else POLL_S)
        self._last_cycle = time.monotonic()
        self._assignment(polled)
        # Before `restore`: what comes of a shard that it loads was not asked for, it is of a life that ended
        passed = [
            (one, offset)
            for partition, offset in polled.passed.items()
            if (one := self.lives.get(partition)) and offset > one.shard.position
        ]
        lost = [(self.lives[p], *holes) for p, holes in polled.lost.items() if p in self.lives]
        started = [(self.lives[p], records) for p, records in polled.records.items() if p in self.lives]
        self._watch.lap("poll")
        self._broken |= self._held.restore(self._broker)
        self._watch.lap("restore")
        transaction = Transaction()
        if started:
            self._judge.count(live.shard for live in self.lives.values())
        again = {live.partition for live, records in started if not self._advance(live, records, transaction)}
        for live, offset in passed:
            live.pass_to(offset)
        for live, number, end in lost:
            if live.partition not in again:
                live.lack(number, end)
        numbers = {live.partition: len(records.offsets) for live, records in started}
        moved = {*numbers, *(live.partition for live, _ in passed)}
        if polled.membership is not None:  # while the group rebalances every commit is refused
            durable = [live for live in self._held.in_turn(moved) if live.durable]
            self._add_durable(durable, numbers, transaction)
        if transaction.offsets:
            self._commit(transaction)
        elif not self.lives and not self.restoring and polled.membership is not None:
            self._failures.succeeded()  # nothing to commit, and the group has us
        self._watch.lap("commit")
        self._learning.turn(self.lives, quiet=not started)
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
            self._held.end(partition, "revoked")
            self._metrics.recent_streams.forget(partition)
        for partition in sorted(polled.began):
            self._begin(partition, "assigned")
        for partition, records in polled.records.items():
            self._unreadable.arrived(partition, records.offsets[-1])
        for error in polled.unreadable:
            self._metrics.failed(str(error), error.fix, error.partition)
            self._unreadable.pause(error)
        if self.joined:
            self._late.keep({*self._held})
            self._unreadable.keep({*self._held})
            self._unexplained.keep({*self._held})

    def _advance(self, live: Live, records: Records, transaction: Transaction) -> bool:
        """Take in records. Returns whether any was: else all come again, and the holes among them."""
        if not live.fits(records):
            self._begin(live.partition, "its records do not follow on its position")
            return False
        before = live.shard.position
        try:
            advanced = live.advance(records, self._judge, self._watch.lap)
        except SchemasAway as away:
            self._broker.rest(live.partition, live.shard.position)
            if isinstance(away, StillAsking):
                self._unexplained.again(live.partition)
                log_event("asking", partition=live.partition, why=str(away))
            else:
                self._metrics.failed(str(away), away.fix, live.partition)
                self._unexplained.pause(Unreadable(str(away), live.partition, records.offsets[-1], away.fix))
            return live.shard.position > before
        self._unexplained.arrived(live.partition, records.offsets[-1])
        if advanced is None:
            return True
        transaction.advanced.append(advanced)
        several = bool(self._plan.decoder.form.target_fields)
        topics = replace(self._topics, source=live.shard.source)
        made = advanced.forecasts, self._plan.method, live.shard.version, topics, live.partition, several
        transaction.messages += forecast_messages(*made)
        transaction.messages += row_messages(*made)
        transaction.messages += dead_letters(
            advanced.rejected, advanced.records, topics, live.partition, self._limits.dead_letter_bytes
        )
        transaction.messages += self._changelog(live, live.refused.records(advanced.refused))
        transaction.include(live)
        self._watch.lap("publish")
        return True

    def _add_durable(self, lives: list[Live], numbers: Mapping[int, int], transaction: Transaction) -> None:
        """Adoption 0 with a shard's first transaction, newer ones, and this cycle's share of each snapshot."""
        adopted = [self._adopted(live) for live in lives]
        self._watch.lap("adopt")
        for live, records in zip(lives, adopted, strict=True):
            number, logged = numbers.get(live.partition, 0), live.learning.outstanding(live.shard)
            self._write(live, records, *live.clock.pieces(live.shard, number, logged), transaction)
        self.longest_snapshot_s = max(self.longest_snapshot_s, self._watch.lap("snapshot"))

    def _adopted(self, live: Live) -> Pieces:
        if live.at_c and not live.has_caught_up:
            self._metrics.restore_seconds.set(live.caught_up())
        return self._learning.adopt(live) if live.at_c else []

    def _write(self, live: Live, adopted: Pieces, pieces: Pieces, last: bool, transaction: Transaction) -> None:
        durable: list[tuple[bytes, bytes | None]] = [*live.first_records, *adopted, *pieces]
        if last:
            before_ms = round((time.time() - self._limits.history_s) * 1000)
            durable += [(weights_key(offset), None) for offset in live.learning.superseded(live.shard, before_ms)]
            durable += [(refused_key(offset), None) for offset in live.refused.superseded(live.shard, before_ms)]
        if durable or live.must_commit:
            transaction.messages += self._changelog(live, durable)
            transaction.include(live)
        transaction.wrote(pieces, last)

    def _changelog(self, live: Live, records: Iterable[tuple[bytes, bytes | None]]) -> list[Message]:
        together = (next_header(max(live.shard.position, live.committed)),)
        return [Message(self._topics.changelog, live.partition, *record, together) for record in records]

    def _commit(self, transaction: Transaction) -> None:
        self._dead.check(transaction.batches)
        self._broker.commit(transaction.messages, transaction.offsets, self._membership)
        transaction.committed(self._metrics, self.lives, self._failures, self._dead, self._bad)

    # ---- failures

    def _begin(self, partition: int, why: str) -> None:
        self._held.begin(partition, why, self._failures.failing)  # one commit of C shows that the way is open again

    @contextmanager
    def _recovery(self, stop: Event) -> Iterator[None]:
        """The one way back from any failure: new producer, new lives, after a pause that grows."""
        try:
            yield
        except BrokerError as error:
            self._metrics.failed(str(error), error.fix)
            if isinstance(error, CommitError):
                self._metrics.commits.labels(error.outcome).inc()
            self._recover(stop, self._failures.pause_after(error))
        self._pulse.beat()

    def _recover(self, stop: Event, pause_s: float) -> None:
        self._held.begin_all("a cycle failed", self._failures.failing)
        self._watch.lap("commit")
        stop.wait(pause_s)
        self._watch.lap("idle")
        self._broken = True

    def _finish(self) -> None:
        """An image of every shard where it is, mostly at its committed offset: a restart folds nothing again."""
        ready = [live for live in self.lives.values() if live.durable and self._membership is not None]
        for live in ready:
            live.shard.begin_snapshot(clean=True)
            last = False
            while not last:
                pieces, last = live.shard.snapshot_pieces(MOST_PAGES)
                transaction = Transaction()
                self._write(live, [], pieces, last, transaction)
                self._commit(transaction)
        log_event("stopped", shards=len(ready))
