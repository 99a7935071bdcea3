"""The stand of the measurements on Kafka: one broker, and subjects (a worker or the echo) on topics of their own.

A subject is fed and waited for before it is measured, so that neither start-up nor cold rows count. CPU is what the
kernel accounts to a process, all its threads, as its getrusage would say: read from /proc, so Linux only, 10 ms steps.
"""

import argparse
import math
import os
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, as for the tests
sys.path.insert(0, str(Path(__file__).parents[2]))

from kafka.errors import RetriableError

from tests.rigs.cluster import FIRST_MS, STEP_MS, Cluster, Worker
from worker.broker.produce import FastProducer
from worker.broker.security import open_admin
from worker.demo.local_kafka import local_kafka

Sections = dict[str, dict[str, object]]

LIMIT_S = 300.0
LOOK_S = 0.05  # between two looks at the committed offsets, which cost a millisecond
SESSION_S = 60  # longer than a subject is held while it is fed
UPDATES = "foldcast_fine_tune_updates_total"
FIRST_UPDATE_S = 30.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def add_options(parser: argparse.ArgumentParser, streams: int, partitions: int, warm: int) -> None:
    """What all measurements of a running worker can be told."""
    add_variants(parser)
    for name, default, text in (
        ("--streams", streams, ""),
        ("--partitions", partitions, ""),
        ("--warm", warm, "events of each stream before anything counts "),
    ):
        parser.add_argument(name, type=int, default=default, help=f"{text}(%(default)s)")


def add_variants(parser: argparse.ArgumentParser) -> None:
    """`--variant NAME SETTING=VALUE ...`"""
    text = "what to measure, any number of times, such as: --variant off FOLDCAST_FINE_TUNE__ENABLED=false"
    parser.add_argument("--variant", action="append", nargs="+", metavar=("NAME", "SETTING=VALUE"), help=text)


def variants(given: list[list[str]] | None) -> dict[str, Sections]:
    """Settings by variant's name; the default settings where none is given."""
    found: dict[str, Sections] = {}
    for variant, *settings in given or [["worker"]]:
        found[variant] = {}
        for setting in settings:
            name, _, value = setting.partition("=")
            section, _, key = name.removeprefix("FOLDCAST_").lower().partition("__")
            found[variant].setdefault(section, {})[key] = value
    return found


class Events:
    """Streams in turn, one event a minute each: a level, a daily wave, and noise that stays a while."""

    def __init__(self, streams: int, partitions: int) -> None:
        assert streams <= STEP_MS, "each event has a time of its own"
        self.sent = 0
        self._partitions, self._noise, self._random = partitions, [0.0] * streams, random.Random(1)

    def next(self) -> tuple[int, bytes, bytes]:
        """Partition, key and value of a record."""
        turn, s = divmod(self.sent, len(self._noise))
        self.sent += 1
        self._noise[s] = 0.9 * self._noise[s] + self._random.gauss(0, 1)
        value = 100 + s % 50 + 10 * math.sin(2 * math.pi * turn / 1440 + s) + self._noise[s]
        body = f'{{"stream": "sensor-{s:06}", "time": {FIRST_MS + turn * STEP_MS + s}, "value": {value:.3f}}}'
        return s % self._partitions, b"sensor-%06d" % s, body.encode()

    def place(self, time_ms: int) -> int:
        """Which event it was that had this time."""
        turn, s = divmod(time_ms - FIRST_MS, STEP_MS)
        return turn * len(self._noise) + s


class Account(NamedTuple):
    """What a subject has used and done up to a moment, or between two."""

    seconds: float
    cpu_s: float
    children_cpu_s: float
    updates: float

    def since(self, before: "Account") -> "Account":
        return Account(*(now - then for now, then in zip(self, before, strict=True)))


