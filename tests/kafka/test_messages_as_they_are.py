"""Messages as people have them on a real Kafka: the worked settings, and several nested targets through a kill."""

import json
from collections import Counter
from pathlib import Path

import orjson
import pytest

from pipeline.decoding.times import from_iso
from tests.rigs.cluster import FIRST_MS, STEP_MS, Cluster
from tests.rigs.documented import ENVELOPES, SENT_MS, Shown, envelopes
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


BARE = Shown("the message is the number", b"s", b"21.5", [("s", "2024-03-22T15:28:33Z", 21.5)])
ZONED = Shown(
    "a time without a zone",
    None,
    b'{"stream": 12, "time": "2024-03-22 16:28:32", "value": "21.5"}',
    [("12", "2024-03-22T15:28:32Z", 21.5)],
)
SETTINGS_OF = {
    BARE.name: '[events]\ntarget_field = "."\n',
    ZONED.name: '[events]\ntimezone = "Europe/Berlin"\nnumbers = "lenient"\n',
}


@pytest.mark.parametrize("shown", [*envelopes(), BARE, ZONED], ids=lambda shown: shown.name)
def test_a_worker_with_these_settings_forecasts_the_events_that_are_shown(
    bootstrap: str, unique: str, tmp_path: Path, shown: Shown
) -> None:
    file = ENVELOPES / f"{shown.name}.toml"
    if shown.name in SETTINGS_OF:
        file = tmp_path / "own.toml"
        file.write_text(SETTINGS_OF[shown.name])
    with Cluster(bootstrap, unique, tmp_path, 1, fine_tune={"enabled": False}) as cluster:
        worker = cluster.worker("one", "--config", str(file))
        with (
            FastProducer(cluster.connection) as producer,
            TopicReader(cluster.connection, cluster.topics.output, {0: 0}) as reader,
        ):
            producer.send(cluster.topics.input, 0, shown.key, shown.body, SENT_MS)
            producer.flush()
            while not reader.poll(0.2):
                assert not worker.life.ended, cluster.ends_of_logs()
                assert " dead letter " not in cluster.logs(), cluster.ends_of_logs()
        cluster.stop()
        forecasts = [orjson.loads(record.value or b"") for record in cluster.read(cluster.topics.output)]
        assert cluster.read(cluster.topics.dead_letters) == []
    found = {(each["stream"], each["time"], each["value"]) for each in forecasts}
    assert found == {(stream, from_iso(time), value) for stream, time, value in shown.events}
    assert len(forecasts) == len(shown.events)


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
