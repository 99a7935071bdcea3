"""Retention that has passed a killed worker's image: it says what is lost, and goes on without it where it may."""

from pathlib import Path

import pytest

from tests.rigs.cluster import FIRST_MS, STEP_MS, Cluster, event_bytes
from tests.rigs.unreadable import delete_records
from worker.broker.produce import FastProducer
from worker.demo.auditor import Rules, audit

pytestmark = pytest.mark.kafka

BEFORE, MISSED, KEPT = 40, 30, 20  # events before the kill; of those after it, what the log loses and what it keeps


def feed(cluster: Cluster, first: int, number: int) -> None:
    with FastProducer(cluster.connection) as producer:
        for n in range(first, first + number):
            for partition in range(cluster.partitions):
                value = event_bytes(f"s{partition}", FIRST_MS + n * STEP_MS, n)
                producer.send(cluster.topics.input, partition, None, value)
        producer.flush()


def test_records_that_retention_took_are_named_and_only_their_partition_goes_without(
    bootstrap: str, unique: str, tmp_path: Path
) -> None:
    never = {"snapshot_events": 100_000, "snapshot_interval_s": 3600}  # so that the image is that of the start
    with Cluster(bootstrap, unique, tmp_path, 2, model={"hidden_size": 8}, worker=never) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        feed(cluster, 0, BEFORE)
        cluster.await_last()
        worker.kill()
        feed(cluster, BEFORE + 1, MISSED + KEPT)
        committed, inputs = cluster.committed(), cluster.read(cluster.topics.input)
        assert committed == {0: BEFORE + 1, 1: BEFORE + 1}, "an event each that was waited for"
        low = committed[0] + MISSED
        delete_records(cluster, 0, low)

        worker.start()
        cluster.wait_for(lambda: worker.life.ended, "the worker refuses")
        assert worker.wait() == 1
        assert f"records from 0 are needed, the log begins at {low}; worker.on_gap = skip" in worker.log.read_text()

        worker.environment["FOLDCAST_WORKER__ON_GAP"] = "skip"
        worker.start()
        cluster.wait_until_live()
        feed(cluster, BEFORE + 1 + MISSED + KEPT, 1)
        cluster.await_last()
        assert worker.metric("foldcast_input_gap_records_total") == MISSED
        cluster.stop()
        outputs = cluster.read(cluster.topics.output)
        gone = [record for record in inputs if record.partition == 0 and committed[0] <= record.offset < low]
        assert len(gone) == MISSED
        everything = [record for record in inputs if record not in gone]
        everything += [r for r in cluster.read(cluster.topics.input) if r.offset >= len(inputs) // 2]
        report = audit(everything, outputs, [], Rules(), cluster.topics.input)
        assert report.ok, "\n".join(report.lines())
        assert report.right["forecasts"] == 2 * (BEFORE + 1 + KEPT + 2) + MISSED
