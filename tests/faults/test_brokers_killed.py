"""Three brokers, each killed and started again under traffic: every partition comes back, nothing is lost or twice."""

import faulthandler
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from kafka.errors import KafkaError

from tests.rigs.cluster import Cluster, Feeder, Source
from worker.broker import admin
from worker.broker.contract import BrokerError, CommitError, Message, NotYet, Unanswered
from worker.broker.kafka import KafkaBroker
from worker.broker.produce import FastProducer
from worker.broker.restore import read_all
from worker.demo import jars
from worker.demo.auditor import Rules, audit
from worker.demo.local_kafka import WHAT_TO_INSTALL, LocalKafka, kafka_from_jars
from worker.settings.kafka import Kafka
from worker.settings.worker import Worker as WorkerSettings

# Not the Kafka that the environment may name: that one is not for tests to kill
pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(not jars.can_run(), reason=WHAT_TO_INSTALL),
    pytest.mark.usefixtures("refused_connections"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

PARTITIONS = 6  # two led by each broker
ROUNDS = 2
RATE = 300.0
LIMIT_S = 120.0
TRANSACTIONS, OFFSETS = "__transaction_state", "__consumer_offsets"


@pytest.fixture(scope="module")
def kafka() -> Iterator[LocalKafka]:
    kafka = kafka_from_jars(nodes=3, heap_mb=400)
    yield kafka
    kafka.stop()


def forecasts_come(cluster: Cluster) -> float:
    """Every partition answers a new event, however long its leader is looked for; the seconds it took."""
    began = time.monotonic()
    while True:
        try:
            cluster.await_last()
        except BrokerError:  # of the test's own clients
            assert time.monotonic() - began < LIMIT_S, "the test's own clients get no answer"
        else:
            cluster.wait_until_live()
            return time.monotonic() - began


def test_each_broker_killed_in_turn_leaves_no_partition_behind(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    faulthandler.cancel_dump_traceback_later()  # set for tests that take seconds
    with Cluster(
        kafka.bootstrap_servers,
        unique,
        tmp_path,
        PARTITIONS,
        replication=3,
        model={"hidden_size": 8},
        worker={"snapshot_events": 500, "give_up_s": 120},
    ) as cluster:
        cluster.worker("one")
        cluster.wait_until_live()
        feeder = Feeder(cluster, Source(60, PARTITIONS, seed=5), RATE, transactions=False)
        feeder.start()
        took_s = []
        for node in [*kafka.nodes] * ROUNDS:
            kafka.kill(node)
            kafka.restart(node)
            took_s.append(forecasts_come(cluster))
        feeder.finish()
        forecasts_come(cluster)
        cluster.stop()
        inputs, outputs = cluster.read(cluster.topics.input), cluster.read(cluster.topics.output)
        report = audit(inputs, outputs, cluster.read(cluster.topics.dead_letters), Rules(), cluster.topics.input)
        print("\nlive again after", " ".join(f"{s:.1f}" for s in took_s), "s\n" + "\n".join(report.lines()))
        assert report.ok, "\n".join(report.lines())
        assert report.expected["forecast"] > 0


def test_changelogs_of_which_nobody_asked_while_their_leader_was_killed_can_be_read(
    kafka: LocalKafka, unique: str
) -> None:
    connection = Kafka(bootstrap_servers=kafka.bootstrap_servers, instance_id="killed-test")
    names = f"{unique}-in", f"{unique}-log"
    admin.create_topics(connection, [admin.TopicSpec(name, PARTITIONS, 3) for name in names])
    with FastProducer(connection) as producer:
        for partition in range(PARTITIONS):
            producer.send(names[1], partition, b"k", b"v")
        producer.flush()
    group = {"input_topic": names[0], "changelog_topic": names[1], "group_id": unique, "instance_id": "one"}
    broker = KafkaBroker(connection.model_copy(update=group), WorkerSettings(), 1 << 20)
    try:
        for partition in range(PARTITIONS):
            until_answered(broker, partition)
        kafka.kill(1)
        kafka.restart(1)
        for partition in range(PARTITIONS):
            until_answered(broker, partition)
    finally:
        broker.close(leave=False)


def until_answered(broker: KafkaBroker, partition: int) -> None:
    """As the loop does: ask, and have the broker renewed where nothing comes."""
    deadline, rows = time.monotonic() + LIMIT_S / 2, []
    while True:
        assert time.monotonic() < deadline, f"no answer about partition {partition}"
        try:
            read = broker.open_changelog(partition)
        except Unanswered:
            with suppress(BrokerError):
                broker.renew()
            continue
        while not read.done and time.monotonic() < deadline:
            with suppress(NotYet):
                rows += read.read(0.5)
        read.close()
        assert [(one.key, one.value) for one in rows] == [(b"k", b"v")]
        return


def test_what_was_aborted_without_a_leader_is_not_committed_by_the_next_transaction(
    kafka: LocalKafka, unique: str
) -> None:
    read, changelog, out, small = (f"{unique[-8:]}-{name}" for name in ("in", "log", "out", "small"))
    connection = Kafka(
        bootstrap_servers=kafka.bootstrap_servers,
        instance_id="one",
        group_id=unique,
        input_topic=read,
        changelog_topic=changelog,
    )
    client = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    admin.create_topics(connection, [admin.TopicSpec(name, 1, 3) for name in (read, changelog)])
    broker = KafkaBroker(connection, WorkerSettings(commit_timeout_s=15), 1 << 20)
    try:
        membership(broker)  # so that the group's coordinator is there
        node = next(n for n in kafka.nodes if n not in (leader(client, TRANSACTIONS), leader(client, OFFSETS)))
        client.create_topics([NewTopic(out, -1, -1, {0: [node]})])
        client.create_topics([NewTopic(small, -1, -1, {0: [node]}, {"max.message.bytes": "500"})])
        broker.commit([Message(out, 0, b"k", b"before")], {0: 1}, membership(broker))
        both = [Message(out, 0, b"k", b"given up"), Message(small, 0, b"k", bytes(1000))]
        with pytest.raises(CommitError, match="TooLarge") as failed:
            broker.commit(both, {0: 2}, membership(broker))
        assert failed.value.outcome == "refused"

        kafka.kill(node)
        until(lambda: leader(client, out) == -1)
        with pytest.raises(BrokerError):
            broker.renew()
        kafka.restart(node)
        renew(broker)

        broker.commit([Message(out, 0, b"k", b"after")], {0: 2}, membership(broker))
        until(lambda: [record.value for record in read_all(connection, out)][-1:] == [b"after"])
        assert [record.value for record in read_all(connection, out)] == [b"before", b"after"]
        assert admin.group_offsets(connection, unique, read) == {0: 2}
    finally:
        broker.close(leave=False)
        client.close()


def until(condition: Callable[[], bool]) -> None:
    """Ask over and over: the brokers tell of nothing by themselves."""
    deadline, met = time.monotonic() + LIMIT_S, False
    while not met:
        assert time.monotonic() < deadline
        with suppress(BrokerError, KafkaError):  # of the test's own clients
            met = condition()


def renew(broker: KafkaBroker) -> None:
    """As the loop does, until it works."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            return broker.renew()
        except BrokerError:
            assert time.monotonic() < deadline


def membership(broker: KafkaBroker) -> object:
    """The membership of the group, once there is one."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            polled = broker.poll(0.1)
        except BrokerError:
            renew(broker)
            continue
        if polled.membership is not None:
            return polled.membership
        assert time.monotonic() < deadline


def leader(client: KafkaAdminClient, topic: str) -> int:
    """The node that leads the topic's one partition, -1 where none does."""
    return int(client.describe_topics([topic])[0]["partitions"][0]["leader_id"])
