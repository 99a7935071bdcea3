"""The input deleted and made anew while no worker runs: its first records are not skipped, the worker says why not."""

from pathlib import Path

import pytest

from tests.rigs.cluster import FIRST_MS, STEP_MS, Cluster, event_bytes
from worker.broker import admin
from worker.broker.produce import FastProducer

pytestmark = pytest.mark.kafka

EVENTS = 50


def feed(cluster: Cluster, number: int) -> None:
    with FastProducer(cluster.connection) as producer:
        for n in range(number):
            producer.send(cluster.topics.input, 0, None, event_bytes("s", FIRST_MS + n * STEP_MS, n))
        producer.flush()


def test_an_input_that_was_made_anew_is_refused_though_it_is_longer(
    bootstrap: str, unique: str, tmp_path: Path
) -> None:
    with Cluster(bootstrap, unique, tmp_path, 1, model={"hidden_size": 8}) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        feed(cluster, EVENTS)
        cluster.await_last()
        cluster.stop()
        before = len(cluster.read(cluster.topics.output))
        admin.delete_topic(cluster.connection, cluster.topics.input)
        admin.create_topics(cluster.connection, [admin.TopicSpec(cluster.topics.input, 1, 1)])
        feed(cluster, 3 * EVENTS)
        worker.start()
        cluster.wait_for(lambda: worker.life.ended, "the worker refuses")
        assert worker.wait() == 1
        last = cluster.logs().splitlines()[-1]
        assert "the input was deleted and made anew" in last
        assert "start under a new kafka.group_id" in last
        assert len(cluster.read(cluster.topics.output)) == before
