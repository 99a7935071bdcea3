"""The broker in memory and a real Kafka behind one face, and a worker that remembers what it was told."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from kafka.structs import OffsetAndMetadata, TopicPartition

from tests.rigs.client import chosen_client
from tests.rigs.memory_broker import CHANGELOG, INPUT, OUTPUT, MemoryBroker, MemoryCluster
from tests.rigs.memory_log import Transaction
from worker.broker import admin
from worker.broker.contract import Broker, Message, NotYet, Polled, Unreadable
from worker.broker.kafka import KafkaBroker
from worker.broker.produce import FastProducer
from worker.broker.restore import read_all
from worker.broker.security import open_producer
from worker.settings.kafka import Kafka
from worker.settings.worker import Worker as WorkerSettings

PARTITIONS = 4
ALL = frozenset(range(PARTITIONS))
SESSION_S = 6.0  # the shortest a broker allows by default
LIMIT_S = 60.0
LONG_SESSION_S = 120.0  # for whoever must not have to wait for its end

T = TypeVar("T")
Headers = list[tuple[str, bytes]]
Row = tuple[int, bytes | None, bytes | None, int]  # partition, key, value, timestamp_ms


class Rig(Protocol):
    """A cluster with one input, output and changelog, and one group, seen from outside."""

    output: str
    changelog: str
    session_s: float  # of members that join from now on

    def join(self, instance_id: str) -> Broker: ...
    def feed(self, rows: list[Row], headers: Headers | None = None) -> None: ...
    def feed_aborted(self, rows: list[Row]) -> None: ...
    def readable(self, topic: str) -> list[Message]: ...
    def expel(self, instance_id: str) -> None: ...
    def held_offset(self, partition: int) -> AbstractContextManager[None]: ...
    def close(self) -> None: ...


class MemoryRig:
    output, changelog = OUTPUT, CHANGELOG
    session_s = SESSION_S

    def __init__(self) -> None:
        self.cluster = MemoryCluster(PARTITIONS)

    def join(self, instance_id: str) -> Broker:
        return MemoryBroker(self.cluster, instance_id)

    def feed(self, rows: list[Row], headers: Headers | None = None) -> None:
        for row in rows:
            self.cluster.produce(*row, headers or ())

    def feed_aborted(self, rows: list[Row]) -> None:
        self.cluster.open["feeder"] = transaction = Transaction()
        for partition, key, value, timestamp_ms in rows:
            message = Message(INPUT, partition, key, value)
            self.cluster.logs[INPUT, partition].append(message, timestamp_ms, transaction)
        self.cluster.end("feeder", "aborted")

    def readable(self, topic: str) -> list[Message]:
        return self.cluster.committed_messages(topic)

    def expel(self, instance_id: str) -> None:
        self.cluster.expire(instance_id)

    def held_offset(self, partition: int) -> AbstractContextManager[None]:
        return self.cluster.held_offsets(partition)

    def close(self) -> None:
        pass


class KafkaRig:
    session_s = SESSION_S

    def __init__(self, bootstrap: str, client: str | None = None) -> None:
        self.client = client or chosen_client()
        self.connection = Kafka(bootstrap_servers=bootstrap, instance_id="contract-test")
        name = uuid.uuid4().hex[:8]
        self.input, self.output, self.changelog, self.group = (
            f"{part}-{name}" for part in ("in", "out", "log", "group")
        )
        compacted = admin.TopicSpec(self.changelog, PARTITIONS, configs={"cleanup.policy": "compact"})
        plain = [admin.TopicSpec(topic, PARTITIONS) for topic in (self.input, self.output)]
        admin.create_topics(self.connection, [*plain, compacted])
        self.brokers: list[KafkaBroker] = []

    def join(self, instance_id: str) -> Broker:
        kafka = Kafka(
            bootstrap_servers=self.connection.bootstrap_servers,
            input_topic=self.input,
            output_topic=self.output,
            changelog_topic=self.changelog,
            group_id=self.group,
            instance_id=instance_id,
            session_timeout_s=self.session_s,
            client=self.client,
        )
        self.brokers.append(KafkaBroker(kafka, WorkerSettings(), 1 << 20))
        return self.brokers[-1]

    def feed(self, rows: list[Row], headers: Headers | None = None) -> None:
        with FastProducer(self.connection) as producer:
            for row in rows:
                producer.send(self.input, *row, headers)
            producer.flush()

    def feed_aborted(self, rows: list[Row]) -> None:
        producer = open_producer(self.connection, transactional_id=f"{self.group}-feeder")
        producer.init_transactions()
        producer.begin_transaction()
        for partition, key, value, timestamp_ms in rows:
            producer.send(self.input, value, key, None, partition, timestamp_ms)
        producer.flush()
        producer.abort_transaction()
        producer.close()

    def readable(self, topic: str) -> list[Message]:
        return [Message(topic, r.partition, r.key, r.value, r.headers) for r in read_all(self.connection, topic)]

    def expel(self, instance_id: str) -> None:
        admin.remove_member(self.connection, self.group, instance_id)

    @contextmanager
    def held_offset(self, partition: int) -> Iterator[None]:
        producer = open_producer(self.connection, transactional_id=f"{self.group}-somebody-else")
        producer.init_transactions()
        producer.begin_transaction()
        offsets = {TopicPartition(self.input, partition): OffsetAndMetadata(0, "", -1)}
        producer.send_offsets_to_transaction(offsets, self.group)
        try:
            yield
        finally:
            producer.abort_transaction()
            producer.close()

    def close(self) -> None:
        for broker in self.brokers:
            broker.close(leave=False)
        for topic in (self.input, self.output, self.changelog):
            admin.delete_topic(self.connection, topic)


@dataclass
class Worker:
    """Polls a broker and remembers what it was told."""

    broker: Broker
    owned: set[int] = field(default_factory=set)
    began: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    rows: dict[int, list[tuple[int, int, bytes | None, bytes | None, Headers]]] = field(default_factory=dict)
    membership: object = None
    unreadable: list[Unreadable] = field(default_factory=list)
    passed: dict[int, int] = field(default_factory=dict)
    lost: dict[int, tuple[int, int]] = field(default_factory=dict)

    def poll(self, timeout_s: float = 0.1) -> Polled:
        polled = self.broker.poll(timeout_s)
        self.owned = self.owned - polled.ended | polled.began
        self.began.extend(polled.began)
        self.ended.extend(polled.ended)
        self.unreadable += polled.unreadable
        self.membership, self.passed = polled.membership, polled.passed
        self.lost |= polled.lost
        for partition, records in polled.records.items():
            assert partition in self.owned
            self.rows.setdefault(partition, []).extend(zip(*records[:4], map(list, records.headers), strict=True))
        return polled

    def count(self) -> int:
        return sum(map(len, self.rows.values()))

    def commit(self, messages: list[Message], offsets: dict[int, int]) -> None:
        self.broker.commit(messages, offsets, self.membership)

    def committed(self, partition: int) -> int | None:
        return eventually(lambda: self.broker.committed(partition))


def eventually(ask: Callable[[], T]) -> T:
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            return ask()
        except NotYet:
            assert time.monotonic() < deadline, "still NotYet"


def drive(*workers: Worker, until: Callable[[], bool]) -> float:
    """Poll until it holds, all at once as live workers do (the memory broker in turn); the seconds it took."""
    start = time.monotonic()
    in_turn = isinstance(workers[0].broker, MemoryBroker)
    with ThreadPoolExecutor(1 if in_turn else len(workers)) as threads:
        while not until():
            assert time.monotonic() - start < LIMIT_S, f"not reached: {workers}"
            list(threads.map(Worker.poll, workers))
    return time.monotonic() - start


def joined(rig: Rig, instance_id: str = "w1") -> Worker:
    """A worker that owns everything."""
    worker = Worker(rig.join(instance_id))
    in_group(worker)
    return worker


def in_group(worker: Worker) -> None:
    """Poll until it owns everything."""
    drive(worker, until=lambda: worker.owned == ALL and worker.membership is not None)


def numbered(partition: int, count: int) -> list[Row]:
    """Rows of a partition whose values are their places."""
    return [(partition, b"k", str(i).encode(), i) for i in range(count)]
