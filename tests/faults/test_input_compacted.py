"""An input that was compacted for a while: what a replay needed is gone from the middle of the log, and is missed."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from tests.rigs.cluster import FIRST_MS, STEP_MS, Cluster, event_bytes
from worker.broker.produce import FastProducer
from worker.broker.security import open_producer
from worker.demo import jars
from worker.demo.local_kafka import WHAT_TO_INSTALL, LocalKafka, kafka_from_jars

# Not the Kafka that the environment may name: its cleaner looks for work every 15 s
pytestmark = [pytest.mark.kafka, pytest.mark.skipif(not jars.can_run(), reason=WHAT_TO_INSTALL)]

EVENTS = 40
LOOKS = 120


@pytest.fixture(scope="module")
def kafka() -> Iterator[LocalKafka]:
    kafka = kafka_from_jars(heap_mb=400, extra_properties={"log.cleaner.backoff.ms": "200"})
    yield kafka
    kafka.stop()


def configure(cluster: Cluster, **configs: str) -> None:
    dotted = {name.replace("_", "."): value for name, value in configs.items()}
    cluster.configure(cluster.topics.input, dotted)


def feed(cluster: Cluster) -> None:
    """Events under one key, of which compaction keeps the last; one aborted and one committed transaction before."""
    producer = open_producer(cluster.connection, transactional_id=f"{cluster.topics.input}-feeder")
    producer.init_transactions()
    for end in (producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        producer.send(cluster.topics.input, event_bytes("t", FIRST_MS, 1), b"t", partition=0)
        producer.flush()
        end()
    producer.close()
    with FastProducer(cluster.connection) as plain:
        for n in range(EVENTS):
            plain.send(cluster.topics.input, 0, b"s", event_bytes("s", FIRST_MS + n * STEP_MS, n))
            plain.flush()  # a batch of its own


def compact(cluster: Cluster) -> int:
    """Switch compaction on, wait until it has removed something, and switch it off. How many records that took."""
    before = len(cluster.read(cluster.topics.input))
    configure(cluster, cleanup_policy="compact", segment_ms="1", min_cleanable_dirty_ratio="0.001")
    for n in range(LOOKS):
        with FastProducer(cluster.connection) as producer:  # rolls the segment
            producer.send(cluster.topics.input, 0, b"roll-%d" % n, b"no event")
        before += 1
        now = len(cluster.read(cluster.topics.input))
        if before - now >= EVENTS - 1:
            break
        Event().wait(0.5)  # nobody tells when the cleaner has been there
    configure(cluster, cleanup_policy="delete")
    return before - len(cluster.read(cluster.topics.input))


def test_records_that_compaction_took_from_a_replay_are_refused_or_counted(
    kafka: LocalKafka, unique: str, tmp_path: Path
) -> None:
    with Cluster(kafka.bootstrap_servers, unique, tmp_path, 1, model={"hidden_size": 8}) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        feed(cluster)
        cluster.await_last()
        worker.kill()
        committed = cluster.committed()[0]
        removed = compact(cluster)
        assert removed >= EVENTS - 1
        worker.start()
        cluster.wait_for(lambda: worker.life.ended, "the worker refuses")
        assert worker.wait() == 1
        sentence = cluster.logs().splitlines()[-1]
        print(f"\n{sentence}")
        assert "has holes" in sentence
        worker.environment["FOLDCAST_WORKER__ON_GAP"] = "skip"
        worker.environment["FOLDCAST_WORKER__MAX_POLL_RECORDS"] = "1"  # else C may lie amid the records of a poll
        worker.start()
        cluster.wait_until_live()
        cluster.await_last()
        counted = [worker.metric(f"foldcast_{name}_records_total") for name in ("unlearnt", "input_gap")]
        aborted = 2  # the record and its marker, of which nothing is left to tell them by
        assert removed <= sum(counted) <= removed + aborted, "without the other marker"
        assert counted[0] >= EVENTS - 2, f"they lay before C = {committed}"
        cluster.stop()
