"""How far one worker goes: many streams or many partitions, what they cost in memory, and how long a restart takes.

A worker is started on empty topics, fed one event of each of `--streams` streams `--warm` times, and stopped, which
writes an image of everything: the snapshot. It is started again, fed `--tail` events, killed, and started once more:
that start is the restart, from the process's begin until it answers as ready. Then it is left idle.

RSS is the worker's own, without the trainer's. The formula beside it: the RSS without streams, the history, and for
each stream its state (`starting` in the log has it) and `NAME` bytes.
"""

import argparse
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from report import Report, options
from stand import Sections, Stand, Subject, add_options, cpu_s, stand, variants

from tests.rigs.cluster import FIRST_MS, STEP_MS
from worker.observe.recent import RecentStreams
from worker.plan import Plan

NAME = 183  # bytes of a stream's name and its place in the index
KEPT = {"snapshot_events": 10**9, "snapshot_interval_s": 86_400}  # no image but that of the clean stop
LIMIT_S = 600.0
IDLE_S = 20.0


class Events:
    """Streams in turn, an event a minute each, in any number."""

    def __init__(self, streams: int, partitions: int) -> None:
        self.sent, self._streams, self._partitions = 0, streams, partitions

    def next(self) -> tuple[int, bytes, bytes]:
        """Partition, key and value of a record."""
        turn, s = divmod(self.sent, self._streams)
        self.sent += 1
        body = b'{"stream": "sensor-%07d", "time": %d, "value": %d.5}' % (s, FIRST_MS + turn * STEP_MS, (s * turn) % 97)
        return s % self._partitions, b"sensor-%07d" % s, body


def memory_mib(pid: int, field: str = "VmRSS") -> float:
    """A figure of the kernel's about a process's memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def stop(subject: Subject) -> tuple[float, float]:
    """Stop it cleanly; the CPU and the wall seconds of that."""
    pid, began = subject.worker.pid, time.monotonic()
    before = cpu_s(pid)[0]
    subject.worker.tell(signal.SIGTERM)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":  # until then its CPU counts
        time.sleep(0.05)
    used = cpu_s(pid)[0] - before, time.monotonic() - began
    subject.cluster.stop()
    return used


def restart(subject: Subject) -> Iterator[tuple[str, float]]:
    """Start it; what it takes until each of the steps, in seconds from the start."""
    cluster, worker = subject.cluster, subject.worker
    began = time.monotonic()
    worker.start()
    for step, there in (
        ("listening", lambda: worker.life.port > 0),
        ("loaded", lambda: {*worker.life.states.values()} <= {"loaded", "live"} and all_there(subject)),
        ("live", lambda: {*worker.life.states.values()} == {"live"} and all_there(subject)),
    ):
        cluster.wait_for(there, step, LIMIT_S)
        yield f"killed to {step}, s", time.monotonic() - began
    while not is_ready(subject):
        time.sleep(0.05)
    yield "killed to ready, s", time.monotonic() - began


def is_ready(subject: Subject) -> bool:
    """Whether the worker answers so."""
    with suppress(OSError):
        return bool(subject.worker.page("/readyz"))
    return False


def all_there(subject: Subject) -> bool:
    """Whether every partition is in some state."""
    return len(subject.worker.life.states) == subject.cluster.partitions


def measure(on: Stand, tables: Sections, given: argparse.Namespace) -> dict[str, float]:
    """Figures of one worker's lives."""
    cluster = on.cluster({**tables, "worker": {**KEPT, **tables.get("worker", {})}})
    with Subject(cluster, 1) as subject:
        subject.events = Events(on.streams, on.partitions)
        cluster.wait_until_live(LIMIT_S)
        floor = memory_mib(subject.worker.pid)
        for _ in range(given.warm):
            subject.feed(on.streams)
            subject.wait_until_committed()
        figures = {"RSS without streams, MiB": floor, "RSS, MiB": memory_mib(subject.worker.pid)}
        plan, history = Plan.of(cluster.settings), cluster.settings.history
        kept = RecentStreams(plan.method, min(history.streams, on.streams), history.points).nbytes
        size = subject.worker.metric("foldcast_stream_state_bytes") + NAME
        figures["RSS by the formula's"] = figures["RSS, MiB"] / (floor + (kept + on.streams * size) / 2**20)
        cpu, seconds = stop(subject)
        figures |= {"snapshot, CPU us/stream": cpu / on.streams * 1e6, "snapshot and stop, s": seconds}
        subject.worker.start()
        cluster.wait_until_live(LIMIT_S)
        subject.feed(given.tail)
        subject.wait_until_committed()
        subject.worker.kill()
        figures |= dict(restart(subject))
        pid = subject.worker.pid
        figures |= {"RSS restored, MiB": memory_mib(pid), "its peak, MiB": memory_mib(pid, "VmHWM")}
        time.sleep(IDLE_S / 4)
        before = cpu_s(pid)[0]
        time.sleep(IDLE_S)
        figures["idle, % of a core"] = (cpu_s(pid)[0] - before) / IDLE_S * 100
    return figures


def main() -> None:
    parser = options(__doc__, runs=1)
    add_options(parser, streams=100_000, partitions=8, warm=2)
    parser.add_argument("--tail", type=int, default=300_000, help="events after the image (%(default)s)")
    given = parser.parse_args()
    report = Report(f"{given.streams:,} streams in {given.partitions} partitions, a tail of {given.tail:,} events")
    with stand(given.streams, given.partitions) as on:
        for _ in range(given.runs):
            for name, tables in variants(given.variant).items():
                report.add(name, measure(on, tables, given))
    report.show(given.json)


if __name__ == "__main__":
    main()
