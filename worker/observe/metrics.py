"""The catalogue of metrics: every name, its meaning, and the little state behind them.

Only the loop's thread writes; a cycle's counts are written after its commit. Nothing is labelled by stream.
"""

import time
from collections.abc import Iterator, Sequence

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.arrays import Floats, Ints
from pipeline.batch import DROPS
from pipeline.events import REASONS
from pipeline.forecasts import Forecasts, capped
from pipeline.method import Method
from worker.observe.journal import Journal
from worker.observe.recent import RecentStreams, ratio

PHASES = ("poll", "restore", "decode", "advance", "adopt", "publish", "commit", "snapshot", "offer", "idle")
FINE_TUNE_OUTCOMES = ("adopted", "nonfinite", "too_few_windows", "rolled_back")
LATENCY_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
UPDATE_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
RECENT_UPDATES = 200
RECENT = 20_000  # labels a skill or coverage ratio remembers, per horizon


class Latency(Collector):
    """Histogram fed with arrays: observing one by one would cost more than forecasting."""

    def __init__(self) -> None:
        self.counts = np.zeros(len(LATENCY_S) + 1, np.int64)
        self.sum_s = 0.0

    def observe(self, seconds: Floats) -> None:
        """Count latencies, in seconds."""
        self.counts += np.bincount(np.searchsorted(LATENCY_S, seconds), minlength=len(self.counts))
        self.sum_s += float(seconds.sum())

    def quantile(self, q: float, before: Ints | None = None) -> float | None:
        """Return the upper bound of the bucket that holds the q-quantile, None without observations.

        `before` are the counts as they were once: then it is that of what was observed since.
        """
        counts = self.counts - (0 if before is None else before)
        total = int(counts.sum())
        if total == 0:
            return None
        bucket = int(np.searchsorted(np.cumsum(counts), q * total))
        return LATENCY_S[min(bucket, len(LATENCY_S) - 1)]

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram to the registry."""
        bounds = [*map(repr, LATENCY_S), "+Inf"]
        buckets = list(zip(bounds, np.cumsum(self.counts).tolist(), strict=True))
        name, text = "foldcast_event_latency_seconds", "An event record's timestamp to its forecast committed"
        yield HistogramMetricFamily(name, text, buckets=buckets, sum_value=self.sum_s)


class Recent:
    """Sums of the last `RECENT` or so labels per horizon, older ones fading: squared errors and hits."""

    def __init__(self, method: Method) -> None:
        z, bands = len(method.horizons), method.bands
        self.labels = np.zeros(z)
        self.squared = np.zeros(z)
        self.absolute = np.zeros(z)
        self.naive_squared = np.zeros(z)
        self.hits = np.zeros((z, bands))

    def add(self, forecasts: Forecasts) -> None:
        """Take in the labels that arrived with these events."""
        arrived = ~np.isnan(forecasts.error)  # (n, Z)
        labels = arrived.sum(0)
        keep = (1 - 1 / RECENT) ** labels
        error, naive = capped(forecasts.error), capped(forecasts.naive)
        self.labels = keep * self.labels + labels
        self.squared = keep * self.squared + (error**2).sum(0)
        self.absolute = keep * self.absolute + np.abs(error).sum(0)
        self.naive_squared = keep * self.naive_squared + (naive**2).sum(0)
        self.hits = keep[:, None] * self.hits + (forecasts.inside & arrived[:, :, None]).sum(0)

    @property
    def skill(self) -> Floats:
        """(Z,) 1 - squared error / squared error of the last value; NaN where nothing is known."""
        return 1 - ratio(self.squared, self.naive_squared)

    @property
    def overall_skill(self) -> float:
        """Mean skill over the horizons, each weighed by its number of labels; NaN where nothing is known."""
        known = ~np.isnan(self.skill)
        return float(np.average(self.skill[known], weights=self.labels[known])) if known.any() else float("nan")

    @property
    def error(self) -> Floats:
        """(Z,) mean absolute error in horizon scales."""
        return ratio(self.absolute, self.labels)

    @property
    def coverage(self) -> Floats:
        """(Z, bands) share of labels inside."""
        return ratio(self.hits, self.labels[:, None])


class Metrics:
    """All metrics of one worker, in a registry of their own."""

    def __init__(self, method: Method, version: str, streams: RecentStreams | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a series beside each counter, which nobody reads
        self.registry = CollectorRegistry()
        self.labels_of: dict[str, tuple[str, ...]] = {}  # by metric
        self.method = method
        self.recent = Recent(method)
        self.recent_streams = streams or RecentStreams(method)
        self.journal = Journal()
        self.latency = Latency()
        self.registry.register(self.latency)
        # what came in and what left
        self.events = self._counter("events", "Records read at or above the committed offset")
        self.forecasts = self._counter("forecasts", "Forecasts published")
        self.dropped = self._counter("events_dropped", "Events not forecast", "reason")
        self.dead_letters = self._counter("dead_letters", "Records sent to the dead letters", "reason")
        self.other_keys = self._counter("key_mismatches", "Events whose key names another stream than they do")
        self.twice = self._counter(
            "streams_in_two_partitions", "Streams that turned up in two partitions of this worker"
        )
        # the loop
        self.loop_seconds = self._counter("loop_seconds", "Where the loop's time went; sums to wall time", "phase")
        self.commits = self._counter("commits", "Transactions", "outcome")
        self.failures = self._counter("failures", "Cycles and attempts to join that failed: brokers, commits, fencing")
        self.last_commit = self._gauge("last_commit_timestamp_seconds", "When a transaction last committed")
        self.lag_records = self._gauge("consumer_lag_records", "Records behind the end of the log", "partition")
        self.lag_seconds = self._gauge(
            "consumer_lag_seconds", "Age of the last record read while behind, or the time since it is", "partition"
        )
        # what is held
        self.partitions = self._gauge("input_partitions", "Partitions of the input, whoever has them")
        self.partitions_ignored = self._gauge(
            "input_partitions_ignored", "Partitions added to the input since this worker started, which nobody reads"
        )
        self.shards = self._gauge("shards", "Shards held, loaded")
        self.restoring = self._gauge("shards_restoring", "Shards held and not live: loading or catching up silently")
        self.streams = self._gauge("streams", "Streams held")
        self.max_streams = self._gauge("streams_max", "Streams that this worker has room for")
        self.state_bytes = self._gauge("state_bytes", "Memory of all rows, used or spare")
        self.stream_bytes = self._gauge("stream_state_bytes", "State of one stream")
        self.history_bytes = self._gauge("history_bytes", "Memory for the recent past of streams, used or spare")
        self.history_bytes.set(self.recent_streams.nbytes)
        # durability
        self.restore_seconds = self._gauge("restore_seconds", "Last restore, from assignment to live")
        self.restore_pending = self._gauge("restore_pending_records", "Offsets still to fold silently")
        self.replayed = self._counter("replayed_records", "Offsets folded silently in restores")
        self.gaps = self._counter("input_gap_records", "Records the input had lost before they had a forecast")
        self.unlearnt = self._counter(
            "unlearnt_records", "Records the input had lost before a restart read them again, after their forecast"
        )
        self.snapshot_bytes = self._counter("snapshot_bytes", "Bytes of pages and markers written")
        self.snapshot_records = self._counter("snapshot_records", "Pages and markers written")
        self.snapshots = self._counter("snapshots", "Images completed")
        self.snapshot_longest = self._gauge("snapshot_longest_seconds", "Longest time one cycle spent on snapshots")
        self.snapshot_age = self._gauge("snapshot_age_seconds", "Age of the oldest image that events came after")
        self.replay_tail = self._gauge("replay_tail_records", "Offsets the worst shard would fold again after a crash")
        self._how_good()
        self._learning()
        self._what_runs(version)
        self._start_at_zero()

    def _how_good(self) -> None:
        self.skill = self._gauge(
            "forecast_skill_ratio", "1 - squared error / that of the last value, recent", "horizon"
        )
        self.labels = self._gauge("forecast_labels", "Labels that skill, error and coverage are of, recent", "horizon")
        self.error = self._gauge("forecast_error", "Mean absolute error in the stream's own scale, recent", "horizon")
        self.coverage = self._gauge(
            "interval_coverage_ratio", "Share of values inside their interval, recent", "level", "horizon"
        )
        nominal = self._gauge("interval_nominal_ratio", "Share of values that the interval is to hold", "level")
        for level in self.method.band_levels:
            nominal.labels(level).set(level)
        self.outside = self._counter("values_outside", "Values outside their interval, all horizons", "level")

    def _learning(self) -> None:
        self.fine_tunes = self._counter("fine_tunes", "What became of fine-tunes", "outcome")
        self.fine_tune_updates = self._counter("fine_tune_updates", "Optimiser steps made")
        self.fine_tune_skipped = self._counter("fine_tune_skipped", "Updates due that were left out: it had no time")
        self.fine_tune_cpu = self._counter("fine_tune_cpu_seconds", "CPU time of updates")
        self.fine_tune_seconds = Histogram(
            "foldcast_fine_tune_seconds", "An update, offered to answered", buckets=UPDATE_S, registry=self.registry
        )
        self.gradient_norm = self._gauge("gradient_norm", "Norm of the gradient before clipping, recent mean")
        self.gradient_clipped = self._gauge("gradient_clipped_ratio", "Share of recent updates that were clipped")
        self.weights_age = self._gauge("weights_age_events", "Offsets since the oldest weights in service came into it")
        self.answers_dropped = self._counter("fine_tune_answers_dropped", "Answers thrown away", "reason")
        self.trainer_restarts = self._counter("trainer_restarts", "Trainers replaced", "reason")
        self._updates, self._norm, self._clipped = 0, 0.0, 0.0

    def _what_runs(self, version: str) -> None:
        self._gauge("build_info", "Version of this worker", "version").labels(version).set(1)
        method = self.method
        model = self._gauge("model_info", "The network", "cell", "hidden_size", "layers")
        model.labels(method.cell, method.hidden_size, method.layers).set(1)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self.labels_of[f"foldcast_{name}"] = labels
        return Counter(f"foldcast_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        self.labels_of[f"foldcast_{name}"] = labels
        return Gauge(f"foldcast_{name}", text, labels, registry=self.registry)

    def _start_at_zero(self) -> None:
        """Make every known series: a rate over a series that is not there yet misses its first step."""
        known = (
            (self.loop_seconds, PHASES),
            (self.dropped, DROPS),
            (self.dead_letters, REASONS),
            (self.commits, ("committed", "refused", "unknown")),
            (self.fine_tunes, FINE_TUNE_OUTCOMES),
            (self.answers_dropped, ("late", "orphaned", "impossible")),
            (self.trainer_restarts, ("died", "hung")),
            (self.outside, tuple(map(str, self.method.band_levels))),
        )
        for counter, values in known:
            for value in values:
                counter.labels(value)

    def forecasted(self, forecasts: Forecasts, now_s: float) -> None:
        """Count forecasts that were committed at `now_s` (epoch), and the labels that came with them."""
        self.forecasts.inc(len(forecasts.name))
        self.latency.observe(np.maximum(now_s - forecasts.record_ms / 1000, 0))
        self.recent.add(forecasts)
        arrived = ~np.isnan(forecasts.error)
        for k, level in enumerate(self.method.band_levels):
            self.outside.labels(str(level)).inc(int((arrived & ~forecasts.inside[:, :, k]).sum()))

    def failed(self, error: str, fix: str, partition: int | None = None) -> None:
        """Count and note a failure in words, and what a person can do about it."""
        self.failures.inc()
        self.journal.fail(error, fix, partition)

    def trainer_restarted(self, why: str) -> None:
        """Count and note that another trainer is started, since the one before `died` or `hung`."""
        self.trainer_restarts.labels(why).inc()
        self.journal.fail(f"the trainer {why}: another one is started", "see what memory and CPU the worker has")

    def updated(self, gradient_norm: float, clipped: bool, seconds: float, cpu_s: float) -> None:
        """Count an optimiser step: wall time `seconds`, CPU time `cpu_s`."""
        self.fine_tune_updates.inc()
        self.fine_tune_seconds.observe(seconds)
        self.fine_tune_cpu.inc(cpu_s)
        self._updates += 1
        rate = max(1 / RECENT_UPDATES, 1 / self._updates)
        self._norm += rate * (gradient_norm - self._norm)
        self._clipped += rate * (clipped - self._clipped)
        self.gradient_norm.set(self._norm)
        self.gradient_clipped.set(self._clipped)

    def quality(self) -> None:
        """Bring the gauges of skill and coverage up to date."""
        skill, error, coverage = self.recent.skill, self.recent.error, self.recent.coverage  # made when asked for
        for j, h in enumerate(self.method.horizons):
            self.skill.labels(h).set(skill[j])
            self.labels.labels(h).set(self.recent.labels[j])
            self.error.labels(h).set(error[j])
            for k, level in enumerate(self.method.band_levels):
                self.coverage.labels(level, h).set(coverage[j, k])


class Stopwatch:
    """Attributes the time since the last lap to a phase, so that phases sum to wall time."""

    def __init__(self, counter: Counter) -> None:
        self._phases = {phase: counter.labels(phase) for phase in PHASES}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> float:
        """Count the seconds since the last lap under `phase`, and return them."""
        now = time.perf_counter()
        spent, self._last = now - self._last, now
        self._phases[phase].inc(spent)
        return spent


def total(counter: Counter, **labels: str) -> float:
    """Where a counter stands, over all label values that fit."""
    samples = (sample for metric in counter.collect() for sample in metric.samples if sample.name.endswith("_total"))
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def by_label(counter: Counter) -> dict[str, float]:
    """Where a counter with one label stands, by the label's values."""
    samples = (sample for metric in counter.collect() for sample in metric.samples if sample.name.endswith("_total"))
    return {value: sample.value for sample in samples for value in sample.labels.values()}


def rounded(values: Sequence[float] | Floats) -> list[float | None]:
    """Return values for JSON: rounded to four digits, None for NaN."""
    return [None if np.isnan(v) else round(float(v), 4) for v in values]
