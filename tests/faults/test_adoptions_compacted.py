"""Whoever follows the adoptions of a changelog: one that was compacted unread is named, a forgotten partition read."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka.structs import TopicPartition

from pipeline.durable.image import weights_key
from pipeline.learning.adoption import Adoption
from tests.rigs.cluster import LIMIT_S, AdoptionFollower, Cluster
from worker.broker.restore import TopicReader, TopicRecord
from worker.broker.security import open_producer
from worker.demo import jars
from worker.demo.local_kafka import WHAT_TO_INSTALL, LocalKafka, kafka_from_jars

pytestmark = [pytest.mark.kafka, pytest.mark.skipif(not jars.can_run(), reason=WHAT_TO_INSTALL)]


@pytest.fixture(scope="module")
def kafka() -> Iterator[LocalKafka]:
    kafka = kafka_from_jars(heap_mb=400, extra_properties={"log.cleaner.backoff.ms": "200"})
    yield kafka
    kafka.stop()


def write(cluster: Cluster, *records: tuple[bytes, bytes | None], partition: int = 0) -> None:
    producer = open_producer(cluster.connection)
    for key, value in records:
        producer.send(cluster.topics.changelog, value, key, None, partition).get(LIMIT_S)
    producer.close()


def test_an_adoption_that_was_compacted_before_it_was_read_is_named(kafka: LocalKafka, tmp_path: Path) -> None:
    with Cluster(kafka.bootstrap_servers, "compacted", tmp_path, 1) as cluster:
        cluster.configure(cluster.topics.changelog, {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"})
        adoption = Adoption.base(cluster.plan.shard(0).network).dump()
        write(cluster, (weights_key(5), adoption), (weights_key(9), adoption), (weights_key(5), None))
        deadline = time.monotonic() + LIMIT_S
        while any(record.key == weights_key(5) and record.value for record in cluster.read(cluster.topics.changelog)):
            assert time.monotonic() < deadline, "it is not compacted"
            write(cluster, (b"shard", b"a new segment"))
        follower = AdoptionFollower(cluster)
        follower.start()
        assert {*follower.finish()[0]} == {9}
        assert follower.missed == {0: {5}}


def test_a_partition_that_a_client_forgets_is_read_all_the_same(
    kafka: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgot: list[TopicReader] = []

    def forgetful(reader: TopicReader, timeout_s: float) -> list[TopicRecord]:
        if not forgot:
            forgot.append(reader)
            reader._consumer.pause(TopicPartition(reader._topic, 1))
        return poll(reader, timeout_s)

    poll: Any = TopicReader.poll
    monkeypatch.setattr(TopicReader, "poll", forgetful)
    monkeypatch.setattr("tests.rigs.cluster.STANDSTILL_S", 0.2)
    with Cluster(kafka.bootstrap_servers, "forgotten", tmp_path, 2) as cluster:
        adoption = Adoption.base(cluster.plan.shard(0).network).dump()
        for partition in range(2):
            write(cluster, (weights_key(5), adoption), partition=partition)
        follower = AdoptionFollower(cluster)
        follower.start()
        assert {partition: {*seen} for partition, seen in follower.finish().items()} == {0: {5}, 1: {5}}
        assert forgot
