"""A worker that must refuse says so before it joins, as `foldcast check` does: a live group goes on undisturbed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.cluster import Cluster
from tests.rigs.cluster import Worker as Process
from worker import check, topics
from worker.__main__ import main
from worker.broker import admin
from worker.broker.admin import Standing
from worker.broker.contract import Message, Polled
from worker.broker.kafka import KafkaBroker
from worker.broker.produce import FastProducer
from worker.broker.restore import LogReader, read_all
from worker.lives.loading import cold_start
from worker.plan import Plan
from worker.settings.kafka import Kafka
from worker.settings.settings import Settings
from worker.settings.sources import load
from worker.settings.worker import Worker

PARTITIONS = 2
LIMIT_S = 120.0
OTHER = "model.season was 'auto' and is 'week'"

pytestmark = pytest.mark.kafka


def settings_of(bootstrap: str, name: str) -> Settings:
    own = {"input_topic": f"{name}-in", "output_topic": f"{name}-out", "group_id": name, "instance_id": "live"}
    return load(None, {}, kafka={**own, "bootstrap_servers": bootstrap})


@pytest.fixture
def live(bootstrap: str, unique: str) -> Iterator[tuple[Settings, KafkaBroker]]:
    """A member of a group that has begun every shard, and what it was set to."""
    settings = settings_of(bootstrap, unique)
    topics.create(settings, PARTITIONS, 1)
    broker = KafkaBroker(settings.kafka, Worker(), 4 << 20)
    begin(settings, broker)
    yield settings, broker
    broker.close(leave=True)


def membership(broker: KafkaBroker) -> Polled:
    deadline = time.monotonic() + LIMIT_S
    while (polled := broker.poll(0.1)).membership is None:
        assert time.monotonic() < deadline, "not a member"
    return polled


def begin(settings: Settings, broker: KafkaBroker) -> None:
    plan, polled = Plan.of(settings), membership(broker)
    shards = {partition: plan.shard(0) for partition in range(PARTITIONS)}
    for shard in shards.values():
        shard.source = broker.input_id()
    sent = [
        Message(settings.kafka.changelog_topic, partition, *record)
        for partition, shard in shards.items()
        for record in cold_start(shard)
    ]
    broker.commit(sent, dict.fromkeys(shards, 0), polled.membership)


def generations(kafka: Kafka) -> list[int]:
    """The generations of the group so far, as the broker keeps them in its own topic, one record each."""
    key = (2).to_bytes(2) + len(kafka.group_id).to_bytes(2) + kafka.group_id.encode()
    values = [record.value for record in read_all(kafka, "__consumer_offsets") if record.key == key and record.value]
    return [int.from_bytes(value[4 + int.from_bytes(value[2:4]) :][:4]) for value in values]  # after "consumer"


def config(settings: Settings, folder: Path, **model: object) -> Path:
    kafka = settings.kafka
    names = ("bootstrap_servers", "input_topic", "output_topic", "group_id")
    lines = ["[kafka]", 'instance_id = "other"', *(f'{name} = "{getattr(kafka, name)}"' for name in names), "[model]"]
    path = folder / "other.toml"
    path.write_text("\n".join([*lines, *(f"{name} = {json.dumps(value)}" for name, value in model.items())]) + "\n")
    return path


def test_a_worker_with_another_model_leaves_a_live_group_as_it_is(
    live: tuple[Settings, KafkaBroker], tmp_path: Path
) -> None:
    settings, broker = live
    before, members = membership(broker).membership, admin.members(settings.kafka, settings.kafka.group_id)
    command = [sys.executable, "-m", "worker", "run", "--config", str(config(settings, tmp_path, season="week"))]
    environment = {**os.environ, "FOLDCAST_HTTP__PORT": "0", "FOLDCAST_HTTP__HOST": "127.0.0.1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as run:
        while run.poll() is None:
            membership(broker)  # as a live worker would, or the session ends
        assert run.stdout is not None
        said = run.stdout.read()
    assert run.returncode == 1, said
    assert said.splitlines()[-1] == (
        f"foldcast: the changelog of partition 0 does not fit these settings: {OTHER}; restore them, or go on under a "
        "new kafka.group_id (`foldcast run --from-group`)"
    )
    polled = membership(broker)
    assert (polled.membership, polled.ended, polled.began) == (before, frozenset(), frozenset())
    assert admin.members(settings.kafka, settings.kafka.group_id) == members
    assert [member.instance_id for member in members] == ["live"]


@pytest.mark.parametrize("name", ["two", "one"])
def test_a_live_worker_forecasts_on_in_its_generation_while_one_with_another_model_is_refused(
    bootstrap: str, unique: str, tmp_path: Path, name: str
) -> None:
    """Whatever the other is called: under the same name it would fence the live one."""
    with Cluster(bootstrap, unique, tmp_path, PARTITIONS, model={"hidden_size": 8}) as cluster:
        live = cluster.worker("one")
        cluster.wait_until_live()
        cluster.await_last()
        before, said = generations(cluster.connection), live.log.read_text()
        assert len(before) > 0
        other = Process(name, cluster)
        cluster.workers.append(other)
        other.log = tmp_path / "other.log"
        other.environment["FOLDCAST_MODEL__SEASON"] = "week"
        other.start()
        while other.running:
            cluster.await_last()
        assert other.wait() == 1
        assert f"does not fit these settings: {OTHER}" in other.log.read_text().splitlines()[-1]
        assert generations(cluster.connection) == before
        assert [line for line in live.log.read_text()[len(said) :].splitlines() if " INFO totals " not in line] == []
        cluster.stop()


def test_the_check_names_what_would_change_and_the_way_there(
    live: tuple[Settings, KafkaBroker], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, _ = live
    assert main(["check", "--config", str(config(settings, tmp_path))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"ok  {name}" for name in ("settings", "brokers", "topics", "rights", "changelog")
    ]
    assert lines[-1].endswith("the state of 2 partitions fits these settings, 0 have none yet")

    assert main(["check", "--json", "--config", str(config(settings, tmp_path, season="week"))]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    wrong = [finding["says"] for finding in told["checks"] if not finding["ok"]]
    assert len(wrong) == PARTITIONS
    assert all(OTHER in says and says.endswith("new kafka.group_id (`foldcast run --from-group`)") for says in wrong)


def test_the_check_ends_with_what_is_not_there(
    bootstrap: str, unique: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(bootstrap, unique)
    assert main(["check", "--config", str(config(settings, tmp_path))]) == 1
    assert (
        capsys.readouterr().out.splitlines()[-1].startswith(f"NO  brokers and topics: there is no topic {unique}-in,")
    )
    topics.create(settings, PARTITIONS, 1)
    admin.set_group_offsets(settings.kafka, unique, f"{unique}-in", {1: 5})
    assert main(["check", "--config", str(config(settings, tmp_path))]) == 1
    said = capsys.readouterr().out
    assert "NO  changelog: the changelog of partition 1 is empty, though the group has committed offset 5" in said
    assert main(["check", "--config", str(config(settings, tmp_path, season="none at all"))]) == 2


def test_the_newest_marker_is_found_without_reading_what_is_before_it(
    live: tuple[Settings, KafkaBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, _ = live
    monkeypatch.setattr(check, "LOOK_BACK", 4)
    began, opened = [], LogReader.open
    monkeypatch.setattr(LogReader, "open", lambda logs, *at: began.append(at[-1]) or opened(logs, *at))
    with FastProducer(settings.kafka) as producer:
        for _ in range(100):
            producer.send(settings.kafka.changelog_topic, 0, b"page-0-a", b"x")
        producer.flush()
    [(_, first_end), (_, second_end)] = admin.bounds(settings.kafka, settings.kafka.changelog_topic).values()
    check.verify(settings, Plan.of(settings), None)
    assert began == [first_end - 4, first_end - 32, max(0, first_end - 256), max(0, second_end - 4)]


def test_an_input_that_was_made_anew_and_lost_rights_are_found(live: tuple[Settings, KafkaBroker]) -> None:
    settings, _ = live
    found, plan = admin.standing(settings.kafka, topics.names_of(settings).names), Plan.of(settings)
    assert [*check._lacking(settings, found), *check._unfit(settings, plan, found)] == []
    anew = found._replace(input_id="another")
    assert all("the input was deleted and made anew" in why for why in check._unfit(settings, plan, anew))
    assert len([*check._unfit(settings, plan, anew)]) == PARTITIONS
    names = settings.kafka
    few = {names.input_topic: {"READ"}, names.output_topic: {"READ"}, names.changelog_topic: {"READ", "DESCRIBE"}}
    lacks = Standing({t: frozenset(ops) for t, ops in few.items()}, frozenset({"DESCRIBE"}), "", {}, {})
    assert [why.split("worker's user ")[1].split(" (")[0] for why in check._lacking(settings, lacks)] == [
        f"Write on topic {names.output_topic}",
        f"Write on topic {names.changelog_topic}",
        f"Read on group {names.group_id}",
    ]
