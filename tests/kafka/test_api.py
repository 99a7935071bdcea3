"""The API of a worker on a real Kafka: each stream's last forecast is the record that was published."""

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from tests.rigs.cluster import LIMIT_S, Cluster, Feeder, Source, Worker
from worker.broker.restore import TopicReader

pytestmark = pytest.mark.kafka

STREAMS, PARTITIONS, FORECASTS = 8, 2, 300


def streams_of(worker: Worker, events: int) -> list[dict[str, Any]]:
    """All streams in short, once so many events of them are remembered."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        found: list[dict[str, Any]] = orjson.loads(worker.page("/api/streams?limit=500"))["streams"]
        seen = sum(stream["events"] for stream in found)
        if seen == events:
            return found
        assert time.monotonic() < deadline, f"{seen} events are remembered, not {events}"
        time.sleep(0.2)  # nothing tells


def test_the_last_forecast_of_each_stream_is_the_record_that_was_published(
    bootstrap: str, unique: str, tmp_path: Path
) -> None:
    with Cluster(bootstrap, unique, tmp_path, PARTITIONS, model={"hidden_size": 8}) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        feeder = Feeder(cluster, Source(STREAMS, PARTITIONS, seed=3), 200.0)
        with TopicReader(cluster.connection, cluster.topics.output) as reader:
            feeder.start()
            came = 0
            while came < FORECASTS:
                came += len(reader.poll(0.2))
        feeder.finish()
        cluster.await_last()
        records = sorted(cluster.read(cluster.topics.output), key=lambda record: (record.partition, record.offset))
        last = {(record.key or b"").decode(): record for record in records}
        found = streams_of(worker, len(records))
        assert {stream["stream"] for stream in found} == {*last}
        for name, record in last.items():
            page = orjson.loads(worker.page(f"/api/streams/{quote(name, safe='')}"))
            published = orjson.loads(record.value or b"")
            said = page["forecast"]
            assert published["id"] == f"{cluster.topics.input}-{record.partition}-{said.pop('offset')}"
            assert said == {field: published[field] for field in said}
            assert page["partition"] == record.partition
        assert orjson.loads(worker.page("/api/status"))["history_bytes"] > 0
