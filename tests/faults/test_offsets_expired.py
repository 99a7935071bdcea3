"""A quiet group whose committed offsets expire once it has no member: nothing is lost, so a restart goes on from C."""

import faulthandler
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest

from pipeline.durable.image import Marker
from tests.rigs.cluster import FIRST_MS, STEP_MS, Cluster, event_bytes, image_of
from worker.broker.restore import TopicReader
from worker.broker.security import open_producer
from worker.demo import jars
from worker.demo.local_kafka import WHAT_TO_INSTALL, LocalKafka, kafka_from_jars

# Not the Kafka that the environment may name: its offsets live for a week
pytestmark = [pytest.mark.kafka, pytest.mark.skipif(not jars.can_run(), reason=WHAT_TO_INSTALL)]

EVENTS = 30
EXPIRED_S = 180  # 6 of session, 60 of retention, the shortest there is, and what a busy machine adds


@pytest.fixture(scope="module")
def kafka() -> Iterator[LocalKafka]:
    short = {"offsets.retention.minutes": "1", "offsets.retention.check.interval.ms": "1000"}
    kafka = kafka_from_jars(heap_mb=400, extra_properties=short)
    yield kafka
    kafka.stop()


def feed(cluster: Cluster, committed: bool) -> None:
    """Events in one transaction, and its marker."""
    with closing(open_producer(cluster.connection, transactional_id=f"{cluster.topics.input}-feeder")) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        for n in range(EVENTS):
            producer.send(cluster.topics.input, event_bytes("s", FIRST_MS + n * STEP_MS, n), partition=0)
        producer.flush()
        producer.commit_transaction() if committed else producer.abort_transaction()


def await_image(cluster: Cluster, offset: int) -> Marker:
    """The marker, once the changelog has an image at this offset."""
    with TopicReader(cluster.connection, cluster.topics.changelog) as reader:
        records = []
        while True:
            records += reader.poll(0.2)
            marker = image_of(records).marker
            if marker is not None and marker.offset == offset:
                return marker


def test_a_quiet_group_that_lost_its_offsets_goes_on_where_it_was(
    kafka: LocalKafka, unique: str, tmp_path: Path
) -> None:
    faulthandler.cancel_dump_traceback_later()  # set for tests that take seconds
    often: dict[str, object] = {"snapshot_interval_s": 1}
    with Cluster(kafka.bootstrap_servers, unique, tmp_path, 1, model={"hidden_size": 8}, worker=often) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        feed(cluster, committed=True)
        assert not await_image(cluster, EVENTS + 1).clean  # the marker is behind it too
        worker.kill()
        feed(cluster, committed=False)
        for _ in range(EXPIRED_S):
            if not cluster.committed():
                break
            Event().wait(1)  # nobody tells when offsets expire
        assert cluster.committed() == {}
        worker.start()
        cluster.wait_until_live()
        cluster.await_last()
        cluster.stop()
        ids = [dict(record.headers)["foldcast-id"].decode() for record in cluster.read(cluster.topics.output)]
        last = 2 * EVENTS + 2  # after both transactions' markers
        assert ids == [f"{cluster.topics.input}-0-{offset}" for offset in [*range(EVENTS), last]]
