"""Latency at a fixed rate: from sending an event to reading its forecast, `read_committed`, for each variant.

All variants' workers run throughout, each on topics of its own, warmed up; windows of `--seconds` are fed to one after
the other (A B A B ...), so that only one has work at a time. The rate is `--rate`, or half of what a drain by the first
variant reached. An event counts from the moment it is handed to a producer that does not linger; its forecast is read
when a consumer's poll has returned it. The first `--settle` seconds of a window do not count. Shares of a core are the
worker's and, apart, its children's (the trainer, where it has one).
"""

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
from bench_drain import drain
from report import Report, options
from stand import Stand, Subject, add_options, say, stand, variants

from worker.broker.restore import TopicReader
from worker.broker.security import open_producer

TICK_S = 0.01  # more often, and sending costs as much CPU as forecasting
LATE_S = 30.0  # a forecast that takes longer is missing
MARK = b'"time":'


class Window:
    """Events sent at a rate, and when the forecast of each was read."""

    def __init__(self, subject: Subject, rate: float, seconds: float) -> None:
        self._subject, self._rate = subject, rate
        self._first = subject.events.sent
        self.sent_s = np.zeros(int(rate * seconds))
        self.read_s = np.zeros(len(self.sent_s))

    def run(self, settle_s: float) -> dict[str, float]:
        """Send and read it all; the figures after `settle_s`."""
        subject = self._subject
        connection, output = subject.cluster.connection, subject.cluster.topics.output
        with TopicReader(connection, output) as reader:
            ends = reader.ends()
        with TopicReader(connection, output, ends) as reader, ThreadPoolExecutor(2) as threads:
            following = threads.submit(self._follow, reader)
            feeding = threads.submit(self._feed)
            time.sleep(settle_s)
            before = subject.account(subject.updates())
            feeding.result()
            used = subject.account(subject.updates()).since(before)
            following.result()
        settled = slice(int(settle_s * self._rate), None)
        p50, p95, p99 = np.percentile((self.read_s - self.sent_s)[settled], [50, 95, 99]) * 1000
        return {
            "p50 ms": p50,
            "p95 ms": p95,
            "p99 ms": p99,
            "events/s sent": (len(self.sent_s) - 1) / (self.sent_s[-1] - self.sent_s[0]),
            "cores": used.cpu_s / used.seconds,
            "cores, children": used.children_cpu_s / used.seconds,
            "updates/s": used.updates / used.seconds,
        }

    def _feed(self) -> None:
        """Open loop: what is late is caught up."""
        topic, events = self._subject.cluster.topics.input, self._subject.events
        producer = open_producer(self._subject.cluster.connection, linger_ms=0, batch_size=65_536)
        began, done = time.monotonic(), 0
        while done < len(self.sent_s):
            due = min(len(self.sent_s), int((time.monotonic() - began) * self._rate))
            for place in range(done, due):
                partition, key, value = events.next()
                self.sent_s[place] = time.monotonic()
                producer.send(topic, value, key, None, partition)
            done = due
            time.sleep(TICK_S)
        producer.close()

    def _follow(self, reader: TopicReader) -> None:
        """Until every forecast was read. Raises SystemExit where some do not come."""
        missing, last = len(self.read_s), time.monotonic()
        while missing:
            records = reader.poll(0.05)
            now = time.monotonic()
            for record in records:
                value = record.value or b""
                at = value.index(MARK) + len(MARK)
                self.read_s[self._subject.events.place(int(value[at : value.index(b",", at)])) - self._first] = now
            missing -= len(records)
            last = now if records else last
            if now - last > LATE_S:
                raise SystemExit(f"{missing} forecasts are missing\n{self._subject.cluster.ends_of_logs()}")


def measure(on: Stand, given: argparse.Namespace, report: Callable[[float], Report]) -> Report:
    chosen = variants(given.variant)
    rate = given.rate
    if rate is None:
        with on.worker(next(iter(chosen.values()))) as subject:
            rate = drain(subject, given.warm, given.events)["events/s"] / 2
    made = report(rate)
    with ExitStack() as stack:
        subjects = {name: stack.enter_context(on.worker(tables)) for name, tables in chosen.items()}
        for name, subject in subjects.items():
            say(f"warming up {name}")
            subject.warm(given.warm)
        for _ in range(given.runs):
            for name, subject in subjects.items():
                made.add(name, Window(subject, rate, given.seconds).run(given.settle))
    return made


def main() -> None:
    parser = options(__doc__, runs=5)
    add_options(parser, streams=2000, partitions=8, warm=60)
    parser.add_argument("--rate", type=float, help="events/s; without it half of a drain's")
    parser.add_argument("--events", type=int, default=100_000, help="of that drain (%(default)s)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a window (%(default)s)")
    parser.add_argument("--settle", type=float, default=2.0, help="of these that do not count (%(default)s)")
    given = parser.parse_args()
    sys.setswitchinterval(0.001)  # sending and reading share this process
    with stand(given.streams, given.partitions) as on:
        title = f"{given.streams:,} streams, {given.partitions} partitions, windows of {given.seconds:g} s"
        report = measure(on, given, lambda rate: Report(f"latency at {rate:,.0f} events/s, {title}"))
    report.show(given.json)


if __name__ == "__main__":
    main()
