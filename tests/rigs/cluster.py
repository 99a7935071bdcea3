"""Workers as processes on a real Kafka: started, killed, fed; and their shards rebuilt from the log to compare."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Event, Thread
from typing import NamedTuple, Protocol
from urllib.request import urlopen

import numpy as np
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from pipeline.batch import Batch
from pipeline.durable.image import Image, read_image
from pipeline.learning.adoption import Adoption
from pipeline.network.model import Shape
from pipeline.shard import Shard
from tests.rigs.client import chosen_client
from tests.rigs.networks import with_head
from worker import topics
from worker.broker import admin
from worker.broker.contract import BrokerError
from worker.broker.produce import FastProducer
from worker.broker.producer import close, discard
from worker.broker.restore import TopicReader, TopicRecord, read_all
from worker.broker.security import open_admin, open_producer
from worker.lives.loading import loaded
from worker.plan import Plan
from worker.settings.kafka import Kafka
from worker.settings.method import method_of
from worker.settings.settings import Settings
from worker.settings.sources import load

LIMIT_S = 120.0
LIVE_S = 180.0  # where nothing is compiled yet, and the machine is busy
STANDSTILL_S = 5.0
FIRST_MS = 1_357_020_000_000  # the first event's time
STEP_MS = 60_000
WORD = re.compile(r"(\w+)=(\S+)")
EVENTS = ("restoring", "loaded", "live", "dropped", "listening")

# ---- workers


@dataclass
class Life:
    """One process of a worker, as its log tells."""

    states: dict[int, str] = field(default_factory=dict)  # by partition: restoring, loaded, live
    port: int = 0
    ended: bool = False  # its output is closed


class State(NamedTuple):
    """A shard in a worker's memory, by digests."""

    partition: int
    offset: int
    adoption: int  # offset its weights hold from
    rows: str
    weights: str


