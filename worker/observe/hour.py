"""The last hour of a worker, a sample every ten seconds: how good, how fast, where the time went, what went wrong."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from pipeline.arrays import Field, Floats, Ints
from pipeline.batch import DROPS
from worker.observe.metrics import PHASES, Metrics, by_label, total
from worker.observe.recent import Records

EVERY_S = 10.0
SAMPLES = 360
COUNTS = ("events", "forecasts", "dropped", "dead_letters", "failures", "adopted", "rolled_back", "updates")


class Behind(NamedTuple):
    """How far one partition is behind the input's end, and its image behind it; NaN: not known, or it is not."""

    lag: float  # records
    lag_s: float
    image_age_s: float  # where events came after it
    replay_tail: float  # records that a restore would fold again


# By what a sample has: column of `Behind`, and over the partitions
BEHIND: dict[str, tuple[int, Callable[[Floats], float]]] = {
    "lag": (0, np.sum),
    "worst_lag": (0, np.max),
    "worst_lag_s": (1, np.max),
    "newest_image_s": (2, np.min),
    "oldest_image_s": (2, np.max),
    "worst_tail": (3, np.max),
}


class Hour:
    """Called by the loop after every cycle; `samples` is replaced as a whole, so that other threads may read it."""

    def __init__(self, metrics: Metrics) -> None:
        method = metrics.method
        z = len(method.horizons)
        fields: list[Field] = [
            ("time_ms", "i8"),  # the end of what it is of
            ("seconds", "f8"),
            *((name, "f8") for name in COUNTS),  # within these seconds
            ("skill", "f8", (z,)),  # recent, as the metrics have it
            ("coverage", "f8", (z, method.bands)),
            ("phases", "f8", (len(PHASES),)),  # seconds of each
            ("latency", "f8", (2,)),  # p50, p99 within these seconds; NaN: no event
            # At the end of these seconds, over the partitions of which it is known; NaN: of none
            *((name, "f8") for name in BEHIND),
        ]
        self.samples: Records = np.zeros(0, np.dtype(fields))
        self._metrics = metrics
        self._at = time.monotonic()
        self._before = self._totals()

    def after_cycle(self, partitions: Mapping[int, Behind]) -> None:
        """Take a sample where the last one was ten seconds ago."""
        now = time.monotonic()
        if now - self._at < EVERY_S:
            return
        totals, recent = self._totals(), self._metrics.recent
        counts, phases = (after - before for after, before in zip(totals[:2], self._before[:2], strict=True))
        sample = np.zeros(1, self.samples.dtype)
        sample["time_ms"], sample["seconds"] = round(time.time() * 1000), now - self._at
        for name, count in zip(COUNTS, counts.tolist(), strict=True):
            sample[name] = count
        sample["skill"], sample["coverage"], sample["phases"] = recent.skill, recent.coverage, phases
        sample["latency"] = [self._metrics.latency.quantile(q, self._before[2]) for q in (0.5, 0.99)]
        columns = np.array([*partitions.values()], float).reshape(-1, len(Behind._fields))
        for name, (column, over) in BEHIND.items():
            known = columns[:, column][~np.isnan(columns[:, column])]
            sample[name] = over(known) if len(known) else np.nan
        self.samples = np.concatenate([self.samples[-SAMPLES + 1 :], sample])
        self._at, self._before = now, totals

    def _totals(self) -> tuple[Floats, Floats, Ints]:
        """Return counts, seconds by phase and latencies by bucket since the start."""
        metrics = self._metrics
        fine_tunes, dropped = by_label(metrics.fine_tunes), by_label(metrics.dropped)
        counts = [
            total(metrics.events),
            total(metrics.forecasts),
            sum(dropped[reason] for reason in DROPS),
            total(metrics.dead_letters),
            total(metrics.failures),
            fine_tunes["adopted"],
            fine_tunes["rolled_back"],
            total(metrics.fine_tune_updates),
        ]
        phases = by_label(metrics.loop_seconds)
        return np.array(counts), np.array([phases[phase] for phase in PHASES]), metrics.latency.counts.copy()