class Subject:
    """A worker, or what stands in its place, fed by us; a context manager that leaves no process."""

    def __init__(self, cluster: Cluster, streams: int, kind: type[Worker] = Worker, *options: str) -> None:
        self.cluster = cluster
        self.events = Events(streams, cluster.partitions)
        self._streams, self._group = streams, cluster.settings.kafka.group_id
        self._admin = open_admin(cluster.connection)
        self.worker = kind("one", cluster, *options)
        cluster.workers.append(self.worker)
        self.worker.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._admin.close()
        if kind is None:
            self.cluster.stop()
        self.cluster.__exit__()

    def feed(self, count: int) -> None:
        """Send so many events as fast as it goes."""
        with FastProducer(self.cluster.connection) as producer:
            for _ in range(count):
                producer.send(self.cluster.topics.input, *self.events.next())
            producer.flush()

    def wait_until_committed(self) -> None:
        """Until the group's offsets are behind everything that was sent (a plain feeder's offsets have no holes)."""
        deadline = time.monotonic() + LIMIT_S
        while self._committed() < self.events.sent:
            if not self.worker.running or time.monotonic() > deadline:
                raise SystemExit(f"{self._group} ended or hangs\n{self.cluster.ends_of_logs()}")
            time.sleep(LOOK_S)

    def _committed(self) -> int:
        with suppress(RetriableError):  # a fresh Kafka finds no coordinator for a second or so
            offsets = self._admin.list_group_offsets({self._group: None})[self._group]
            return sum(max(entry.offset, 0) for entry in offsets.values())
        return 0

    def warm(self, turns: int) -> None:
        """Take in so many events of each stream; where it learns, until it has."""
        self.feed(turns * self._streams)
        self.wait_until_committed()
        learns = self.cluster.settings.fine_tune.enabled and self.worker.life.port
        deadline = time.monotonic() + FIRST_UPDATE_S
        while learns and self.updates() == 0 and time.monotonic() < deadline:
            time.sleep(0.5)

    def updates(self) -> float:
        """Optimiser steps so far; 0 where nothing learns."""
        made = self.worker.metric(UPDATES) if self.worker.life.port else 0.0
        return 0.0 if math.isnan(made) else made

    def account(self, updates: float) -> Account:
        """As of now, but for the updates: a process that is held does not tell them."""
        return Account(time.monotonic(), *cpu_s(self.worker.pid), updates)


def cpu_s(pid: int) -> tuple[float, float]:
    """Seconds of CPU of a process, and of all below it, those that have ended included."""
    parents, used = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            fields = entry.read_text().rpartition(")")[2].split()
            user, system, ended_user, ended_system = (int(ticks) * TICK_S for ticks in fields[11:15])
            parents[int(entry.parent.name)] = int(fields[1])
            used[int(entry.parent.name)] = user + system, ended_user + ended_system
    below, family = used[pid][1], [pid]
    for member in family:  # grows
        children = [child for child, parent in parents.items() if parent == member]
        below += sum(sum(used[child]) for child in children)
        family += children
    return used[pid][0], below


@dataclass(frozen=True)
class Stand:
    """One Kafka, and topics for each subject."""

    bootstrap: str
    home: Path
    streams: int
    partitions: int

    def cluster(self, tables: Sections) -> Cluster:
        """Topics and settings nobody else has."""
        name = f"bench-{uuid.uuid4().hex[:8]}"
        home = self.home / name
        home.mkdir()
        kafka = {"session_timeout_s": SESSION_S, **tables.get("kafka", {})}
        return Cluster(self.bootstrap, name, home, self.partitions, **{**tables, "kafka": kafka})

    def worker(self, tables: Sections) -> Subject:
        """A worker with these settings, started."""
        return Subject(self.cluster(tables), self.streams)


@contextmanager
def stand(streams: int, partitions: int) -> Iterator[Stand]:
    """On a Kafka of its own, or on the one the environment names."""
    with local_kafka(say=say) as kafka, tempfile.TemporaryDirectory(prefix="foldcast-bench-") as home:
        yield Stand(kafka.bootstrap_servers, Path(home), streams, partitions)


def say(text: str) -> None:
    """Progress, beside the result."""
    print(text, file=sys.stderr, flush=True)
