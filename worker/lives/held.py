"""The partitions that this worker holds: which are restored, which live, and the way from one to the other."""

import logging
import time
from collections.abc import Container, Iterator

import numpy as np

from worker.broker.contract import Broker, BrokerError, NotYet, Topics, Unanswered, Unreadable
from worker.failures import LateRestores
from worker.lives.left_open import end_left_open
from worker.lives.live import Live
from worker.lives.predecessor import Predecessor
from worker.lives.restoring import Restoring
from worker.lives.snapshot_clock import SnapshotPolicy
from worker.observe.log import event as log_event
from worker.observe.metrics import Metrics
from worker.plan import Plan

log = logging.getLogger(__name__)

RESTORE_S = 0.1  # of a cycle spent on restoring while live shards wait
QUIET_S = 1.0  # between two turns of a life of which nothing presses


class Held:
    """Lives begin, are restored and end here; no partition is in both `restoring` and `lives`."""

    def __init__(
        self,
        plan: Plan,
        topics: Topics,
        snapshots: SnapshotPolicy,
        longest_transaction_s: float,
        late: LateRestores,
        metrics: Metrics,
        predecessor: Predecessor | None = None,
    ) -> None:
        self.restoring: dict[int, Restoring] = {}
        self.lives: dict[int, Live] = {}
        self._plan, self._topics = plan, topics
        self._snapshots, self._longest_transaction_s = snapshots, longest_transaction_s
        self._late, self._metrics, self._predecessor = late, metrics, predecessor
        self._incarnations = 0
        self._next_turn_of_all = 0.0

    def __iter__(self) -> Iterator[int]:
        """All partitions that are held, in order."""
        return iter(sorted([*self.restoring, *self.lives]))

    @property
    def waiting(self) -> list[int]:
        """Partitions of which nothing is forecast yet."""
        return sorted([*self.restoring, *(p for p, live in self.lives.items() if not live.at_c)])

    @property
    def waits_for(self) -> list[str]:
        """Why restores do not go on, in words."""
        return [one.waits_for for _, one in sorted(self.restoring.items()) if one.waits_for]

    @property
    def calm(self) -> bool:
        """Whether nothing is to be restored or written until records come."""
        return bool(self.lives) and not self.restoring and not any(live.presses for live in self.lives.values())

    def in_turn(self, moved: Container[int]) -> list[Live]:
        """Lives that may have something to write: all of them once a second, for hundreds may have nothing to say."""
        now = time.monotonic()
        if now >= self._next_turn_of_all:
            self._next_turn_of_all = now + QUIET_S
            return [*self.lives.values()]
        lives = self.lives.items()
        return [live for p, live in lives if p in moved or live.presses or live.learning.candidate is not None]

    def begin(self, partition: int, why: str, must_commit: bool = False, level: int = logging.INFO) -> Restoring:
        """Begin a life, and end the one before; with `must_commit` its C is to be committed though no event comes."""
        before = self.lives.get(partition) or self.restoring.get(partition)
        if isinstance(before, Restoring):  # while brokers are away every attempt ends restores that have hardly begun
            level = logging.DEBUG
        self.end(partition, why, level)
        self._incarnations += 1
        self.restoring[partition] = new = Restoring(
            partition,
            self._incarnations,
            self._plan,
            self._topics,
            self._snapshots,
            self._longest_transaction_s,
            self._predecessor,
        )
        new.last_record_ms = before.last_record_ms if before else 0
        new.must_commit = must_commit
        log_event("restoring", level, partition=partition, incarnation=self._incarnations, why=why)
        return new

    def begin_all(self, why: str, must_commit: bool) -> None:
        """Begin the lives of all partitions anew, and say so once: there may be hundreds."""
        lived = sorted(self.lives)
        for partition in self:
            self.begin(partition, why, must_commit, logging.DEBUG)
        if lived:
            log_event("restoring", partitions=",".join(map(str, lived)), why=why)

    def end(self, partition: int, why: str, level: int = logging.INFO) -> None:
        """End the life of a partition, where there is one."""
        ended: Live | Restoring | None
        ended = self.lives.pop(partition, None)
        if partition in self.restoring:
            ended = self.restoring.pop(partition)
            ended.end()
        if ended is not None:
            log_event("dropped", level, partition=partition, incarnation=ended.incarnation, why=why)

    def restore(self, broker: Broker) -> bool:
        """Restore one slice of each, in turn: a partition that cannot be read now holds up no other.

        Returns whether one has waited too long, so that the broker has to be renewed. Raises BrokerError, Refusal.
        """
        now, late = time.monotonic(), False
        for one in [one for one in self.restoring.values() if one.not_before <= now]:
            if time.monotonic() > now + RESTORE_S:
                break
            partition, live = one.partition, None
            try:
                live = one.slice(broker)
            except NotYet as reason:
                if one.late(reason):
                    self._end_left_open(broker, one, reason)
                    self._begin_late(one, reason, "its restore waits too long")
                    late = True
            except Unreadable as reason:
                self._begin_late(one, reason, "its changelog cannot be unpacked")
                late = True
            waiting = self.restoring.pop(partition)
            if live is None:
                self.restoring[partition] = waiting  # behind the others
            else:
                self._late.succeeded(partition)
                self.lives[partition] = live
                lost = {"gap": live.gap, "unlearnt": live.unlearnt}
                log_event("loaded", partition=partition, offset=live.committed, tail=live.pending, **lost)
                if self._began_otherwise(live):
                    log_event("weights", partition=partition, begin_with="those of its state, not model.checkpoint's")
                self._metrics.replayed.inc(live.replayed)
        return late

    def _end_left_open(self, broker: Broker, one: Restoring, reason: NotYet) -> None:
        """Let a restore that waits for the end of a transaction have it, where that will not come by itself."""
        if isinstance(reason, Unanswered):
            return
        try:
            end_left_open(broker, self._topics, one.partition)
        except BrokerError as error:
            log.warning("a look at what holds partition %d open has failed: %s; %s", one.partition, error, error.fix)
            self._metrics.failed(str(error), error.fix, one.partition)

    def _began_otherwise(self, live: Live) -> bool:
        """Whether there is a checkpoint, and the shard began, in another run, with other weights."""
        if self._plan.checkpoint is None:
            return False
        network, began = self._plan.network(), live.learning.held.base.weights
        return not np.array_equal(network.flat(began), network.flat(network.weights))

    def _begin_late(self, one: Restoring, reason: BrokerError, why: str) -> None:
        """The same way back as from any failure, for one life: no other depends on what failed."""
        self._metrics.failed(str(reason), reason.fix, one.partition)
        pause_s = self._late.pause_after(one.partition, reason)
        new = self.begin(one.partition, why, one.must_commit)
        new.not_before = time.monotonic() + pause_s
        new.waits_for = str(reason)