class Worker:
    """A worker with one instance id and one life after the other."""

    module = "worker"

    def __init__(self, name: str, cluster: "Cluster", *options: str) -> None:
        self.name = name
        self.environment: dict[str, str] = {}  # beside the cluster's
        self.log = cluster.home / f"{name}.log"
        self.tails: list[int] = []  # offsets folded silently, restore by restore
        self.states: list[State] = []  # as each shard was when it became live
        self.life = Life(ended=True)
        self._cluster, self._options = cluster, options
        self._process: subprocess.Popen[str] | None = None
        self._reader: Thread | None = None

    @property
    def program(self) -> list[str]:
        """What is started, without its options."""
        return [sys.executable, "-u", "-m", self.module, "run"]

    def start(self) -> None:
        """Returns at once."""
        self.life = Life()
        self._process = subprocess.Popen(
            [*self.program, *self._options],
            env={**self._cluster.environment, "FOLDCAST_KAFKA__INSTANCE_ID": self.name, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self._reader = Thread(target=self._read, args=(self._process, self.life), daemon=True)
        self._reader.start()

    def _read(self, process: "subprocess.Popen[str]", life: Life) -> None:
        assert process.stdout is not None
        with self.log.open("a") as file:
            for line in process.stdout:
                file.write(line)
                file.flush()
                with self._cluster.changed:
                    self._take(line, life)
                    self._cluster.changed.notify_all()
        with self._cluster.changed:
            life.ended = True
            self._cluster.changed.notify_all()

    def _take(self, line: str, life: Life) -> None:
        _, stated, text = line.partition(" DEBUG state ")
        if stated:
            fields = dict(WORD.findall(text))
            numbers = (int(fields[name]) for name in ("partition", "offset", "adoption"))
            self.states.append(State(*numbers, fields["rows"], fields["weights"]))
            return
        _, _, text = line.partition(" INFO ")
        event = text.split(" ", 1)[0].strip()
        if event not in EVENTS:
            return
        fields = dict(WORD.findall(text))
        if event == "listening":
            life.port = int(fields["port"])
        if event == "loaded":
            self.tails.append(int(fields["tail"]))
        if event == "restoring" and "partitions" in fields:
            life.states.update(dict.fromkeys(map(int, fields["partitions"].split(",")), event))
        if "partition" not in fields:
            return
        if event == "dropped":
            life.states.pop(int(fields["partition"]), None)
        else:
            life.states[int(fields["partition"])] = event

    def page(self, path: str, limit_s: float = 10.0) -> bytes:
        """What its HTTP server answers. Raises OSError where it does not, or with an error."""
        with urlopen(f"http://127.0.0.1:{self.life.port}{path}", timeout=limit_s) as answer:
            return bytes(answer.read())

    def metrics(self, limit_s: float = 10.0) -> dict[str, float]:
        """All metrics of a scrape, their labels written out. Raises OSError where it does not answer."""
        lines = [line for line in self.page("/metrics", limit_s).decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def metric(self, name: str) -> float:
        """A metric, its labels written out, as a scrape gives it; NaN before there is one."""
        return self.metrics().get(name, float("nan"))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def tell(self, sign: signal.Signals) -> None:
        """Send a signal; returns at once."""
        assert self._process is not None
        self._process.send_signal(sign)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.tell(signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Exit code of the process, when it is gone."""
        assert self._process is not None
        assert self._reader is not None
        assert self._process.stdout is not None
        code = self._process.wait(LIMIT_S)
        self._reader.join()
        self._process.stdout.close()
        return code

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None


class Cluster:
    """Topics of one test, the settings for them, and the workers; a context manager that leaves no process."""

    def __init__(
        self,
        bootstrap: str,
        name: str,
        home: Path,
        partitions: int,
        replication: int = 1,
        **sections: dict[str, object],
    ) -> None:
        self.partitions = partitions
        self.home = home
        self.changed = Condition()  # a worker has said something
        self.over = Event()  # ends what runs beside a test, however that ended
        self.beside: list[Thread] = []
        self.workers: list[Worker] = []
        self._last_ms = FIRST_MS
        self.event_bytes: Callable[[str, object, object], bytes] = event_bytes  # as the settings want a message
        values: dict[str, dict[str, object]] = {
            "kafka": {
                "bootstrap_servers": bootstrap,
                "input_topic": f"{name}-in",
                "output_topic": f"{name}-out",
                "group_id": name,
                "session_timeout_s": 6,
                "client": chosen_client(),
            },
            "http": {"host": "127.0.0.1", "port": 0},
            "worker": {"give_up_s": 60},
        }
        for section, settings in sections.items():
            values.setdefault(section, {}).update(settings)
        outside = {n: v for n, v in os.environ.items() if not n.startswith("FOLDCAST_")}
        self.environment = {**outside, **environment_of(values)}
        self.settings: Settings = load(None, self.environment)
        self.plan: Plan = Plan.of(self.settings)
        self.topics = topics.names_of(self.settings)
        self.connection = self.settings.kafka
        topics.create(self.settings, partitions, replication)

    def worker(self, name: str, *options: str) -> Worker:
        """Start one."""
        worker = Worker(name, self, *options)
        self.workers.append(worker)
        worker.start()
        return worker

    def wait_for(self, condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> float:
        """Until the workers' logs make it true; the seconds it took."""
        began = time.monotonic()
        with self.changed:
            if not self.changed.wait_for(condition, limit_s):
                raise AssertionError(f"{what}: not within {limit_s} s\n{self.ends_of_logs()}")
        return time.monotonic() - began

    def happens(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Whether the workers' logs make it true in time."""
        with self.changed:
            return self.changed.wait_for(condition, limit_s)

    def wait_until_live(self, limit_s: float = LIVE_S) -> float:
        """Until every partition is live somewhere and every worker has its share; the seconds it took."""
        took = self.wait_for(lambda: self._all_live() or self._ended(), "all partitions live", limit_s)
        assert not self._ended(), f"a worker ended by itself\n{self.ends_of_logs()}"
        return took

    def _all_live(self) -> bool:
        lives = [worker.life.states for worker in self.workers]
        states = [(partition, state) for states in lives for partition, state in states.items()]
        return all(lives) and sorted(states) == [(partition, "live") for partition in range(self.partitions)]

    def _ended(self) -> bool:
        return any(worker.life.ended for worker in self.workers)

    def ends_of_logs(self) -> str:
        return "\n".join(f"{w.name}:\n" + "\n".join(w.log.read_text().splitlines()[-15:]) for w in self.workers)

    def logs(self) -> str:
        return "".join(worker.log.read_text() for worker in self.workers)

    def stop(self) -> None:
        """SIGTERM all that run, one exit code 0 each."""
        running = [worker for worker in self.workers if worker.running]
        for worker in running:
            worker.tell(signal.SIGTERM)
        codes = {worker.name: worker.wait() for worker in running}
        assert set(codes.values()) <= {0}, f"{codes}\n{self.ends_of_logs()}"

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for worker in self.workers:
            if worker.running:
                worker.kill()
        for thread in self.beside:
            if thread.is_alive():
                thread.join(LIMIT_S)

    # ---- what is in the topics

    def read(self, topic: str) -> list[TopicRecord]:
        return list(read_all(self.connection, topic))

    def configure(self, topic: str, configs: Mapping[str, str]) -> None:
        """Change these settings of a topic; others stay as they are."""
        client = open_admin(self.connection)
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict(configs))])
        client.close()

    def committed(self) -> dict[int, int]:
        return admin.group_offsets(self.connection, self.settings.kafka.group_id, self.topics.input)

    def await_last(self) -> None:
        """Send one more event to each partition and wait until a reader has seen the forecasts of these."""
        self._last_ms += STEP_MS
        with TopicReader(self.connection, self.topics.output) as reader:
            starts = reader.ends()
        with (
            FastProducer(self.connection) as producer,
            TopicReader(self.connection, self.topics.output, starts) as reader,
        ):
            for partition in range(self.partitions):
                body = self.event_bytes(f"last-{partition}", self._last_ms, 1.0)
                producer.send(self.topics.input, partition, None, body)
            producer.flush()
            missing, deadline = set(range(self.partitions)), time.monotonic() + LIMIT_S
            while missing:
                missing -= {
                    r.partition for r in reader.poll(0.2) if (r.key or b"").split(b"/")[0] == b"last-%d" % r.partition
                }
                assert time.monotonic() < deadline, f"no forecasts in {missing}\n{self.ends_of_logs()}"


def environment_of(sections: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """Settings as variables."""
    return {
        f"FOLDCAST_{s}__{name}".upper(): str(value) for s, table in sections.items() for name, value in table.items()
    }


def named(bootstrap: str, unique: str, **sections: dict[str, object]) -> Settings:
    """Settings for topics of a test, none of which is there."""
    return load(
        None,
        {},
        kafka={
            "bootstrap_servers": bootstrap,
            "input_topic": f"{unique}-in",
            "output_topic": f"{unique}-out",
            "group_id": unique,
        },
        output={"rows_topic": f"{unique}-rows"},
        **sections,
    )


def random_weights(settings: Settings, path: Path) -> None:
    """A checkpoint whose head is not zero, so that forecasts depend on the hidden state."""
    path.write_bytes(with_head(Shape.of(method_of(settings)), 3, 4, 0.5).dump())


# ---- feeding


def send_packed(kafka: Kafka, topic: str, partition: int, value: bytes, compression: str, key: bytes = b"k") -> None:
    """Send one record in a batch of its own, as small as the compression makes it, however large it is."""
    producer = open_producer(kafka, compression_type=compression, max_request_size=1 << 30)
    try:
        producer.send(topic, value, key, None, partition).get(LIMIT_S)
    finally:
        close(producer, LIMIT_S)


def event_bytes(stream: str, time_ms: object, value: object) -> bytes:
    return json.dumps({"stream": stream, "time": time_ms, "value": value}).encode()


class Records(Protocol):
    """Where records come from."""

    def next(self) -> tuple[int, bytes | None, bytes | None]:
        """Partition, key and value of a record."""


class Source:
    """Events of many streams with a percent each of what must not be forecast."""

    def __init__(self, streams: int, partitions: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._streams, self._partitions = streams, partitions
        self._count = [0] * streams
        self._value = [100.0 + s for s in range(streams)]

    def next(self) -> tuple[int, bytes | None, bytes | None]:
        """Partition, key and value of a record."""
        rng, s = self._random, self._random.randrange(self._streams)
        name, partition = f"stream-{s}", s % self._partitions
        time_ms, value = FIRST_MS + STEP_MS * self._count[s], self._value[s]
        match rng.randrange(100):
            case 0:
                body = event_bytes(name, time_ms - STEP_MS * rng.randint(1, 5), value + 1)  # late
            case 1:
                body = event_bytes(name, time_ms, value)  # the same again
            case 2:
                body = event_bytes(name, time_ms + STEP_MS, None)
            case 3:
                return partition, name.encode(), rng.randbytes(rng.randint(0, 40))
            case 4:
                body = event_bytes(name, time_ms, value + 0.5)  # same time, another value
            case 5:
                return partition, name.encode(), None
            case 6:
                wrong = (True, "7", [1], {}, 1e200)
                body = event_bytes(name, time_ms + STEP_MS, rng.choice(wrong))
            case 7:
                body = event_bytes(name, 32_503_680_000, 1.0)  # of the year 3000
            case _:
                self._count[s] += 1
                self._value[s] = value = round(value + rng.gauss(0, 1), 4)
                body = event_bytes(name, time_ms + STEP_MS, value)
        return partition, rng.choice((name.encode(), None)), body


class Feeder(Thread):
    """Sends a source's records at a rate until it is told to stop, some in transactions, a part of which abort."""

    def __init__(
        self,
        cluster: Cluster,
        source: Records,
        rate: float,
        transactions: bool = True,
        patient: bool = False,
        limit_s: float = 30.0,
    ) -> None:
        """A patient one goes on with a new producer when the broker was away; what it sent then may be lost."""
        super().__init__(daemon=True)
        self.sent = 0
        self._transactions, self._patient, self._limit_s = transactions, patient, limit_s
        self._cluster, self._source, self._rate = cluster, source, rate
        self._stop_asked = Event()
        self._error: Exception | None = None
        cluster.beside.append(self)

    def run(self) -> None:
        try:
            while not self._ends():
                with suppress(*((BrokerError, KafkaError) if self._patient else ())):
                    self._feed()
        except Exception as error:  # noqa: BLE001 - told by `finish`
            self._error = error

    def _feed(self) -> None:
        topic, began, before, round_number = self._cluster.topics.input, time.monotonic(), self.sent, 0
        with ExitStack() as stack:
            producer = stack.enter_context(FastProducer(self._cluster.connection, self._limit_s))
            if self._transactions:
                within = open_producer(self._cluster.connection, transactional_id=f"{topic}-feeder")
                stack.callback(discard, within)
                within.init_transactions()
            while not self._ends(0.02):
                due = int((time.monotonic() - began) * self._rate) - (self.sent - before)
                for _ in range(due):
                    producer.send(topic, *self._source.next())
                self.sent += due
                round_number += 1
                if round_number % 50 == 0:
                    producer.flush()  # what did not arrive is told by nothing else
                if self._transactions and round_number % 100 == 0:
                    within.begin_transaction()
                    for partition, key, value in (self._source.next() for _ in range(20)):
                        within.send(topic, value, key, None, partition)
                    within.flush()
                    within.abort_transaction() if round_number % 200 == 0 else within.commit_transaction()
            producer.flush()

    def _ends(self, wait_s: float = 0.0) -> bool:
        return self._stop_asked.wait(wait_s) or self._cluster.over.is_set()

    def finish(self) -> None:
        """Stop, with everything that was sent acknowledged."""
        self._stop_asked.set()
        self.join(max(LIMIT_S, 2 * self._limit_s))
        assert not self.is_alive(), "the feeder hangs"
        if self._error is not None:
            raise self._error


# ---- shards from the log


def by_partition(records: Sequence[TopicRecord]) -> dict[int, list[TopicRecord]]:
    parted: dict[int, list[TopicRecord]] = defaultdict(list)
    for record in records:
        parted[record.partition].append(record)
    return parted


def image_of(changelog: Sequence[TopicRecord]) -> Image:
    return read_image((record.key or b"", record.value) for record in changelog)


Logged = Mapping[int, Adoption]  # by the offset it holds from


class AdoptionFollower(Thread):
    """Reads the changelog as it is written and remembers every adoption, deleted or not.

    One that was deleted and compacted away before it was read is in `missed`: its deletion tells of it.
    """

    def __init__(self, cluster: "Cluster") -> None:
        super().__init__(daemon=True)
        self.adoptions: dict[int, dict[int, Adoption]] = defaultdict(dict)  # by partition
        self.missed: dict[int, set[int]] = defaultdict(set)  # by partition: offsets from which they held
        self._cluster = cluster
        self._positions: dict[int, int] | None = None
        self._ends: dict[int, int] | None = None
        self._error: Exception | None = None
        cluster.beside.append(self)

    def run(self) -> None:
        patience_s = STANDSTILL_S
        try:
            while not self._over:
                before = self._positions
                with (
                    suppress(BrokerError),  # the broker was away: go on from there
                    TopicReader(self._cluster.connection, self._cluster.topics.changelog, self._positions) as reader,
                ):
                    self._follow(reader, patience_s)
                # a client that is new each time would never read from a broker that is slower than that
                patience_s = 2 * patience_s if self._positions == before else STANDSTILL_S
        except Exception as error:  # noqa: BLE001 - told by `finish`
            self._error = error

    @property
    def _over(self) -> bool:
        if self._cluster.over.is_set():
            return True
        if self._ends is None or self._positions is None:
            return False
        return all(at >= self._ends[partition] for partition, at in self._positions.items())

    def _follow(self, reader: TopicReader, patience_s: float) -> None:
        """Until all is read, or a partition stands still though there is more: a client may forget one for minutes."""
        before, asked = reader.positions(), time.monotonic()
        while not self._over:
            for record in reader.poll(0.1):
                self._take(record)
            self._positions = now = reader.positions()
            if time.monotonic() - asked > patience_s:
                ends = reader.ends()
                if any(before[partition] == at < ends[partition] for partition, at in now.items()):
                    return
                before, asked = now, time.monotonic()

    def _take(self, record: TopicRecord) -> None:
        """Remember it where it is an adoption, or the deletion of one that was never seen."""
        at = (record.key or b"").removeprefix(b"weights-")
        if not at.isdigit():
            return
        seen = self.adoptions[record.partition]
        if record.value is not None:
            seen[int(at)] = Adoption.load(record.value)
        elif int(at) not in seen:
            self.missed[record.partition].add(int(at))

    def finish(self) -> dict[int, dict[int, Adoption]]:
        """All there are up to now."""
        with TopicReader(self._cluster.connection, self._cluster.topics.changelog) as reader:
            self._ends = reader.ends()
        self.join(LIMIT_S)
        assert not self.is_alive(), "the follower hangs"
        if self._error is not None:
            raise self._error
        return self.adoptions


def sift(batch: Batch, refused: Collection[int]) -> Batch:
    """Without the events that a worker refused for a reason which is not in the log."""
    return batch.without([e for e, offset in enumerate(batch.offset.tolist()) if offset in refused])


def restored_shard(plan: Plan, changelog: Sequence[TopicRecord], records: Sequence[TopicRecord], end: int) -> Shard:
    """What the changelog and the input of one partition make of a shard at `end`."""
    image = image_of(changelog)
    shard, _ = loaded(image, plan)
    adoptions = {offset: Adoption.load(data) for offset, data in image.weights.items()}
    refused = {offset for entry in image.refused for offset in entry.offsets}
    fold(shard, plan, [r for r in records if shard.position <= r.offset < end], [], adoptions, end, refused)
    return shard


def uninterrupted_shard(
    plan: Plan, records: Sequence[TopicRecord], end: int, adoptions: Logged, seed: int, refused: Collection[int] = ()
) -> Shard:
    """The same log in one go, cut into batches elsewhere."""
    rng, cuts = random.Random(seed), []
    while (cuts[-1] if cuts else 0) < len(records):
        cuts.append((cuts[-1] if cuts else 0) + rng.choice((1, 3, 50, 700)))
    shard = plan.shard(0)
    fold(shard, plan, [r for r in records if r.offset < end], cuts, adoptions, end, refused)
    return shard


def fold(
    shard: Shard,
    plan: Plan,
    records: Sequence[TopicRecord],
    cuts: Sequence[int],
    adoptions: Logged,
    end: int,
    refused: Collection[int] = (),
) -> None:
    """Take in records, a batch up to each place in `cuts`, to each adoption, and the rest in one."""
    offsets = [record.offset for record in records]
    changes = [bisect_left(offsets, at) for at in adoptions]
    low = 0
    for high in sorted({*(cut for cut in (*cuts, *changes) if cut < len(records)), len(records)}):
        if high > low:
            reach(shard, adoptions, offsets[low])
            _, numbers, timestamps, keys, values, _ = zip(*records[low:high], strict=True)
            shard.advance(sift(plan.decoder.decode(numbers, timestamps, keys, values)[0], refused))
        low = high
    reach(shard, adoptions, end)


def reach(shard: Shard, adoptions: Logged, offset: int) -> None:
    """Bring what holds from this offset, or from one before it, into service."""
    for at in sorted(adoptions):
        if shard.weights_offset < at <= offset:
            shard.adopt(adoptions[at].weights, at, adoptions[at].rolled_back)


def differences(a: Shard, b: Shard) -> Iterator[str]:
    """Everything in which two shards are not the same bits."""
    for name in ("position", "counters", "clock_ms", "next_sweep", "weights_offset"):
        if getattr(a, name) != getattr(b, name):
            yield f"{name}: {getattr(a, name)} and {getattr(b, name)}"
    if a.table.names != b.table.names:
        yield f"{len(a.table.index)} and {len(b.table.index)} streams, or in other rows"
    if a.watch.tobytes() != b.watch.tobytes():
        yield f"watchdog: {a.watch} and {b.watch}"
    theirs = b.network.weights  # not the dumps: the order of their metadata is not fixed
    yield from (name for name, weights in a.network.weights.items() if not np.array_equal(weights, theirs[name]))
    for name in a.table.index.keys() & b.table.index.keys():
        rows = a.table.rows[a.table.index[name]], b.table.rows[b.table.index[name]]
        if rows[0].tobytes() != rows[1].tobytes():
            yield f"{name}: {[f for f in rows[0].dtype.names or () if rows[0][f].tobytes() != rows[1][f].tobytes()]}"
