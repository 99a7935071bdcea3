"""What workers, their trainers and this program take, every few seconds: from /proc, from scrapes, from the disk."""

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from tests.rigs.cluster import LIMIT_S, Cluster
from tests.soak.slopes import Point

PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
SCRAPE_S = 2.0
BUCKET = 'foldcast_event_latency_seconds_bucket{le="'
LAG = "foldcast_consumer_lag_records{"

MEMORY, DESCRIPTORS, THREADS = "RSS MB", "descriptors", "threads"
LAGGING, P50, P99 = "lag records", "p50 ms", "p99 ms"
CHANGELOG, STATE, STREAMS = "changelog MB", "live state MB", "streams"


class Samples:
    """Points by subject and measure, in segments: a new one begins whenever a subject's label is another."""

    def __init__(self) -> None:
        self._segments: dict[tuple[str, str], list[tuple[object, list[Point]]]] = {}

    def add(self, subject: str, label: object, at_s: float, figures: Mapping[str, float]) -> None:
        """Figures of one moment, by measure."""
        for measure, figure in figures.items():
            segments = self._segments.setdefault((subject, measure), [])
            if not segments or segments[-1][0] != label:
                segments.append((label, []))
            segments[-1][1].append(Point(at_s, figure))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Subjects with their measures."""
        return iter(sorted(self._segments))

    def settled(self, subject: str, measure: str, settle_s: float) -> list[list[Point]]:
        """The segments of a figure without the first seconds of each, in which a process only becomes what it is."""
        found = self._segments.get((subject, measure), [])
        return [[point for point in points if point.at_s >= points[0].at_s + settle_s] for _, points in found]


class Sampler(Thread):
    """Takes samples until it is told to stop."""

    def __init__(self, cluster: Cluster, data: Path, every_s: float) -> None:
        super().__init__(daemon=True)
        self.samples = Samples()
        self.began = time.monotonic()
        self._cluster, self._data, self._every_s = cluster, data, every_s
        self._buckets: dict[str, tuple[int, dict[float, float]]] = {}  # by worker: a process and its last scrape
        self._stop_asked = Event()
        self._error: Exception | None = None
        cluster.beside.append(self)

    def run(self) -> None:
        try:
            while not (self._stop_asked.wait(self._every_s) or self._cluster.over.is_set()):
                self.take()
        except Exception as error:  # noqa: BLE001 - told by `finish`
            self._error = error

    def take(self) -> None:
        """One sample of everything that answers."""
        at_s, held, state = time.monotonic() - self.began, 0, 0.0
        streams = 0.0
        for worker in self._cluster.workers:
            pid = worker.pid
            with suppress(OSError, ValueError):  # it starts, is held or has ended: a sample less
                taken, child = of_process(pid), trainer_of(pid)
                scraped = worker.metrics(SCRAPE_S)
                mine = frozenset(name for name in scraped if name.startswith(LAG))
                loop = self._loop_of(worker.name, pid, scraped)
                counted = {measure: taken.pop(measure) for measure in (DESCRIPTORS, THREADS)}
                self.samples.add(worker.name, (pid, mine), at_s, taken | loop)
                self.samples.add(worker.name, pid, at_s, counted)  # whatever it holds
                if child is not None:
                    self.samples.add(f"{worker.name}, trainer", child, at_s, of_process(child))
                held += int(scraped["foldcast_shards"] - scraped["foldcast_shards_restoring"])
                state += scraped["foldcast_state_bytes"] / 1e6
                streams += scraped["foldcast_streams"]
        self.samples.add("soak", None, at_s, of_process(os.getpid()))
        if held == self._cluster.partitions:  # else some of the state is in no memory
            figures = {CHANGELOG: self._changelog_mb(), STATE: state, STREAMS: streams}
            self.samples.add("topics", None, at_s, figures)

    def _loop_of(self, name: str, pid: int, scraped: Mapping[str, float]) -> dict[str, float]:
        """Lag now, latency since the last scrape of the same process."""
        lag = sum(figure for metric, figure in scraped.items() if metric.startswith(LAG))
        now = {
            float(metric.removeprefix(BUCKET).rstrip('"}')): count
            for metric, count in scraped.items()
            if metric.startswith(BUCKET)
        }
        before = self._buckets.get(name)
        self._buckets[name] = pid, now
        figures = {LAGGING: lag}
        if before is not None and before[0] == pid:
            new = {bound: count - before[1].get(bound, 0.0) for bound, count in now.items()}
            for measure, q in ((P50, 0.5), (P99, 0.99)):
                if (seconds := quantile(new, q)) is not None:
                    figures[measure] = seconds * 1000
        return figures

    def _changelog_mb(self) -> float:
        """Of the segments in force: those that wait for their deletion have another ending."""
        total = 0
        for file in self._data.glob(f"{self._cluster.topics.changelog}-*/*.log"):
            with suppress(FileNotFoundError):
                total += file.stat().st_size
        return total / 1e6

    def finish(self) -> None:
        """No more samples."""
        self._stop_asked.set()
        self.join(LIMIT_S)
        assert not self.is_alive(), "the sampler hangs"
        if self._error is not None:
            raise self._error


def of_process(pid: int) -> dict[str, float]:
    """Memory, descriptors and threads. Raises OSError when it has ended."""
    home = Path(f"/proc/{pid}")
    resident = int((home / "statm").read_text().split()[1]) * PAGE_MB
    return {MEMORY: resident, DESCRIPTORS: _entries(home / "fd"), THREADS: _entries(home / "task")}


def _entries(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


def trainer_of(pid: int) -> int | None:
    """The only child of a worker. Raises OSError when it has ended."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if children := (task / "children").read_text().split():
            return int(children[0])
    return None


def quantile(cumulative: Mapping[float, float], q: float) -> float | None:
    """By upper bounds, as a histogram has them: the place within its bucket; None where nothing was counted."""
    below, low = 0.0, 0.0
    total = max(cumulative.values(), default=0.0)
    for bound, count in sorted(cumulative.items()):
        if total and count >= q * total:
            return low if math.isinf(bound) else low + (bound - low) * (q * total - below) / max(count - below, 1e-9)
        below, low = count, bound
    return None
