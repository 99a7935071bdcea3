"""Two workers under one instance id and no traffic: the older one ends and says why, the younger one goes on."""

from pathlib import Path

import pytest

from tests.rigs.cluster import Cluster

pytestmark = pytest.mark.kafka

PARTITIONS = 2


def test_of_two_workers_with_one_name_one_ends_though_nothing_is_committed(
    bootstrap: str, unique: str, tmp_path: Path
) -> None:
    with Cluster(bootstrap, unique, tmp_path, PARTITIONS, model={"hidden_size": 8}) as cluster:
        older = cluster.worker("one")
        cluster.wait_until_live()
        younger = cluster.worker("one")
        took_s = cluster.wait_for(lambda: older.life.ended, "the older one ends")
        assert older.wait() == 1
        (sentence,) = [line for line in cluster.logs().splitlines() if "fenced twice" in line][:1]
        print(f"\nended after {took_s:.1f} s: {sentence}")
        assert "another worker runs under the same kafka.instance_id" in sentence
        cluster.workers.remove(older)
        cluster.wait_until_live()
        cluster.await_last()
        cluster.stop()
        assert len(cluster.read(cluster.topics.output)) == PARTITIONS
        assert not younger.running
