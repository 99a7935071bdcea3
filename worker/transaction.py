"""One cycle's changes, all or nothing, and what they count as once they are committed."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from worker.broker.contract import Message
from worker.lives.life import Advanced, Life
from worker.observe.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass
class Transaction:
    """Messages and the offsets that go with them."""

    messages: list[Message] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)
    advanced: list[Advanced] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    snapshot_bytes: int = 0
    snapshot_records: int = 0
    snapshots: int = 0

    def include(self, life: Life) -> None:
        """Something of this life is in it, so its offset is too."""
        assert life.shard is not None, "only a loaded shard is committed"
        if life.partition not in self.offsets:
            self.lives.append(life)
        position = life.shard.position
        assert position >= life.committed, f"{position} is below C = {life.committed} of partition {life.partition}"
        self.offsets[life.partition] = position

    def committed(self, metrics: Metrics, held: Mapping[int, Life]) -> None:
        """It is: move every C, and count."""
        now = time.time()
        for life in self.lives:
            life.committed = self.offsets[life.partition]
            metrics.gaps.inc(life.gap)
            life.first_messages, life.must_commit, life.gap = [], False, 0
        metrics.commits.labels("committed").inc()
        metrics.last_commit.set(now)
        metrics.snapshot_bytes.inc(self.snapshot_bytes)
        metrics.snapshot_records.inc(self.snapshot_records)
        metrics.snapshots.inc(self.snapshots)
        for advanced in self.advanced:
            _count(advanced, metrics, now, held)


def _count(advanced: Advanced, metrics: Metrics, now: float, held: Mapping[int, Life]) -> None:
    metrics.events.inc(len(advanced.records.offsets))
    metrics.forecasted(advanced.forecasts, now)
    verdicts = np.bincount(advanced.forecasts.verdict, minlength=4).tolist()
    for reason, number in zip(("late", "duplicate", "missing"), verdicts[1:], strict=True):
        metrics.dropped.labels(reason).inc(number)
    metrics.other_keys.inc(advanced.other_keys)
    for rejected in advanced.rejected:
        metrics.dead_letters.labels(rejected.reason).inc()
        log.debug("dead letter: %s: %s", rejected.reason, rejected.message)
    for name in advanced.forecasts.born:
        metrics.twice.inc(sum(name in life.shard.table.index for life in held.values() if life.shard) > 1)
