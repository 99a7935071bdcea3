"""Messages of several nested targets, numbers in text and sentinels, on a real Kafka and through a kill."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.rigs.cluster import FIRST_MS, STEP_MS, Cluster
from worker.broker.produce import FastProducer
from worker.broker.restore import TopicReader

pytestmark = pytest.mark.kafka

RECORDS = 600
SETTINGS: dict[str, object] = {
    "stream_field": "device.id",
    "time_field": "at",
    "target_fields": json.dumps(["data.temp", "rh"]),
    "numbers": "lenient",
    "missing_values": json.dumps([-9999]),
}


def body(n: int) -> bytes:
    """Mostly two good targets; each tenth temp is a sentinel, each tenth no number."""
    temp = {3: "-9999", 7: "3,5"}.get(n % 10, f"{20 + n % 7}.5")
    at = FIRST_MS + n * STEP_MS
    return json.dumps({"device": {"id": n % 6}, "at": at, "data": {"temp": temp}, "rh": 40 + n % 9}).encode()


def test_each_good_target_has_one_forecast_through_a_kill(bootstrap: str, unique: str, tmp_path: Path) -> None:
    with Cluster(bootstrap, unique, tmp_path, 2, events=SETTINGS, fine_tune={"enabled": False}) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        ids: Counter[str] = Counter()
        with (
            FastProducer(cluster.connection) as producer,
            TopicReader(cluster.connection, cluster.topics.output, {0: 0, 1: 0}) as reader,
        ):
            for n in range(RECORDS):
                producer.send(cluster.topics.input, n % 2, b"%d" % (n % 6), body(n))
                if n == RECORDS // 2:
                    producer.flush()
                    worker.kill()
                    worker.start()
            producer.flush()
            last = {f"{cluster.topics.input}-{p}-{RECORDS // 2 - 1}:rh" for p in range(2)}
            while not last <= ids.keys():
                for record in reader.poll(0.2):
                    forecast_id = dict(record.headers)["foldcast-id"].decode()
                    ids[forecast_id] += 1
                    assert record.key is not None
                    assert record.key.decode().endswith("/" + forecast_id.rpartition(":")[2])
                assert not worker.life.ended, cluster.ends_of_logs()
        cluster.wait_until_live()
        cluster.stop()
        letters = cluster.read(cluster.topics.dead_letters)
    named = [f"{cluster.topics.input}-{n % 2}-{n // 2}" for n in range(RECORDS)]
    due = [f"{name}:rh" for name in named]
    due += [f"{name}:temp" for n, name in enumerate(named) if n % 10 not in (3, 7)]
    assert ids == Counter(due)
    assert sorted((r.partition, r.value) for r in letters) == sorted((n % 2, body(n)) for n in range(7, RECORDS, 10))
    assert all(b"temp: '3,5' is no number: write a point" in dict(r.headers)["foldcast-error-message"] for r in letters)
