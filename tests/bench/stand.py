"""The test stand of the measurements on Kafka: one broker, and subjects (worker or echo) on topics of their own.

A subject is warmed up with events first, so that what is measured is neither start-up nor cold rows. CPU is what the
kernel accounts to the process, all its threads, as getrusage would say in it: /proc, so Linux only, in steps of 10 ms.
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
from pathlib import Path
from typing import NamedTuple, Self

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, as for the tests
sys.path.insert(0, str(Path(__file__).parents[1] / "kafka"))

import numpy as np
from cluster import FIRST_MS, STEP_MS, Cluster, Worker
from kafka.errors import RetriableError

from worker.broker.produce import FastProducer
from worker.broker.security import open_admin
from worker.local_kafka import local_kafka

Sections = dict[str, dict[str, object]]

LIMIT_S = 300.0
LOOK_S = 0.05  # how often the committed offsets are asked for: a thousandth of a core
UPDATES = "foldcast_fine_tune_updates_total"
FIRST_UPDATE_S = 30.0
SESSION_S = 60  # longer than a subject is held while it is fed
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def add_options(parser: argparse.ArgumentParser, streams: int, partitions: int, warm: int) -> None:
    """The options that all measurements of a running worker have."""
    parser.add_argument("--streams", type=int, default=streams, help="(%(default)s)")
    parser.add_argument("--partitions", type=int, default=partitions, help="(%(default)s)")
    parser.add_argument("--warm", type=int, default=warm, help="events of each stream before it counts (%(default)s)")
    add_variants(parser)


def add_variants(parser: argparse.ArgumentParser) -> None:
    """`--variant`."""
    parser.add_argument(
        "--variant",
        dest="variants",
        action="append",
        nargs="+",
        metavar=("NAME", "SETTING=VALUE"),
        help="a worker to measure, any number of times, such as: off FOLDCAST_FINE_TUNE__ENABLED=false",
    )


def variants(given: list[list[str]] | None) -> dict[str, Sections]:
    """Settings by variant; a worker as it comes where none is given."""
    return {name: sections(settings) for name, *settings in given or [["worker"]]}


def sections(settings: list[str]) -> Sections:
    """From FOLDCAST_SECTION__NAME=VALUE."""
    tables: Sections = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        section, _, key = name.removeprefix("FOLDCAST_").lower().partition("__")
        tables.setdefault(section, {})[key] = value
    return tables


# ---- what is fed


class Events:
    """Streams in turn, one event a minute each: a level, a daily wave and noise that stays a while."""

    def __init__(self, streams: int, partitions: int) -> None:
        assert streams <= STEP_MS, "each event has a time of its own"
        self.sent = 0
        self.streams, self._partitions = streams, partitions
        self._noise = [0.0] * streams
        self._random = random.Random(1)

    def next(self) -> tuple[int, bytes, bytes]:
        """Partition, key and value of a record."""
        turn, s = divmod(self.sent, self.streams)
        self.sent += 1
        self._noise[s] = 0.9 * self._noise[s] + self._random.gauss(0, 1)
        value = 100 + s % 50 + 10 * math.sin(2 * math.pi * (turn / 1440 + s / self.streams)) + self._noise[s]
        body = f'{{"stream": "sensor-{s:06}", "time": {FIRST_MS + turn * STEP_MS + s}, "value": {value:.3f}}}'
        return s % self._partitions, b"sensor-%06d" % s, body.encode()

    def place(self, time_ms: int) -> int:
        """Which event it was that had this time."""
        turn, s = divmod(time_ms - FIRST_MS, STEP_MS)
        return turn * self.streams + s


# ---- who is measured


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
        self._group = cluster.settings.kafka.group_id
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
        try:
            offsets = self._admin.list_group_offsets({self._group: None})[self._group]
        except RetriableError:  # a fresh cluster finds no coordinator for a second or so
            return 0
        return sum(max(entry.offset, 0) for entry in offsets.values())

    def warm(self, turns: int) -> None:
        """Take in so many events of each stream and, where it learns, make a first update."""
        self.feed(turns * self.events.streams)
        self.wait_until_committed()
        deadline = time.monotonic() + FIRST_UPDATE_S
        while self._learns and self.updates() == 0 and time.monotonic() < deadline:
            time.sleep(0.5)

    @property
    def _learns(self) -> bool:
        learning = getattr(self.cluster.settings, "fine_tune", None)
        return learning is not None and learning.enabled and bool(self.worker.life.port)

    def updates(self) -> float:
        """Optimiser steps so far; 0 where nothing learns."""
        return np.nan_to_num(self.worker.metric(UPDATES)).item() if self.worker.life.port else 0.0

    def account(self, updates: float) -> Account:
        """As of now, but for the updates: whoever stops the process must ask for them before."""
        return Account(time.monotonic(), *cpu_s(self.worker.pid), updates)


def cpu_s(pid: int) -> tuple[float, float]:
    """Seconds of CPU of a process, and of all below it, those that have ended included."""
    parents, used = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            fields = entry.read_text().rpartition(")")[2].split()
            parents[int(entry.parent.name)] = int(fields[1])
            user, system, ended_user, ended_system = (int(ticks) * TICK_S for ticks in fields[11:15])
            used[int(entry.parent.name)] = user + system, ended_user + ended_system
    below, found = 0.0, [pid]
    for one in found:  # grows
        below += used[one][1] + (used[one][0] if one != pid else 0.0)
        found += [child for child, parent in parents.items() if parent == one]
    return used[pid][0], below


# ---- the stand


class Stand:
    """One Kafka, and a cluster of topics for each subject."""

    def __init__(self, bootstrap: str, home: Path, streams: int, partitions: int) -> None:
        self._bootstrap, self._home = bootstrap, home
        self.streams, self.partitions = streams, partitions
        self._made = 0

    def cluster(self, tables: Sections) -> Cluster:
        """Topics and settings nobody else has."""
        self._made += 1
        home = self._home / str(self._made)
        home.mkdir()
        kafka = {"session_timeout_s": SESSION_S, **tables.get("kafka", {})}
        name = f"bench-{uuid.uuid4().hex[:8]}"
        return Cluster(self._bootstrap, name, home, self.partitions, **{**tables, "kafka": kafka})

    def worker(self, tables: Sections) -> Subject:
        """A worker with these settings, started."""
        return Subject(self.cluster(tables), self.streams)


@contextmanager
def stand(streams: int, partitions: int) -> Iterator[Stand]:
    """With a Kafka of its own, or the one the environment names."""
    with local_kafka(say=say) as kafka, tempfile.TemporaryDirectory(prefix="foldcast-bench-") as home:
        yield Stand(kafka.bootstrap_servers, Path(home), streams, partitions)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
