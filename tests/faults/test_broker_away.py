"""A broker that is away, frozen and then killed: few lines, all ours, with its address; and lag that is never 0."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.rigs.cluster import Cluster, Source, Worker
from worker.broker.produce import FastProducer
from worker.broker.restore import TopicReader
from worker.demo import jars
from worker.demo.local_kafka import WHAT_TO_INSTALL, LocalKafka, kafka_from_jars
from worker.http.status import SILENCE_EVERY_S, TOTALS_EVERY_S

# Not the Kafka that the environment may name: that one is not for tests to kill
pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(not jars.can_run(), reason=WHAT_TO_INSTALL),
    pytest.mark.usefixtures("refused_connections"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

EVENTS = 5000  # so that it is in the middle of them
FAILURES = 3
LIMIT_S = 100.0
AWAY_S, MOST_LINES = 130.0, 30  # so long in all, of which the test waits for the first attempts
SAID = re.compile(r" WARNING (no answer from|CommitError: |BrokerError: )")
FAILED = re.compile(r" WARNING (CommitError|BrokerError): ")


@pytest.fixture(scope="module")
def kafka() -> Iterator[LocalKafka]:
    kafka = kafka_from_jars(nodes=1, heap_mb=400)
    yield kafka
    kafka.stop()


def test_a_broker_that_is_away_costs_few_lines_and_hides_no_lag(kafka: LocalKafka, unique: str, tmp_path: Path) -> None:
    address = kafka.bootstrap_servers
    with Cluster(address, unique, tmp_path, 2, worker={"give_up_s": 600}) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        cluster.await_last()

        kafka.freeze(1)
        before = len(lines_of(worker))
        cluster.wait_for(lambda: f"no answer from {address} for" in cluster.logs(), "it says who is silent", LIMIT_S)
        assert_ours(lines_of(worker)[before:], address)
        assert_behind(worker, dict.fromkeys(partitions_of(worker), 0.0))
        kafka.thaw(1)
        cluster.wait_for(lambda: "INFO brokers answer again" in cluster.logs(), "it says that it is over", LIMIT_S)
        cluster.await_last()

        source = Source(20, cluster.partitions, seed=1)
        with (
            FastProducer(cluster.connection) as producer,
            TopicReader(cluster.connection, cluster.topics.output) as out,
        ):
            for _ in range(EVENTS):
                producer.send(cluster.topics.input, *source.next())
            producer.flush()
            while not any((record.key or b"").startswith(b"stream") for record in out.poll(1.0)):
                pass
        kafka.kill(1)
        before = len(lines_of(worker))

        def failures() -> int:
            return sum(FAILED.search(line) is not None for line in lines_of(worker)[before:])

        cluster.wait_for(lambda: failures() >= 1, "it notices", LIMIT_S)
        behind = {p: float(each["behind_s"]) for p, each in partitions_of(worker).items()}  # type: ignore[arg-type]
        cluster.wait_for(lambda: failures() >= FAILURES, "it tries again", 2 * LIMIT_S)
        assert_ours(lines_of(worker)[before:], address)
        assert_few(lines_of(worker)[before:])
        assert_behind(worker, behind)


def lines_of(worker: Worker) -> list[str]:
    return worker.log.read_text().splitlines()


def assert_ours(lines: list[str], address: str) -> None:
    """A line an attempt with the broker's address, one of all lives that end, and nothing of the client."""
    # Without what was committed before, and what comes once a minute
    lines = [line for line in lines if " WARNING dead letter " not in line and " INFO totals " not in line]
    ours = [line for line in lines if SAID.search(line)]
    assert [line for line in lines if " INFO " not in line and line not in ours] == []
    assert [line for line in ours if address not in line] == []
    assert len(lines) <= len(ours) + 2, "all lives end once, whoever tries how often"


def assert_few(lines: list[str]) -> None:
    """No more lines in all while it is away: as pauses grow, no attempt comes sooner than the last one did."""
    at = [datetime.fromisoformat(line.split()[0]).timestamp() for line in lines if FAILED.search(line)]
    a_second = 1 / (at[-1] - at[-2]) + 1 / SILENCE_EVERY_S + 1 / TOTALS_EVERY_S
    due = len([line for line in lines if " WARNING dead letter " not in line]) + a_second * (AWAY_S - (at[-1] - at[0]))
    assert due <= MOST_LINES, f"{due:.1f} lines in {AWAY_S:g} s"


def partitions_of(worker: Worker) -> dict[str, dict[str, object]]:
    partitions: dict[str, dict[str, object]] = json.loads(worker.page("/api/status", 30.0))["partitions"]
    return partitions


def assert_behind(worker: Worker, before: dict[str, float]) -> None:
    """Every partition is further behind than before, by page and metrics, and no lag is 0."""
    lags = {name: value for name, value in worker.metrics().items() if "lag" in name}
    assert 0 not in lags.values()
    for partition, page in partitions_of(worker).items():
        assert lags[f'foldcast_consumer_lag_seconds{{partition="{partition}"}}'] > before[partition]
        assert page["behind_s"] > before[partition]  # type: ignore[operator]
        assert page.get("lag") != 0
