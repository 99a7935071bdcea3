"""A group whose coordinator answers with offsets of long ago: what has its forecast gets no second one."""

from pathlib import Path

import pytest

from tests.rigs.cluster import FIRST_MS, STEP_MS, Cluster, event_bytes
from worker.broker import admin
from worker.broker.produce import FastProducer

pytestmark = pytest.mark.kafka

EVENTS, OLD = 60, 20


def feed(cluster: Cluster) -> None:
    """Events of both partitions, and a dead letter between the last of them."""
    with FastProducer(cluster.connection) as producer:
        for partition in range(cluster.partitions):
            for n in range(EVENTS):
                body = event_bytes(f"s{partition}", FIRST_MS + n * STEP_MS, n) if n != EVENTS - 3 else b"{"
                producer.send(cluster.topics.input, partition, None, body)
        producer.flush()


def test_a_group_whose_offsets_are_old_goes_on_after_what_it_has_published(
    bootstrap: str, unique: str, tmp_path: Path
) -> None:
    with Cluster(bootstrap, unique, tmp_path, 2, model={"hidden_size": 8}) as cluster:
        worker = cluster.worker("one", "--leave")
        cluster.wait_until_live()
        feed(cluster)
        cluster.await_last()
        cluster.stop()
        before = cluster.committed()
        admin.set_group_offsets(
            cluster.connection, cluster.settings.kafka.group_id, cluster.topics.input, dict.fromkeys(before, OLD)
        )
        worker.start()
        cluster.wait_until_live()
        cluster.await_last()
        cluster.stop()
        assert all(offset > before[partition] for partition, offset in cluster.committed().items())
        for topic, name, number in (
            (cluster.topics.output, "foldcast-id", EVENTS - 1 + 2),
            (cluster.topics.dead_letters, "foldcast-error-offset", 1),
        ):
            records = cluster.read(topic)
            places = [(record.partition, dict(record.headers)[name]) for record in records]
            assert len(places) == len({*places}) == 2 * number
        told = f"offset for partition 0 is {OLD}, though records below {before[0]} have their forecasts"
        assert told in cluster.logs()
