"""Transactions whose end comes to no partition: restores end them by themselves, each as C tells."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import TopicPartition

from tests.rigs.cluster import Cluster
from worker.broker.admin import topic_id
from worker.broker.contract import longest_transaction_s
from worker.broker.left_open import left_open
from worker.broker.produce import FastProducer
from worker.broker.producer import discard
from worker.broker.security import open_producer
from worker.demo import jars
from worker.demo.local_kafka import WHAT_TO_INSTALL, LocalKafka, kafka_from_jars
from worker.settings.kafka import Kafka

pytestmark = [pytest.mark.kafka, pytest.mark.skipif(not jars.can_run(), reason=WHAT_TO_INSTALL)]

LIMIT_S = 150.0
Sent = tuple[str, int, dict[str, str]]  # topic, partition, headers


@pytest.fixture(scope="module")
def kafka() -> Iterator[LocalKafka]:
    # So that it takes what belongs to no transaction that a coordinator knows, as one of which the end was lost
    kafka = kafka_from_jars(extra_properties={"transaction.partition.verification.enable": "false"})
    yield kafka
    kafka.stop()


def leave_open(kafka: Kafka, transactional_id: str, records: list[Sent]) -> None:
    """Write them in a transaction of which the coordinator hears nothing, so that nobody will end it."""
    producer = open_producer(kafka, transactional_id=transactional_id)
    try:
        producer.init_transactions()
        producer.begin_transaction()
        places = {TopicPartition(topic, partition) for topic, partition, _ in records}
        producer._transaction_manager._partitions_in_transaction |= places
        for topic, partition, headers in records:
            encoded = [(name, text.encode()) for name, text in headers.items()]
            producer.send(topic, b"{}", b"left open", encoded, partition).get(10)
    finally:
        discard(producer)


def forecast_of(cluster: Cluster, partition: int, offset: int) -> Sent:
    source = topic_id(cluster.connection, cluster.topics.input)
    facts = {"id": f"{cluster.topics.input}-{partition}-{offset}", "group": cluster.topics.group, "source": source}
    return cluster.topics.output, partition, {f"foldcast-{name}": text for name, text in facts.items()}


def test_one_that_is_under_way_or_ended_is_not_left_open(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    with Cluster(kafka.bootstrap_servers, unique, tmp_path, 1) as cluster:
        topics, connection = cluster.topics.names[1:], cluster.connection
        producer = open_producer(connection, transactional_id=f"{unique}/one")
        try:
            producer.init_transactions()
            for end in (producer.commit_transaction, producer.abort_transaction):
                producer.begin_transaction()
                producer.send(topics[0], b"{}", b"key", partition=0).get(10)
                assert left_open(connection, topics, 0) == [], "it is under way"
                end()
                assert left_open(connection, topics, 0) == [], "it is over"
        finally:
            discard(producer)
        leave_open(connection, f"{unique}/one", [(topics[0], 0, {})])
        (found,) = left_open(connection, topics, 0)
        assert found.transactional_id == f"{unique}/one"
        assert [*found.begins] == [topics[0]]


def test_a_restore_ends_what_was_left_open_as_c_tells(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    with Cluster(kafka.bootstrap_servers, unique, tmp_path, 2) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live(LIMIT_S)
        cluster.await_last()
        with FastProducer(cluster.connection) as producer:  # the same event once more: it gets no forecast
            producer.send(cluster.topics.input, 1, None, cluster.event_bytes("last-1", cluster._last_ms, 1.0))
            producer.flush()
        until = time.monotonic() + LIMIT_S
        while cluster.committed() != {0: 1, 1: 2}:
            assert time.monotonic() < until, cluster.committed()
        worker.kill()
        published = len(cluster.read(cluster.topics.output))
        aborted, committed = forecast_of(cluster, 0, 1), forecast_of(cluster, 1, 1)
        leave_open(cluster.connection, f"{cluster.topics.group}/one", [aborted, committed])

        worker.start()
        cluster.wait_until_live(LIMIT_S + longest_transaction_s(cluster.settings.worker.commit_timeout_s))
        cluster.await_last()
        log = worker.log.read_text()
        assert log.count("with no end written to it; it is ended now") == 2
        for partition, words in ((0, "as aborted"), (1, "as committed")):
            assert any(f"-out-{partition} from offset" in line and words in line for line in log.splitlines())
            assert left_open(cluster.connection, cluster.topics.names[1:], partition) == []
        came = cluster.read(cluster.topics.output)
        assert [record.partition for record in came if record.key == b"left open"] == [1]
        assert len(came) == published + 1 + cluster.partitions
        cluster.stop()
