"""Fine-tuning inline, between two events: what the back-test does, where nothing waits for a forecast."""

from collections import Counter

from pipeline.learning import watchdog
from pipeline.learning.adoption import Adoption, WeightsHeld
from pipeline.learning.fine_tune import Schedule, fine_tune
from pipeline.shard import Shard


class InlineTrainer:
    """One shard's updates, each adopted at once."""

    def __init__(self, shard: Shard, schedule: Schedule, every: int | None = None) -> None:
        """`every` so many accepted events, in place of the schedule's interval."""
        self.counts: Counter[str] = Counter()  # updates and outcomes
        self._shard, self._schedule, self._every = shard, schedule, every
        base = Adoption.base(shard.network, shard.position)
        self._held = WeightsHeld(base, base, base)
        self._last = shard.counters.forecasts  # accepted events at the last update
        self._interval = self._next_interval()

    def _next_interval(self) -> int:
        """Fixed at each update: it must not depend on when somebody asks."""
        return self._every or self._schedule.interval(watchdog.active(self._shard.watch))

    def missing(self) -> int:
        """Records that may come before `turn` is to be called again: at least 1."""
        return max(1, self._interval - (self._shard.counters.forecasts - self._last))

    def turn(self) -> None:
        """Update, if it is time to."""
        shard = self._shard
        if shard.counters.forecasts - self._last < self._interval:
            return
        self._last, self._interval = shard.counters.forecasts, self._next_interval()
        adoption = self._held.next_in_service(self._candidate(), shard.watch, shard.position)
        if adoption is not None:
            shard.adopt(adoption.weights, shard.position, adoption.rolled_back)
            self.counts["rolled_back" if adoption.rolled_back else "adopted"] += 1

    def _candidate(self) -> Adoption | None:
        shard, before = self._shard, self._held.in_service
        windows = shard.windows(self._schedule.streams)
        if windows is None:
            self.counts["too_few_windows"] += 1
            return None
        weights, optimiser, report = fine_tune(
            shard.network.shape, before.weights, before.optimiser, windows, self._schedule
        )
        if report.outcome != "updated":
            self.counts[report.outcome] += 1
            return None
        self.counts["updates"] += 1
        self.counts["clipped"] += report.clipped
        return Adoption(weights, optimiser, shard.position)
