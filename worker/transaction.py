"""One cycle's changes, all or nothing, and all that becomes true once they are committed."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pipeline.batch import DROPS
from worker.broker.contract import Message
from worker.dead_letters import BadRecords, DeadLetterCatch
from worker.failures import Failures
from worker.lives.live import Advanced, Live
from worker.observe.metrics import Metrics

Pieces = list[tuple[bytes, bytes]]  # keys and values for the changelog


@dataclass
class Transaction:
    """Messages and the offsets that go with them."""

    messages: list[Message] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)
    advanced: list[Advanced] = field(default_factory=list)
    lives: list[Live] = field(default_factory=list)
    snapshot_bytes: int = 0
    snapshot_records: int = 0
    snapshots: int = 0

    @property
    def batches(self) -> list[tuple[int, int]]:
        """Of each run of records: how many there were, and how many of them became dead letters."""
        return [(len(a.records.offsets), len(a.rejected)) for a in self.advanced]

    def include(self, live: Live) -> None:
        """Let the shard's offset be committed: something of it is among the messages. Below C it stays C."""
        if live.partition not in self.offsets:
            self.lives.append(live)
        assert live.durable, f"{live.shard.position} is below C = {live.committed} of partition {live.partition}"
        self.offsets[live.partition] = max(live.shard.position, live.committed)

    def wrote(self, pieces: Pieces, last: bool) -> None:
        """Count a snapshot's pieces among the messages; `last` completes an image."""
        self.snapshot_bytes += sum(len(value) for _, value in pieces)
        self.snapshot_records += len(pieces)
        self.snapshots += last

    def committed(
        self,
        metrics: Metrics,
        held: Mapping[int, Live],
        failures: Failures,
        dead: DeadLetterCatch,
        bad: BadRecords,
    ) -> None:
        """Make true what holds from this commit on: every C, what failures and dead letters count as, and metrics."""
        now = time.time()
        failures.succeeded()
        dead.committed()
        for live in self.lives:
            live.committed = self.offsets[live.partition]
            metrics.gaps.inc(live.gap)
            metrics.unlearnt.inc(live.unlearnt)
            live.first_records, live.must_commit, live.gap, live.unlearnt = [], False, 0, 0
            if live.learning.outcome is not None:
                metrics.fine_tunes.labels(live.learning.outcome).inc()
                metrics.journal.mark(live.partition, live.learning.outcome)
                live.learning.outcome = None
        metrics.commits.labels("committed").inc()
        metrics.last_commit.set(now)
        metrics.snapshot_bytes.inc(self.snapshot_bytes)
        metrics.snapshot_records.inc(self.snapshot_records)
        metrics.snapshots.inc(self.snapshots)
        for advanced in self.advanced:
            _count(advanced, metrics, now, held)
            bad.show(advanced.partition, advanced.rejected, advanced.records)


def _count(advanced: Advanced, metrics: Metrics, now: float, held: Mapping[int, Live]) -> None:
    metrics.events.inc(len(advanced.records.offsets))
    metrics.forecasted(advanced.forecasts, now)
    metrics.recent_streams.take(advanced.partition, advanced.forecasts)
    verdicts = np.bincount(advanced.forecasts.verdict, minlength=1 + len(DROPS)).tolist()
    for reason, number in zip(DROPS, verdicts[1:], strict=True):
        metrics.dropped.labels(reason).inc(number)
    metrics.other_keys.inc(advanced.other_keys)
    for rejected in advanced.rejected:
        metrics.dead_letters.labels(rejected.reason).inc()
    for name in advanced.forecasts.born:
        metrics.twice.inc(sum(name in live.shard.table.index for live in held.values()) > 1)
