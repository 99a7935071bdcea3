"""Rows beside forecasts through kills: one row per forecast and horizon, number by number, for whoever reads both."""

import faulthandler
from pathlib import Path

import orjson
import pytest

from tests.rigs.cluster import Cluster, Feeder, Source
from tests.rigs.rows import rows_of
from worker.broker.restore import TopicReader, TopicRecord

pytestmark = pytest.mark.kafka

PARTITIONS = 2


def await_forecasts(reader: TopicReader, number: int) -> None:
    """Wait until so many more of them are committed."""
    while number > 0:
        number -= len(reader.poll(0.2))


def in_order(records: list[TopicRecord]) -> list[TopicRecord]:
    return sorted(records, key=lambda record: (record.partition, record.offset))


def test_rows_and_records_agree_number_by_number_however_often_a_worker_is_killed(
    bootstrap: str, unique: str, tmp_path: Path
) -> None:
    faulthandler.cancel_dump_traceback_later()  # set for tests that take seconds
    rows_topic = f"{unique}-rows"
    with Cluster(
        bootstrap,
        unique,
        tmp_path,
        PARTITIONS,
        model={"hidden_size": 8},
        worker={"snapshot_events": 100},
        output={"rows_topic": rows_topic},
    ) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        feeder = Feeder(cluster, Source(20, PARTITIONS, seed=7), 200.0)
        with TopicReader(cluster.connection, cluster.topics.output) as reader:
            feeder.start()
            for _ in range(3):
                await_forecasts(reader, 150)
                worker.kill()
                worker.start()
        cluster.wait_until_live()
        feeder.finish()
        cluster.await_last()
        cluster.stop()
        records, rows = in_order(cluster.read(cluster.topics.output)), in_order(cluster.read(rows_topic))
    due = [(r.partition, r.key, row) for r in records for row in rows_of(orjson.loads(r.value or b""))]
    assert len(due) >= 5 * 450
    assert [(r.partition, r.key, orjson.loads(r.value or b"")) for r in rows] == due
    assert len({row["id"] for _, _, row in due}) == len(due)
