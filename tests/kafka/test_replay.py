"""`foldcast replay` gives what was published, across adoptions and a restart, and explains one forecast."""

import faulthandler
import json
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.rigs.cluster import Cluster, Feeder, Source
from worker.__main__ import main
from worker.broker import admin
from worker.broker.produce import FastProducer
from worker.broker.restore import TopicReader

pytestmark = pytest.mark.kafka

HALF = 2700  # forecasts before and after the restart
LIMIT_S = 150.0  # on a machine that is busy
RUN = {
    "model": {"hidden_size": 8},
    "worker": {"snapshot_events": 1000, "changelog_history_s": 3600},
    "fine_tune": {"adopt_interval_s": 0.5, "window": 8, "max_cpu_share": 0.5},
}


def await_half(cluster: Cluster, forecasts: TopicReader, changelog: TopicReader) -> None:
    """Until so many more forecasts are published, and weights have come into service."""
    published, adopted, deadline = 0, 0, time.monotonic() + LIMIT_S
    while published < HALF or not adopted:
        published += len(forecasts.poll(0.2))
        offsets = [(record.key or b"").removeprefix(b"weights-") for record in changelog.poll(0.0)]
        adopted += sum(offset.isdigit() and int(offset) > 0 for offset in offsets)  # at 0 it began
        assert time.monotonic() < deadline, f"{published} forecasts, {adopted} adoptions\n{cluster.ends_of_logs()}"


@pytest.fixture
def forecast(bootstrap: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A partition that two lives of a worker have forecast, learning; its settings are in the environment."""
    faulthandler.cancel_dump_traceback_later()  # set for tests that take seconds
    with Cluster(bootstrap, unique, tmp_path, 1, **RUN) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live(LIMIT_S)
        feeder = Feeder(cluster, Source(20, 1, seed=7), 400.0)
        with (
            TopicReader(cluster.connection, cluster.topics.output) as forecasts,
            TopicReader(cluster.connection, cluster.topics.changelog) as changelog,
        ):
            feeder.start()
            await_half(cluster, forecasts, changelog)
            worker.kill()
            worker.start()
            await_half(cluster, forecasts, changelog)
        feeder.finish()
        cluster.await_last()
        cluster.stop()
        for pair in cluster.environment.items():
            monkeypatch.setenv(*pair)
        yield cluster


def test_a_replay_gives_what_was_published_and_explains_it(
    forecast: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster, topics = forecast, forecast.topics
    ends = [admin.bounds(cluster.connection, name) for name in topics.names]

    def said(*arguments: str, code: int = 0) -> str:
        assert main(["replay", "--partition", "0", *arguments]) == code
        out = capsys.readouterr()
        return out.err if code else out.out

    published = cluster.read(topics.output)
    whole = json.loads(said("--json", "--from", "0"))
    assert whole["image"] == 0
    assert whole["adoptions"] >= 2
    assert whole["compared"] == whole["agreed"] == len(published) >= 2 * HALF
    assert whole["largest_difference"] < 1e-6
    assert (whole["other_weights"], whole["unpublished"], whole["not_replayed"]) == (0, 0, 0)
    with capsys.disabled():
        print(f"\n{whole['compared']:,} forecasts agree, {whole['adoptions']} adoptions,", end=" ")
        print(f"largest difference {whole['largest_difference']:g} deviations")

    body = orjson.loads(published[HALF].value or b"")
    offset = int(body["id"].rpartition("-")[2])
    one = json.loads(said("--json", "--stream", body["stream"], "--from", str(offset), "--to", str(offset + 1)))
    assert 0 < one["image"] <= offset, "a later image than the first is near"
    assert (one["compared"], one["agreed"]) == (1, 1)
    parts = one["explanation"]["horizons"]["1"]
    assert parts["mean"] == pytest.approx(body["mean"][0], rel=1e-8)
    move = sum(expert["weight"] * (expert["forecast"] - body["value"]) for expert in parts["experts"].values())
    assert parts["mean"] - body["value"] == pytest.approx(parts["guard"] * move, abs=1e-5 * parts["scale"])

    lines = said("--stream", body["stream"], "--from", str(offset), "--to", str(offset + 1)).splitlines()
    assert lines[0].startswith(
        f"partition 0, offsets {offset:,} to {offset + 1:,}, from the image at {one['image']:,}: "
    )
    assert lines[1] == "1 forecasts compared, 1 agree; the largest difference is 0 deviations"
    assert lines[2].startswith(f"{offset}  {body['stream']}  0  now {body['mean'][0]:.9g}, ")
    assert [line.strip().split(" ")[0] for line in lines[3:8]] == [
        "value",
        "horizon",
        "experts:",
        "stacking:",
        "interval:",
    ]

    assert "no accepted event of 'nobody'" in said(
        "--stream", "nobody", "--from", str(offset), "--to", str(offset + 1), code=1
    )
    assert "there is nothing to replay from 9999999" in said("--from", "9999999", code=1)
    assert said("--from", "9", "--to", "3", code=2) == (
        "foldcast: --from is 9 and --to is 3; the second must be more, it is excluded\n"
    )
    assert [admin.bounds(cluster.connection, name) for name in topics.names] == ends, "nothing was written"

    headers = {**dict(published[HALF].headers), **dict(published[-1].headers), "foldcast-id": body["id"].encode()}
    with FastProducer(cluster.connection) as producer:  # a forecast that the input does not give
        forged = orjson.dumps({**body, "stream": "forged"})
        producer.send(topics.output, 0, b"forged", forged, None, [*headers.items()])
        producer.flush()
    assert main(["replay", "--partition", "0", "--json", "--from", str(offset)]) == 1
    assert json.loads(capsys.readouterr().out)["not_replayed"] == 1
