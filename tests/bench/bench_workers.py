"""What a number of workers takes in, and what each event costs them and the brokers: the figures of docs/sizing.md.

Each round starts that many workers on topics of their own, feeds them `--warm` events of each stream, holds them
(SIGSTOP) while `--events` are produced, and lets them go; figures are from then to the commit of the last event. CPU is
of the workers' own processes together, without their trainers'.

Bytes are before replication: a forecast is as large as its record (key, value, headers), images are what the workers
count. Beside these what they would be by the formula: a partition writes the rows of all its streams once in half of
the events that it may have to read again, `worker.snapshot_events`.
"""

import argparse
import signal
import time

from bench_drain import record_bytes
from report import Report, options
from stand import Sections, Stand, Subject, add_options, cpu_s, stand, variants

from worker.lives.snapshot_clock import DEFAULT_EVENTS, EVENTS_PER_ROW

LIMIT_S = 300.0
WRITTEN = "foldcast_snapshot_bytes_total"


def summed(subject: Subject, name: str) -> float:
    """A counter of all workers."""
    return sum(worker.metric(name) for worker in subject.cluster.workers)


def measure(on: Stand, tables: Sections, given: argparse.Namespace, many: int) -> dict[str, float]:
    """Figures of so many workers."""
    with on.worker(tables) as subject:
        cluster = subject.cluster
        for number in range(1, many):
            cluster.worker(f"worker-{number}")
        cluster.wait_until_live(LIMIT_S)
        subject.warm(given.warm)
        workers = cluster.workers
        written = summed(subject, WRITTEN)
        for worker in workers:
            worker.tell(signal.SIGSTOP)
        subject.feed(given.events)
        used, began = sum(cpu_s(worker.pid)[0] for worker in workers), time.monotonic()
        for worker in workers:
            worker.tell(signal.SIGCONT)
        subject.wait_until_committed()
        seconds = time.monotonic() - began
        used = sum(cpu_s(worker.pid)[0] for worker in workers) - used
        held = on.streams / on.partitions
        again = cluster.settings.worker.snapshot_events or max(DEFAULT_EVENTS, EVENTS_PER_ROW * held)
        image = held * subject.worker.metric("foldcast_stream_state_bytes")
        return {
            "events/s": given.events / seconds,
            "CPU us/event": used / given.events * 1e6,
            "bytes of forecasts/event": record_bytes(subject),
            "bytes of images/event": (summed(subject, WRITTEN) - written) / given.events,
            "the same by the formula": image / (again / 2),
        }


def main() -> None:
    parser = options(__doc__, runs=3)
    add_options(parser, streams=2000, partitions=8, warm=10)
    parser.add_argument("--events", type=int, default=1_000_000, help="of one drain (%(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="(%(default)s)")
    given = parser.parse_args()
    report = Report(f"{given.events:,} events, {given.streams:,} streams, {given.partitions} partitions")
    with stand(given.streams, given.partitions) as on:
        for _ in range(given.runs):
            for name, tables in variants(given.variant).items():
                for many in given.workers:
                    report.add(f"{name}, {many}" if given.variant else str(many), measure(on, tables, given, many))
    report.show(given.json)


if __name__ == "__main__":
    main()
