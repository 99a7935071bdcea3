"""A worker's status, brought up to date by the loop about once a second: gauges, /api/status, totals."""

import logging
import math
import time
from collections import deque

from prometheus_client import Gauge

from pipeline.arrays import Ints
from worker.lives.live import Live
from worker.lives.restoring import Restoring
from worker.loop import Loop
from worker.observe.hour import Behind
from worker.observe.log import event as log_event
from worker.observe.metrics import Metrics, by_label, rounded, total

log = logging.getLogger(__name__)

EVERY_S = 1.0
TOTALS_EVERY_S = 60.0
SILENCE_EVERY_S = 30.0
LATENCY_OF_S = 60.0


class Status:
    """Called after every cycle; `page` is replaced as a whole, so that other threads may read it."""

    def __init__(self, metrics: Metrics, instance_id: str) -> None:
        self._page: dict[str, object] = {"ready": False, "reason": "starting"}
        self.behind: dict[int, Behind] = {}  # of each partition that is held, for the last hour
        self._waits: tuple[str, float] | None = None  # before there is a loop: at which brokers, and since when
        self._failed = ""  # the last try, in words
        self._metrics = metrics
        self._instance_id = instance_id
        self._next = 0.0
        self._next_totals = time.monotonic() + TOTALS_EVERY_S
        self._longest_snapshot_s = 0.0
        self._waiting_since: dict[int, float] = {}  # by partition of which no record was read yet
        self._read_up_to: dict[int, float] = {}  # by partition: the time, of which it has forecast what there was
        self._shown: dict[Gauge, set[int]] = {}  # partitions that a gauge of lag has a series of
        self._silent_since: float | None = None
        self._next_silence = 0.0
        # Of the last minute: when, and how many there had been by then, by bucket
        self._latencies = deque([(time.monotonic(), metrics.latency.counts.copy())])
        self._most_partitions = 0  # the input has had

    @property
    def page(self) -> dict[str, object]:
        """What the loop wrote last; before there is one, for how long it has no place in its group, and why."""
        waits = self._waits  # once: the loop may end it meanwhile
        if waits is None:
            return self._page
        brokers, since = waits
        waited_s = round(time.monotonic() - since)
        why = f": {self._failed}" if self._failed else ""
        reason = f"not in the group yet at {brokers}, for {waited_s} s{why}"
        return {"instance": self._instance_id, "ready": False, "reason": reason, "waiting_s": waited_s}

    def wait_for(self, brokers: str, failure: str = "") -> None:
        """Show that the worker is not connected yet, and why the last try failed, until the loop brings its page."""
        self._waits = self._waits or (brokers, time.monotonic())
        self._failed = failure

    def __call__(self, loop: Loop) -> None:
        """Bring gauges and page up to date where the last time was a second ago."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY_S
        self.update(loop)
        if now >= self._next_totals:
            self._next_totals = now + TOTALS_EVERY_S
            log_event("totals", **self.totals())

    def update(self, loop: Loop) -> None:
        """Bring gauges and page up to date."""
        metrics = self._metrics
        # The client keeps counting from where it was for what is restored after a failure
        lag = {p: records for p, records in loop.lag().items() if p in loop.lives}
        shards = [live.shard for live in loop.lives.values()]
        self._count_partitions(loop.partitions, loop.partitions_now)
        metrics.shards.set(len(shards))
        metrics.restoring.set(len(loop.restoring) + sum(not live.at_c for live in loop.lives.values()))
        metrics.streams.set(sum(len(shard.table.index) for shard in shards))
        state_bytes = sum(shard.table.rows.nbytes for shard in shards)
        metrics.state_bytes.set(state_bytes)
        metrics.restore_pending.set(sum(live.pending for live in loop.lives.values()))
        metrics.replay_tail.set(max((shard.replay_tail for shard in shards), default=0))
        behind_image = [live.clock.age_s for live in loop.lives.values() if live.shard.replay_tail]
        metrics.snapshot_age.set(max(behind_image, default=0.0))
        self._longest_snapshot_s = loop.longest_snapshot_s
        metrics.snapshot_longest.set(loop.longest_snapshot_s)
        metrics.weights_age.set(max((shard.position - shard.weights_offset for shard in shards), default=0))
        metrics.quality()
        behind_s = self._behind(loop, lag)
        held = sorted([*loop.restoring, *loop.lives])
        self.behind = {p: _behind(loop.lives.get(p), lag.get(p), behind_s.get(p)) for p in held}
        reason = loop.why_not_ready
        self._page = {
            "instance": self._instance_id,
            "ready": reason is None,
            "reason": reason,
            "partitions": {
                str(p): _partition(loop, p) | {"lag": lag.get(p), "behind_s": behind_s.get(p)} for p in held
            },
            "input_partitions": loop.partitions,
            "elsewhere": sorted({*range(loop.partitions)} - {*held}),
            "state_bytes": state_bytes,
            "history_bytes": metrics.recent_streams.nbytes,
            **self._quality(),
        }
        self._waits = None
        self._say_silence(loop.silence())

    def _behind(self, loop: Loop, lag: dict[int, int]) -> dict[int, float]:
        """Seconds that each partition is behind, where that is known; the gauges of lag are brought up to date.

        While no broker answers, and while a partition is restored after a failure, it gets further behind; of another
        worker's, or one that was never live here, nothing is known: better no lag than a false one.
        """
        metrics, now, held = self._metrics, time.time(), {*loop.restoring, *loop.lives}
        for partition in self._read_up_to.keys() - held:
            del self._read_up_to[partition]
            self._waiting_since.pop(partition, None)
        self._read_up_to |= {p: self._up_to(p, loop, records, now) for p, records in lag.items()}
        behind_s = {p: max(now - since, 0.0) for p, since in self._read_up_to.items()}
        for gauge, values in ((metrics.lag_records, lag), (metrics.lag_seconds, behind_s)):
            for partition in self._shown.get(gauge, set()) - values.keys():
                gauge.remove(partition)
            for partition, value in values.items():
                gauge.labels(partition).set(value)
            self._shown[gauge] = {*values}
        return behind_s

    def _up_to(self, partition: int, loop: Loop, records: int, now: float) -> float:
        """When the last record read was made, where more wait; before the first, when they were first seen to wait."""
        last_record_ms = loop.lives[partition].last_record_ms
        if not records or last_record_ms:
            self._waiting_since.pop(partition, None)
            return last_record_ms / 1000 if records else now
        return self._waiting_since.setdefault(partition, now)

    def _say_silence(self, silence: str | None) -> None:
        """Log what no error tells: the client tries for ever to fetch from a broker that is away."""
        now = time.monotonic()
        if silence is None:
            if self._silent_since is not None:
                log_event("brokers answer again", after_s=round(now - self._silent_since))
            self._silent_since, self._next_silence = None, now
        elif now >= self._next_silence:
            log.warning("%s; see that they run and can be reached", silence)
            self._silent_since, self._next_silence = self._silent_since or now, now + SILENCE_EVERY_S

    def _count_partitions(self, at_start: int, now: int) -> None:
        self._metrics.partitions.set(now)
        self._metrics.partitions_ignored.set(max(now - at_start, 0))
        if now > max(at_start, self._most_partitions):
            log.warning(
                "partitions were added to the input: %d now, %d when this worker started, and nobody reads the others; "
                "go on under a new kafka.group_id (`foldcast run --from-group`), once the output has as many",
                now,
                at_start,
            )
        self._most_partitions = max(now, self._most_partitions)

    def _quality(self) -> dict[str, object]:
        metrics, horizons = self._metrics, self._metrics.method.horizons
        recent = metrics.recent
        before = self._latency_before()
        coverage = {str(h): rounded(recent.coverage[j]) for j, h in enumerate(horizons)}
        return {
            "horizons": horizons,
            "skill": dict(zip(map(str, horizons), rounded(recent.skill), strict=True)),
            "coverage": {"levels": metrics.method.band_levels, **coverage},
            "labels": dict(zip(map(str, horizons), recent.labels.round().tolist(), strict=True)),
            "latency_s": {"p50": metrics.latency.quantile(0.5, before), "p99": metrics.latency.quantile(0.99, before)},
            "forecasts": total(metrics.forecasts),
            "events": total(metrics.events),
            "dropped": by_label(metrics.dropped),
            "dead_letters": by_label(metrics.dead_letters),
            "replayed": total(metrics.replayed),
            "snapshot_records": total(metrics.snapshot_records),
            "fine_tunes": by_label(metrics.fine_tunes),
            "fine_tune_updates": total(metrics.fine_tune_updates),
            "longest_snapshot_s": self._longest_snapshot_s,
        }

    def _latency_before(self) -> Ints:
        """Return the latencies counted up to a minute ago, by bucket; remember those up to now."""
        now, counts = time.monotonic(), self._metrics.latency.counts.copy()
        self._latencies.append((now, counts))
        while len(self._latencies) > 1 and self._latencies[1][0] <= now - LATENCY_OF_S:
            self._latencies.popleft()
        return self._latencies[0][1]

    def totals(self) -> dict[str, object]:
        """Return the totals as fields of a line for the log: counts since the start, without what never happened."""
        page, recent = self.page, self._metrics.recent
        (skill,) = rounded([recent.overall_skill])
        counted = {name: _without_zeros(page.get(name)) for name in ("dropped", "dead_letters", "fine_tunes")}
        figures = {name: page.get(name) for name in ("events", "forecasts", "latency_s")}
        return {**figures, **counted, "skill": skill, "labels": round(recent.labels.sum())}


def _partition(loop: Loop, partition: int) -> dict[str, object]:
    restoring = loop.restoring.get(partition)
    if restoring is not None:
        return {"state": "restoring", "restore": _progress(restoring), "waits_for": restoring.waits_for}
    live = loop.lives[partition]
    return {
        "state": "live" if live.at_c else "catching up",
        "restore": None if live.at_c else _progress(live),
        "incarnation": live.incarnation,
        "position": live.shard.position,
        "committed": live.committed,
        "image": live.shard.snapshot_offset,
        "snapshot_age_s": round(live.clock.age_s, 1),
        "replay_tail": live.shard.replay_tail,
        "replayed": live.replayed,
        "streams": len(live.shard.table.index),
        "model": live.shard.version,
    }


def _progress(one: Restoring | Live) -> dict[str, object]:
    """Return what a restore reads, and how far it is: the changelog first, then the input up to C."""
    done, total_ = one.progress or (0, None)
    reads = "changelog" if isinstance(one, Restoring) else "input"
    return {"reads": reads, "done": done, "total": total_, "seconds": round(time.monotonic() - one.began, 1)}


def _behind(live: Live | None, records: int | None, seconds: float | None) -> Behind:
    lag, lag_s = (math.nan if number is None else number for number in (records, seconds))
    if live is None:
        return Behind(lag, lag_s, math.nan, math.nan)
    tail = live.shard.replay_tail
    return Behind(lag, lag_s, live.clock.age_s if tail else math.nan, tail)


def _without_zeros(counts: object) -> object:
    return {name: count for name, count in counts.items() if count} if isinstance(counts, dict) else counts
