"""Partitions added to the input of a running worker: it says so, and a restart is refused with a fix that works."""

from pathlib import Path

import pytest
from kafka.admin import NewPartitions

from tests.rigs.cluster import Cluster
from worker.broker.security import open_admin

pytestmark = pytest.mark.kafka

BEFORE, AFTER = 2, 4
OFTEN = {"client_options": '{"metadata_max_age_ms": 500}'}  # the default is five minutes


def test_added_partitions_are_said_and_read_under_new_names(bootstrap: str, unique: str, tmp_path: Path) -> None:
    with Cluster(bootstrap, unique, tmp_path, BEFORE, model={"hidden_size": 8}, kafka=OFTEN) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        cluster.await_last()
        assert worker.metric("foldcast_input_partitions") == BEFORE
        client = open_admin(cluster.connection)
        client.create_partitions({cluster.topics.input: NewPartitions(AFTER)})
        client.close()
        cluster.wait_for(lambda: "partitions were added to the input: 4 now" in cluster.logs(), "it says so")
        assert worker.metric("foldcast_input_partitions") == AFTER
        assert worker.metric("foldcast_input_partitions_ignored") == AFTER - BEFORE
        cluster.await_last()
        cluster.stop()
        assert cluster.logs().count("partitions were added") == 1
        worker.start()
        cluster.wait_for(lambda: worker.life.ended, "a restart is refused")
        assert worker.wait() == 1
        sentence = cluster.logs().splitlines()[-1]
        for words in (f"{cluster.topics.input} has 4 partitions", "have 2", "kafka.group_id", "--from-group"):
            assert words in sentence
    anew: dict[str, object] = {"input_topic": cluster.topics.input}
    with Cluster(bootstrap, f"{unique}-2", tmp_path, AFTER, model={"hidden_size": 8}, kafka=anew) as other:
        other._last_ms = cluster._last_ms  # its events come after those that are there
        other.worker("two")
        other.wait_until_live()
        other.await_last()
        other.stop()
