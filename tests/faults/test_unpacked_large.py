"""Batches of a megabyte that become hundreds: a worker makes no more of one than it may, says where, and goes on."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import codec

from tests.rigs.cluster import Cluster, Worker, send_packed
from tests.rigs.unreadable import GIVE_UP_S, PARTITIONS, feed, go_on_behind

pytestmark = pytest.mark.kafka

LIMIT_MB = 8
BOMB_MB = {"gzip": 400, "lz4": 200, "zstd": 400}  # what a batch of a megabyte can hold, or half of it
BOMB_MB |= {"snappy": 20} if codec.has_snappy() else {}
OF_A_BATCH = 16 * LIMIT_MB  # it is in memory twice; the rest is what a worker takes that reads on


def most_mb(worker: Worker) -> int:
    """The most memory that it ever had."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) // 1024


def cluster_of(bootstrap: str, unique: str, home: Path) -> Cluster:
    worker: dict[str, object] = {"snapshot_events": 100, "give_up_s": GIVE_UP_S, "commit_timeout_s": 3}
    model, learning = {"hidden_size": 8}, {"enabled": False}
    limits = {"max_batch_mb": LIMIT_MB}
    return Cluster(bootstrap, unique, home, PARTITIONS, model=model, worker=worker, fine_tune=learning, kafka=limits)


def ends(cluster: Cluster, worker: Worker, meanwhile: Callable[[], object], *words: str) -> None:
    """It gives up with these words in its last line; `meanwhile` is called while it tries."""
    meanwhile()
    cluster.wait_for(lambda: worker.life.ended, "the worker gives up")
    assert worker.wait() == 1
    sentence = cluster.logs().splitlines()[-1]
    print(f"\n{sentence}")
    for each in (*words, "worker.give_up_s", f"a batch becomes larger than {LIMIT_MB} MB", "raise kafka.max_batch_mb"):
        assert each in sentence


@pytest.mark.parametrize("compression", BOMB_MB)
def test_one_in_the_input_is_named_and_the_other_partitions_go_on(
    compression: str, bootstrap: str, unique: str, tmp_path: Path
) -> None:
    with cluster_of(bootstrap, unique, tmp_path) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        send_packed(cluster.connection, cluster.topics.input, 0, bytes(3 << 20), compression)
        cluster.await_last()  # what may become so large is read: one more dead letter
        before, mb = cluster.committed(), most_mb(worker)
        send_packed(cluster.connection, cluster.topics.input, 0, bytes(BOMB_MB[compression] << 20), compression)

        def others() -> None:
            feed(cluster, 1, lambda: cluster.logs().count("WARNING Unreadable") >= 3, "it tries again")
            assert most_mb(worker) - mb < OF_A_BATCH

        where = f"{cluster.topics.input}-0 cannot be unpacked from offset {before[0]} on"
        ends(cluster, worker, others, where, "kafka-delete-records", "worker.on_gap = skip")
        assert cluster.committed()[0] == before[0]
        assert cluster.committed()[1] > before[1], "the other partition went on meanwhile"
        assert " INFO dropped" not in cluster.logs(), "and no life ended"

        go_on_behind(cluster, worker)


def test_one_in_the_changelog_is_named_and_no_traceback(bootstrap: str, unique: str, tmp_path: Path) -> None:
    with cluster_of(bootstrap, unique, tmp_path) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        cluster.await_last()
        mb = most_mb(worker)
        cluster.stop()
        send_packed(cluster.connection, cluster.topics.changelog, 0, bytes(BOMB_MB["zstd"] << 20), "zstd")
        worker.start()

        def others() -> None:
            cluster.wait_for(lambda: cluster.logs().count("WARNING Unreadable") >= 3, "it tries again")
            assert most_mb(worker) - mb < OF_A_BATCH
            assert worker.life.states[1] == "live"

        ends(cluster, worker, others, f"{cluster.topics.changelog}-0 cannot be unpacked", "foldcast topics reset")
        assert "Traceback" not in cluster.logs()
        lives = [line for line in cluster.logs().splitlines() if "dropped" in line and "partition=1" in line]
        assert not lives, "the other partition was left alone"
        assert "restoring partitions=" not in cluster.logs(), "no cycle failed"
