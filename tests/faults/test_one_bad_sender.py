"""One sender with a wrong clock, or with names that never end: what it sends is refused, and all others go on."""

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline.shard import SWEEP_EVERY
from tests.rigs.cluster import FIRST_MS, STEP_MS, Cluster, Worker, event_bytes
from worker.broker.produce import FastProducer
from worker.broker.restore import TopicRecord
from worker.demo.auditor import Rules, audit

pytestmark = pytest.mark.kafka

MONTH_MS = 30 * 86_400_000
HOUR_MS = 3_600_000
STREAMS = 20
SENT = 2 * SWEEP_EVERY + 500  # two sweeps

KNOWN, ROOM, NAMES = 100, 200, 40_000
FLOOD_BYTES = 150 << 20  # 40,000 rows would be 442 MB


def let_any_timestamp_in(cluster: Cluster) -> None:
    """Brokers from Kafka 4 on refuse what is an hour ahead, unless a topic says otherwise; older ones take it."""
    cluster.configure(cluster.topics.input, {"message.timestamp.after.max.ms": str(2 * MONTH_MS)})


def untimed(stream: str, value: object) -> bytes:
    return json.dumps({"stream": stream, "value": value}).encode()


def reasons(letters: list[TopicRecord]) -> Counter[bytes]:
    return Counter(dict(letter.headers)["foldcast-error-reason"] for letter in letters)


def check(cluster: Cluster) -> list[dict[str, object]]:
    """Every record is accounted for; the forecasts."""
    outputs = cluster.read(cluster.topics.output)
    letters = cluster.read(cluster.topics.dead_letters)
    report = audit(cluster.read(cluster.topics.input), outputs, letters, Rules(), cluster.topics.input)
    assert report.ok, "\n".join(report.lines())
    return [json.loads(record.value or b"") for record in outputs]


def test_a_stamp_a_month_ahead_costs_its_stream_one_event_and_the_others_nothing(
    bootstrap: str, unique: str, tmp_path: Path
) -> None:
    with Cluster(bootstrap, unique, tmp_path, 1, model={"hidden_size": 8}, worker={"stream_ttl_s": 60}) as cluster:
        let_any_timestamp_in(cluster)
        worker = cluster.worker("one")
        cluster.wait_until_live()
        first_ms = round(time.time() * 1000) - HOUR_MS
        with FastProducer(cluster.connection) as producer:
            for n in range(SENT):
                ahead_ms = MONTH_MS if n == 50 else 0
                body = untimed(f"s{n % STREAMS}", n % 17)
                producer.send(cluster.topics.input, 0, None, body, first_ms + n * 100 + ahead_ms)
            producer.flush()
        cluster.await_last()
        worker.kill()
        worker.start()
        cluster.wait_until_live()
        cluster.await_last()
        cluster.stop()
        forecasts = check(cluster)
        assert reasons(cluster.read(cluster.topics.dead_letters)) == {b"future_time": 1}
        by_stream = Counter(str(f["stream"]) for f in forecasts)
        assert by_stream == {
            **{f"s{s}": SENT // STREAMS for s in range(STREAMS)},
            "s10": SENT // STREAMS - 1,
            "last-0": 2,
        }
        begun = Counter(str(f["stream"]) for f in forecasts if f["times"] is None)
        assert set(begun.values()) == {1}, "no stream was forgotten and begun again"


def resident_bytes(worker: Worker) -> int:
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])


def test_a_flood_of_names_takes_the_room_there_is_and_no_more(bootstrap: str, unique: str, tmp_path: Path) -> None:
    with Cluster(bootstrap, unique, tmp_path, 1, worker={"max_streams": ROOM}) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        with FastProducer(cluster.connection) as producer:

            def known(turn: int) -> None:
                for s in range(KNOWN):
                    body = event_bytes(f"known-{s}", FIRST_MS + turn * STEP_MS, turn % 7)
                    producer.send(cluster.topics.input, 0, None, body)

            for turn in range(20):
                known(turn)
            producer.flush()
            cluster.await_last()
            before = resident_bytes(worker)
            for n in range(NAMES):
                producer.send(cluster.topics.input, 0, None, event_bytes(f"flood-{n}", FIRST_MS, n))
                if n % 4000 == 0:
                    known(20 + n // 4000)
            producer.flush()
        cluster.await_last()
        grown = resident_bytes(worker) - before
        print(f"\nmemory grew by {grown >> 20} MiB")
        assert grown < FLOOD_BYTES
        too_many = NAMES - (ROOM - KNOWN - 1)
        assert worker.metric('foldcast_dead_letters_total{reason="too_many_streams"}') == too_many
        assert worker.metric("foldcast_streams_max") == ROOM
        worker.kill()
        worker.start()
        cluster.wait_until_live()
        cluster.await_last()
        cluster.stop()
        forecasts = check(cluster)
        by_stream = Counter(str(f["stream"]) for f in forecasts)
        assert len(by_stream) == ROOM
        assert [by_stream[f"known-{s}"] for s in range(KNOWN)] == [30] * KNOWN
        assert reasons(cluster.read(cluster.topics.dead_letters)) == {b"too_many_streams": too_many}
        assert "room streams=200 why=worker.max_streams" in cluster.logs()
