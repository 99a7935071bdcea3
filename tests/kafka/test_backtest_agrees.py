"""A back-test over a file says what the worker says, bit for bit."""

from pathlib import Path

import orjson
import pytest

from pipeline.backtest.backtest import backtest
from pipeline.shard import Shard
from tests.rigs.cluster import Cluster, event_bytes, random_weights
from worker.backtest.files import records
from worker.broker.produce import FastProducer
from worker.demo import newyork
from worker.publish import forecast_bodies
from worker.settings.sources import load

pytestmark = pytest.mark.kafka

EVENTS = 6000


def without_id(body: bytes) -> dict[str, object]:
    forecast = orjson.loads(body)
    del forecast["id"]
    return forecast


def test_a_back_test_gives_the_forecasts_of_a_worker(bootstrap: str, unique: str, tmp_path: Path) -> None:
    random_weights(load(None, {}), tmp_path / "weights")
    events = newyork.events()[:EVENTS]
    whole, history = tmp_path / "whole.csv", tmp_path / "history.csv"
    newyork.write_csv(whole)
    history.write_text("".join(whole.read_text().splitlines(keepends=True)[: EVENTS + 1]))

    with Cluster(
        bootstrap, unique, tmp_path, 1, model={"checkpoint": tmp_path / "weights"}, fine_tune={"enabled": False}
    ) as cluster:
        cluster.worker("one")
        with FastProducer(cluster.connection) as producer:
            for stream, time_ms, value in events:
                producer.send(cluster.topics.input, 0, stream.encode(), event_bytes(stream, time_ms, value))
            producer.flush()
        cluster.await_last()
        cluster.stop()
        published = [r.value or b"" for r in cluster.read(cluster.topics.output) if r.key != b"last-0"]

        plan = cluster.plan
        shard = Shard(plan.method, plan.network(), 0, plan.settings)
        expected: list[bytes] = []
        with history.open("rb") as raw:
            for part in backtest(records(raw, plan.decoder.form), [shard], plan.decoder):
                ids = [""] * len(part.forecasts.name)
                expected += forecast_bodies(part.forecasts, plan.method, shard.version, ids)

    assert len(published) > 5000
    assert [without_id(body) for body in published] == [without_id(body) for body in expected]
    last = orjson.loads(published[-1])
    assert last["mean"] != [last["value"]] * len(last["mean"]), "the network had something to say"
