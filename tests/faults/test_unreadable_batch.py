"""A batch in the input that a worker cannot unpack: it gives up, says where and what to do, and goes on without it."""

from pathlib import Path

import pytest
from kafka import codec

from tests.rigs.cluster import Cluster
from tests.rigs.unreadable import GIVE_UP_S, PARTITIONS, feed, go_on_behind, set_compression

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(codec.has_snappy(), reason="python-snappy is installed, and so nothing is unreadable here"),
]

PAUSES = 8  # 0.5, 1, 2, 4, 8 and what a slow start adds


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

        go_on_behind(cluster, worker)
