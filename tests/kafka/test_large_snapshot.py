"""A shard of many pages: its snapshot goes through the topic's limit on batches, and a restart has it back."""

from pathlib import Path

import pytest

from tests.rigs.cluster import FIRST_MS, STEP_MS, Cluster, by_partition, event_bytes, image_of
from worker.broker.produce import FastProducer

pytestmark = pytest.mark.kafka

STREAMS = 1500  # of about 3 KB: two dozen pages, several to a batch


def test_many_pages_in_one_transaction_commit_and_are_restored(bootstrap: str, unique: str, tmp_path: Path) -> None:
    with Cluster(bootstrap, unique, tmp_path, 1, worker={"snapshot_events": 2000}) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        with FastProducer(cluster.connection) as producer:
            for turn in range(3):
                for stream in range(STREAMS):
                    body = event_bytes(f"stream-{stream}", FIRST_MS + turn * STEP_MS, stream + turn)
                    producer.send(cluster.topics.input, 0, None, body)
            producer.flush()
        cluster.await_last()
        cluster.stop()
        image = image_of(by_partition(cluster.read(cluster.topics.changelog))[0])
        assert image.marker is not None
        assert sum(name is not None for page in image.pages for name in page.names) == STREAMS + 1
        assert len(image.pages) > 20
        worker.start()
        cluster.wait_until_live()
        cluster.stop()
        assert worker.tails == [0, 0]
        assert "CommitError" not in cluster.logs()
