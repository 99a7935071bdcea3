"""How long a partition is without forecasts while the workers of a group are restarted one after the other.

Three workers with the default settings share the partitions and take in a steady rate of events. Each in turn is asked
to stop (SIGTERM), waited for and started again under its instance id; the next one's turn comes when everything sent
has its forecast. A partition's pause is the longest time between two of its forecasts, as a `read_committed` reader
sees them, from the request to stop on. Each restart is a run.

The longest pause is split by the lines that workers log: `stop` is from the last forecast to the end of the process
(cycle and image), `imports` to the line `starting`, `kernels` to `listening`, `join` to the partition's `restoring`,
`restore` to its `loaded`, `catch-up` to its `live`, `first forecast` to the reader's next. A start that takes longer
than the session (`kafka.session_timeout_s`, 10 s by default) comes too late: another worker takes over, and `join` is
how long the group waited. On a busy machine believe the CPU: it is the worker's own.
"""

import argparse
import itertools
import re
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from operator import itemgetter

from report import Report, options
from stand import Cluster, Events, Stand, add_options, cpu_s, say, stand, variants

from tests.rigs.cluster import Feeder, Worker
from tests.soak.ledger import Follower
from worker.broker.produce import FastProducer
from worker.broker.restore import TopicRecord

SESSION_S = 10  # the default, unlike that of the other measurements: it is what a slow restart comes up against
LIMIT_S = 300.0
LINE = re.compile(r"^(\S+) INFO (\w+)(?: |$)(?:.*?\bpartition=(\d+))?")
OF_A_PROCESS = ("starting", "listening")
OF_A_PARTITION = ("restoring", "loaded", "live")
PARTS = ("stop", "imports", "kernels", "join", "restore", "catch-up", "first forecast")


class Pauses(Follower):
    """Notes the longest time between two forecasts of each partition; epoch seconds, as log lines have."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.longest: dict[int, tuple[float, float]] = {}  # from when to when
        self._last: dict[int, float] = {}

    def take(self, records: Sequence[TopicRecord]) -> None:
        now = time.time()
        for partition in {record.partition for record in records}:
            before = self._last.get(partition, now)
            low, high = self.longest.get(partition, (now, now))
            if now - before > high - low:
                self.longest[partition] = before, now
            self._last[partition] = now
        super().take(records)


def logged(worker: Worker) -> Iterator[tuple[float, str, int | None]]:
    """When, what and of which partition."""
    for line in worker.log.read_text().splitlines():
        if found := LINE.match(line):
            at = datetime.fromisoformat(found[1]).timestamp()
            yield at, found[2], int(found[3]) if found[3] else None


def split(cluster: Cluster, restarted: Worker, ended: float, pause: tuple[int, float, float]) -> dict[str, float]:
    """The parts of a partition's pause, in seconds; they sum to it."""
    partition, low, high = pause
    said = [
        (when, name, worker)
        for worker in cluster.workers
        for when, name, of in logged(worker)
        if low <= when <= high and (of == partition or (of is None and worker is restarted))
    ]
    at = {name: when for when, name, _ in sorted(said, key=itemgetter(0)) if name in OF_A_PARTITION}
    took_over = any(worker is not restarted for _, name, worker in said if name == "loaded")
    if not took_over:
        at |= {name: when for when, name, _ in said if name in OF_A_PROCESS}
    marks = [low, min(max(ended, low), high), *(at.get(name, low) for name in (*OF_A_PROCESS, *OF_A_PARTITION)), high]
    reached = list(itertools.accumulate(marks, max))
    parts = zip(PARTS, itertools.pairwise(reached), strict=True)
    return {"another worker took over": took_over, **{f"  {name}, s": b - a for name, (a, b) in parts}}


def restart(cluster: Cluster, worker: Worker, feeder: Feeder, pauses: Pauses, before: int) -> dict[str, float]:
    """Figures of one."""
    pauses.longest.clear()
    worker.tell(signal.SIGTERM)
    worker.wait()
    ended = time.time()
    worker.start()
    cluster.wait_until_live(LIMIT_S)
    started_cpu_s, _ = cpu_s(worker.pid)
    if not pauses.wait_for(before + feeder.sent, LIMIT_S):
        raise SystemExit(f"forecasts are missing\n{cluster.ends_of_logs()}")
    longest = dict(pauses.longest)
    lengths = {partition: high - low for partition, (low, high) in longest.items()}
    worst = max(lengths, key=lengths.__getitem__)
    paused = sorted(lengths.values())[-(cluster.partitions // len(cluster.workers)) :]  # those that were its own
    return {
        "longest pause, s": lengths[worst],
        "median pause of those restarted, s": statistics.median(paused),
        "CPU from start to live, s": started_cpu_s,
        **split(cluster, worker, ended, (worst, *longest[worst])),
    }


def measure(on: Stand, given: argparse.Namespace, report: Report) -> None:
    for name, tables in variants(given.variant).items():
        kafka = {"session_timeout_s": SESSION_S, **tables.get("kafka", {})}
        with on.cluster({**tables, "kafka": kafka}) as cluster:
            for number in range(given.workers):
                cluster.worker(f"worker-{number}")
            cluster.wait_until_live(LIMIT_S)
            pauses, events = Pauses(cluster), Events(on.streams, on.partitions)
            pauses.start()
            before = given.warm * on.streams
            with FastProducer(cluster.connection) as producer:
                for _ in range(before):
                    producer.send(cluster.topics.input, *events.next())
                producer.flush()
            if not pauses.wait_for(before, LIMIT_S):
                raise SystemExit(f"forecasts are missing\n{cluster.ends_of_logs()}")
            feeder = Feeder(cluster, events, given.rate, transactions=False)
            feeder.start()
            say(f"{name} is warm")
            for worker in cluster.workers * given.runs:
                report.add(name, restart(cluster, worker, feeder, pauses, before))
            feeder.finish()
            pauses.finish()
            cluster.stop()


def main() -> None:
    parser = options(__doc__, runs=2)
    add_options(parser, streams=30_000, partitions=12, warm=3)
    parser.add_argument("--workers", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--rate", type=float, default=600.0, help="events/s (%(default)s)")
    given = parser.parse_args()
    shape = f"{given.streams:,} streams in {given.partitions} partitions, {given.rate:g} events/s"
    report = Report(f"each of {given.workers} workers restarted in turn, {shape}")
    with stand(given.streams, given.partitions) as on:
        measure(on, given, report)
    report.show(given.json)


if __name__ == "__main__":
    main()
