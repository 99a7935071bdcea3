"""An input of which a part cannot be unpacked: made, fed around, and cut behind it."""

from collections.abc import Callable

from kafka.structs import TopicPartition

from tests.rigs.cluster import Cluster, Feeder, Source, Worker
from worker.broker import admin
from worker.broker.security import open_admin

PARTITIONS = 2
GIVE_UP_S = 10


class OnlyTo(Source):
    """All of a source's records to one partition."""

    def __init__(self, partition: int) -> None:
        super().__init__(20, PARTITIONS, seed=7)
        self._partition = partition

    def next(self) -> tuple[int, bytes | None, bytes | None]:
        _, key, body = super().next()
        return self._partition, key, body


def set_compression(cluster: Cluster, compression: str) -> None:
    cluster.configure(cluster.topics.input, {"compression.type": compression})


def delete_records(cluster: Cluster, partition: int, before: int) -> None:
    client = open_admin(cluster.connection)
    client.delete_records({TopicPartition(cluster.topics.input, partition): before})
    client.close()


def go_on_behind(cluster: Cluster, worker: Worker) -> None:
    """Delete what partition 0 holds up to now, as the worker's sentence says, and have it go on without that."""
    delete_records(cluster, 0, admin.bounds(cluster.connection, cluster.topics.input)[0][1])
    worker.environment["FOLDCAST_WORKER__ON_GAP"] = "skip"
    worker.start()
    cluster.wait_until_live()
    cluster.await_last()
    cluster.stop()


def feed(cluster: Cluster, partition: int, until: Callable[[], bool], what: str) -> None:
    feeder = Feeder(cluster, OnlyTo(partition), 50, transactions=False)
    feeder.start()
    try:
        cluster.wait_for(until, what)
    finally:
        feeder.finish()
