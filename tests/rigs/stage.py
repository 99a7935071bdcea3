"""Workers and a broker as containers on a network of their own, and what a test sees of them from outside."""

import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.request import urlopen
from zlib import crc32

import docker
from docker.models.containers import Container
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from tests.rigs.ports import free_port
from worker import topics
from worker.broker import admin
from worker.broker.contract import BrokerError
from worker.broker.produce import FastProducer
from worker.broker.restore import TopicReader, TopicRecord, read_all
from worker.demo import newyork
from worker.demo.auditor import Report, Rules, audit
from worker.demo.local_kafka import IMAGE as KAFKA_IMAGE
from worker.settings.sources import load

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "foldcast:e2e"
LIMIT_S = 120.0
SESSION_S = 6.0  # the least that brokers allow
STARTED = "Kafka Server started"
INSIDE = "kafka:19092"
READ_ONLY = {"read_only": True, "tmpfs": {"/tmp": "mode=1777"}}
Message = tuple[int, bytes | None, bytes | None]  # partition, key, value


def build_image(tag: str, target: str | None = None) -> float:
    """Build from the checkout, seconds it took; TORCH_INDEX_URL as the Dockerfile explains it.

    Two at once would both do all of it, so the second waits and finds every layer there.
    """
    began = time.monotonic()
    command = ["docker", "build", "--quiet", "--file", "deploy/Dockerfile", "--tag", tag]
    command += ["--build-arg", f"TORCH_INDEX_URL={os.environ.get('TORCH_INDEX_URL', '')}"]
    command += ["--target", target] if target else []
    with (ROOT / "deploy" / "Dockerfile").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run([*command, "."], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return time.monotonic() - began


def until(what: str, condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """For what the engine tells only when asked."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {limit_s:.0f} s"
        time.sleep(0.1)


class Broker:
    """One broker, known as `kafka` on its network and on a port of the host."""

    def __init__(self, network: Network) -> None:
        port = free_port()
        self.network = network
        self.bootstrap = f"localhost:{port}"
        environment = {
            "KAFKA_NODE_ID": "1",
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_INTER_BROKER_LISTENER_NAME": "INTERNAL",
            "KAFKA_LISTENERS": "EXTERNAL://:9092,INTERNAL://:19092,CONTROLLER://:9093",
            "KAFKA_ADVERTISED_LISTENERS": f"EXTERNAL://localhost:{port},INTERNAL://{INSIDE}",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "EXTERNAL:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "1",
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
            "KAFKA_LOG_RETENTION_MS": "-1",
            "KAFKA_LOG_ROLL_HOURS": "876000",
        }
        started = LogMessageWaitStrategy(STARTED).with_startup_timeout(120).with_poll_interval(0.1)
        made = DockerContainer(KAFKA_IMAGE).with_envs(**environment)
        made.ports["9092/tcp"] = ("127.0.0.1", port)  # with_bind_ports would open it to everybody
        self._made = made.with_network(network).with_network_aliases("kafka").waiting_for(started)
        self._made.start()
        self.container: Container = self._made.get_wrapped_container()

    def start_again(self) -> None:
        """After it was killed; returns when it is up."""
        before = self.container.logs().decode().count(STARTED)
        self.container.start()
        until("the broker is up", lambda: self.container.logs().decode().count(STARTED) > before)

    def stop(self) -> None:
        self._made.stop()


class Worker:
    """One container, which may be stopped and started again."""

    def __init__(self, made: DockerContainer) -> None:
        self._made = made
        made.start()
        self.container: Container = made.get_wrapped_container()

    def remove(self) -> None:
        self._made.stop()

    @property
    def log(self) -> str:
        return str(self.container.logs().decode())

    @property
    def state(self) -> dict[str, Any]:
        self.container.reload()
        state: dict[str, Any] = self.container.attrs["State"]
        return state

    def get(self, path: str) -> str:
        self.container.reload()
        port = self.container.ports["8080/tcp"][0]["HostPort"]  # another after every start
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def wait_for_log(self, words: str, times: int = 1) -> None:
        until(f"{words!r} in the log", lambda: self.log.count(words) >= times or self._ended())

    def _ended(self) -> bool:
        assert self.state["Status"] != "exited", f"it ended\n{self.log[-4000:]}"
        return False


class Case:
    """Topics and a group of one test, its workers, and the auditor's judgement; leaves no container."""

    def __init__(self, broker: Broker, name: str, partitions: int = 2) -> None:
        self.broker, self.name, self.partitions = broker, name, partitions
        self.workers: list[Worker] = []
        self.environment = {
            "FOLDCAST_KAFKA__BOOTSTRAP_SERVERS": INSIDE,
            "FOLDCAST_KAFKA__INPUT_TOPIC": f"{name}-in",
            "FOLDCAST_KAFKA__OUTPUT_TOPIC": f"{name}-out",
            "FOLDCAST_KAFKA__GROUP_ID": name,
            "FOLDCAST_KAFKA__SESSION_TIMEOUT_S": f"{SESSION_S:g}",
            "FOLDCAST_WORKER__COMMIT_TIMEOUT_S": "4",
            "FOLDCAST_EVENTS__EARLIEST": "1970-01-01",  # minutes are counted from there
        }
        self.settings = load(None, {**self.environment, "FOLDCAST_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap})
        self.connection = self.settings.kafka
        self.topics = topics.names_of(self.settings)
        topics.create(self.settings, partitions, 1)
        self._source = iter(newyork.events())
        self._last = 0

    def worker(
        self,
        name: str = "one",
        *command: str,
        environment: dict[str, str] | None = None,
        mounts: Sequence[tuple[Path, str]] = (),
        alias: str | None = None,
        **options: object,
    ) -> Worker:
        """Start one; returns at once."""
        settings = self.environment if environment is None else environment
        made = DockerContainer(IMAGE).with_network(self.broker.network).with_exposed_ports(8080)
        made = made.with_network_aliases(alias or f"{self.name}-{name}")
        made = made.with_envs(**settings, FOLDCAST_KAFKA__INSTANCE_ID=name)
        for source, target in mounts:
            made = made.with_volume_mapping(str(source), target, "ro")
        made = made.with_kwargs(read_only=True, **options).with_tmpfs_mount("/tmp")
        if command:
            made = made.with_command(list(command))
        worker = Worker(made)
        self.workers.append(worker)
        return worker

    def remove(self) -> None:
        for worker in self.workers:
            worker.remove()

    def network(self) -> Any:
        return docker.from_env().networks.get(self.broker.network.id)

    # ---- events

    def events(self, count: int) -> Iterator[Message]:
        """The next ones of the data, a part of them once more, and some that are none."""
        for number, (stream, time_ms, value) in zip(range(count), self._source, strict=False):
            key = stream.encode()
            partition = crc32(key) % self.partitions
            body = json.dumps({"stream": stream, "time": time_ms, "value": value}).encode()
            yield partition, key, body
            if number % 97 == 0:
                yield partition, key, body
            if number % 101 == 0:
                yield partition, key, b"nothing that could be read"

    def send(self, messages: Iterator[Message]) -> int:
        """All at once; how many."""
        count = 0
        with FastProducer(self.connection) as producer:
            for partition, key, value in messages:
                producer.send(self.topics.input, partition, key, value)
                count += 1
            producer.flush()
        return count

    @contextlib.contextmanager
    def feeding(self, rate: float = 300.0) -> Iterator[None]:
        """Events at a rate while the body runs; all of them have arrived when it ends."""
        stop, failed = Event(), []

        def feed() -> None:
            try:
                with FastProducer(self.connection, limit_s=120) as producer:
                    while not stop.wait(0.1):
                        for message in self.events(round(rate / 10)):
                            producer.send(self.topics.input, *message)
                    producer.flush()
            except BrokerError as error:
                failed.append(error)

        thread = Thread(target=feed, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(150)
        assert not thread.is_alive(), "the feeder hangs"
        assert not failed, failed

    def wait_for_forecasts(self, limit_s: float = LIMIT_S) -> float:
        """One more event per partition, until a reader has seen their forecasts; the seconds it took."""
        began, self._last = time.monotonic(), self._last + 1
        with TopicReader(self.connection, self.topics.output) as reader:
            starts = reader.ends()
        bodies = (
            (p, None, json.dumps({"stream": f"last-{p}", "time": 60_000 * self._last, "value": 1.0}).encode())
            for p in range(self.partitions)
        )
        self.send(bodies)
        missing = set(range(self.partitions))
        with TopicReader(self.connection, self.topics.output, starts) as reader:
            while missing:
                missing -= {r.partition for r in reader.poll(0.2) if r.key == b"last-%d" % r.partition}
                logs = "\n".join(worker.log[-3000:] for worker in self.workers)
                assert time.monotonic() - began < limit_s, f"no forecasts in {missing}\n{logs}"
        return time.monotonic() - began

    def wait_for_first(self) -> None:
        """Until a reader has seen any forecast."""
        deadline = time.monotonic() + LIMIT_S
        with TopicReader(self.connection, self.topics.output) as reader:
            while not reader.poll(0.1):
                assert time.monotonic() < deadline, "\n".join(worker.log[-3000:] for worker in self.workers)

    # ---- judgement

    def read(self, topic: str) -> list[TopicRecord]:
        return list(read_all(self.connection, topic))

    def committed(self) -> dict[int, int]:
        return admin.group_offsets(self.connection, self.settings.kafka.group_id, self.topics.input)

    def audit(self) -> Report:
        """What the topics show; fails where anything is missing, twice or wrong."""
        self.wait_for_forecasts()
        named = self.topics
        inputs, outputs, dead = (self.read(topic) for topic in (named.input, named.output, named.dead_letters))
        report = audit(inputs, outputs, dead, Rules(), named.input)
        assert report.ok, "\n".join(report.lines())
        assert report.expected["forecast"] > 100, "there was next to nothing to judge"
        return report
