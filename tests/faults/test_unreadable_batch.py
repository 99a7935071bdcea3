"""A batch in the input that a worker cannot unpack: it gives up, says where and what to do, and goes on without it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import codec
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.structs import TopicPartition

from tests.rigs.cluster import Cluster, Feeder, Source
from worker.broker import admin
from worker.broker.security import open_admin

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(codec.has_snappy(), reason="python-snappy is installed, and so nothing is unreadable here"),
]

PARTITIONS = 2
GIVE_UP_S = 10
PAUSES = 8  # 0.5, 1, 2, 4, 8 and what a slow start adds


class OnlyTo(Source):
    """All of a source's records to one partition."""

    def __init__(self, partition: int) -> None:
        super().__init__(20, PARTITIONS, seed=7)
        self._partition = partition

    def next(self) -> tuple[int, bytes | None, bytes | None]:
        _, key, body = super().next()
        return self._partition, key, body


def set_compression(cluster: Cluster, compression: str) -> None:
    topic = ConfigResource(ConfigResourceType.TOPIC, cluster.topics.input, configs={"compression.type": compression})
    client = open_admin(cluster.connection)
    client.alter_configs([topic])
    client.close()


def delete_records(cluster: Cluster, partition: int, before: int) -> None:
    client = open_admin(cluster.connection)
    client.delete_records({TopicPartition(cluster.topics.input, partition): before})
    client.close()


def feed(cluster: Cluster, partition: int, until: Callable[[], bool], what: str) -> None:
    feeder = Feeder(cluster, OnlyTo(partition), 50, transactions=False)
    feeder.start()
    try:
        cluster.wait_for(until, what)
    finally:
        feeder.finish()


def test_a_worker_gives_up_at_a_batch_it_cannot_unpack_and_goes_on_once_that_is_deleted(
    bootstrap: str, unique: str, tmp_path: Path
) -> None:
    limits: dict[str, object] = {"snapshot_events": 100, "give_up_s": GIVE_UP_S, "commit_timeout_s": 3}
    with Cluster(bootstrap, unique, tmp_path, PARTITIONS, model={"hidden_size": 8}, worker=limits) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        cluster.await_last()
        set_compression(cluster, "snappy")
        feed(cluster, 0, lambda: "WARNING" in cluster.logs(), "the worker says that it cannot read")
        set_compression(cluster, "producer")
        before = cluster.committed()
        feed(cluster, 1, lambda: worker.life.ended, "the worker gives up")
        assert worker.wait() == 1
        failed = [line for line in cluster.logs().splitlines() if "WARNING Unreadable" in line]
        assert 3 <= len(failed) <= PAUSES, cluster.ends_of_logs()
        committed, sentence = cluster.committed(), cluster.logs().splitlines()[-1]
        print(f"\n{sentence}")
        assert f"offset {committed[0]} on" in sentence
        for words in (f"{cluster.topics.input}-0", "worker.give_up_s", "install python-snappy here"):
            assert words in sentence
        assert committed[1] > before[1], "the other partition went on meanwhile"

        delete_records(cluster, 0, admin.bounds(cluster.connection, cluster.topics.input)[0][1])
        cluster.environment["FOLDCAST_WORKER__ON_GAP"] = "skip"
        worker.start()
        cluster.wait_until_live()
        cluster.await_last()
        cluster.stop()
