"""The changelog topic deleted under a worker: it leaves with an error that says so, and says it in few lines."""

from pathlib import Path

import pytest

from tests.rigs.cluster import Cluster, Feeder, Source
from worker.broker import admin

pytestmark = pytest.mark.kafka

PARTITIONS = 2
GIVE_UP_S = 10
LINES = 300


def test_a_worker_whose_changelog_is_deleted_gives_up(bootstrap: str, unique: str, tmp_path: Path) -> None:
    limits: dict[str, object] = {"snapshot_events": 100, "give_up_s": GIVE_UP_S, "commit_timeout_s": 3}
    with Cluster(bootstrap, unique, tmp_path, PARTITIONS, model={"hidden_size": 8}, worker=limits) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        feeder = Feeder(cluster, Source(20, PARTITIONS, seed=6), 200, transactions=False)
        feeder.start()
        cluster.await_last()
        before = len(cluster.logs().splitlines())
        admin.delete_topic(cluster.connection, cluster.topics.changelog)
        took_s = cluster.wait_for(lambda: worker.life.ended, "the worker gives up")
        feeder.finish()
        assert worker.wait() == 1
        lines = cluster.logs().splitlines()[before:]
        print(f"\ngave up after {took_s:.1f} s, {len(lines)} lines, the last of them:", *lines[-3:], sep="\n")
        assert len(lines) < LINES
        assert "worker.give_up_s" in lines[-1]
        assert "see that the topics are there" in lines[-1]
