"""When a shard's snapshot is begun and how much of it goes into each transaction.

The replay tail (what a crash would have to fold again) does not exceed `snapshot_events` after a commit: a snapshot is
begun at half of it, its pages are spread over the events that are left, and what is still missing at the end goes at
once. Only a shard that changes more than `MOST_PAGES` pages within so few events takes longer: no transaction may get
so large that it cannot be committed.
"""

import math
import time
from dataclasses import dataclass

from pipeline.shard import Shard
from worker.lives.learning_state import MOST_ADOPTIONS

DEFAULT_EVENTS = 50_000
EVENTS_PER_ROW = 8
IDLE_PAGES = 4  # per cycle, when nothing presses
MOST_PAGES = 64  # per transaction: 16 MB


@dataclass(frozen=True)
class SnapshotPolicy:
    """`events` None: the larger of 50,000 and 8 per stream, so that a page costs a fraction of an event."""

    events: int | None
    interval_s: float

    def limit(self, shard: Shard) -> int:
        """How long the replay tail of a shard may get."""
        return self.events or max(DEFAULT_EVENTS, EVENTS_PER_ROW * len(shard.table.index))


class SnapshotClock:
    """Decides for one life of a shard, once per cycle."""

    def __init__(self, policy: SnapshotPolicy) -> None:
        self._policy = policy
        self._last = time.monotonic()

    @property
    def age_s(self) -> float:
        """Since the image in force was completed, or this life began."""
        return time.monotonic() - self._last

    def pieces(self, shard: Shard, records: int, adoptions: int) -> tuple[list[tuple[bytes, bytes]], bool]:
        """What of a snapshot goes into this cycle's transaction, after `records` were taken in; True with the last.

        `adoptions` were logged since the image in force: too many of them make the next one due.
        """
        tail, pages = shard.replay_tail, shard.pages_to_send
        if tail == 0 and pages is None:
            return [], False
        limit = self._policy.limit(shard)
        due = tail >= limit // 2 or self.age_s > self._policy.interval_s or adoptions >= MOST_ADOPTIONS // 2
        late = shard.snapshot_lag > limit and shard.table.pages <= MOST_PAGES  # what is written now would not help
        if (due and pages is None) or late:
            pages = shard.begin_snapshot()
        if pages is None:
            return [], False
        cycles = (limit - tail) // max(records, 1)  # of this size that still fit
        share = pages if cycles < 1 else max(IDLE_PAGES, math.ceil(pages / cycles))
        pieces, last = shard.snapshot_pieces(min(share, MOST_PAGES))
        if last:
            self._last = time.monotonic()
        return pieces, last
