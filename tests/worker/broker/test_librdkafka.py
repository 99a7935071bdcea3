"""What is librdkafka's alone: its properties, what it lacks, and a room of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.rigs.broker_rigs import KafkaRig, Worker, drive, in_group, joined, numbered
from worker.broker.contract import BrokerError, CommitError, Message
from worker.broker.librdkafka import beside
from worker.broker.librdkafka.beside import gap
from worker.broker.librdkafka.options import Log, consumer_properties, open_consumer, properties
from worker.broker.librdkafka.statistics import Statistics
from worker.refusal import Refusal
from worker.settings.kafka import Kafka
from worker.settings.worker import Worker as WorkerSettings

SECRET = "not-to-be-seen"


def test_the_settings_are_translated() -> None:
    given = properties(
        Kafka(
            bootstrap_servers="a:1,b:2",
            instance_id="one",
            client="librdkafka",
            security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-256",
            sasl_username="u",
            sasl_password=SECRET,
        )
    )
    assert given["bootstrap.servers"] == "a:1,b:2"
    assert given["client.id"] == "foldcast-one"
    assert given["sasl.mechanism"] == "SCRAM-SHA-256"
    assert (given["sasl.username"], given["sasl.password"]) == ("u", SECRET)
    assert not {"ssl.ca.location", "ssl.key.location"} & given.keys()


def test_the_other_client_gets_the_options_without_a_dot() -> None:
    from worker.broker.security import client_options

    options = client_options(Kafka(client="librdkafka", client_options={"debug.x": 1, "check_crcs": False}))
    assert options["check_crcs"] is False
    assert "debug.x" not in options
    with pytest.raises(Refusal, match="kafka-python has no such client options: debug"):
        client_options(Kafka(client_options={"debug.x": 1}))


@pytest.mark.parametrize("mechanism", ["GSSAPI", "AWS_MSK_IAM"])
def test_what_it_lacks_is_refused_with_the_way_on(mechanism: str) -> None:
    with pytest.raises(Refusal) as refused:
        properties(Kafka(security_protocol="SASL_SSL", sasl_mechanism=mechanism))
    assert str(refused.value) == (
        f"kafka.sasl_mechanism is {mechanism}, which kafka.client librdkafka lacks: make the client kafka-python, or "
        "set another mechanism"
    )


def test_a_property_that_it_does_not_know_is_refused_by_name_and_its_value_not_shown() -> None:
    kafka = Kafka(client="librdkafka", client_options={"no.such": SECRET})
    with pytest.raises(Refusal) as refused:
        open_consumer(kafka, consumer_properties(kafka, WorkerSettings()), Log())
    assert str(refused.value) == (
        "kafka.client_options cannot be used: librdkafka takes no such properties, or not their values: no.such; "
        "correct them, or leave them out"
    )


def test_a_property_that_the_worker_sets_is_refused() -> None:
    own = consumer_properties(Kafka(), WorkerSettings()).keys() | properties(Kafka(client="librdkafka")).keys()
    for name in own - {
        "check.crcs",
        "fetch.queue.backoff.ms",
        "reconnect.backoff.max.ms",
        "log.connection.close",
        "error_cb",
    }:
        with pytest.raises(ValueError, match="the worker sets these Kafka client options itself"):
            Kafka(client_options={name: 1})


def test_without_the_package_a_sentence_names_the_extra_and_the_default_does_without(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['confluent_kafka'] = None\n"
        "from worker.broker.kafka import _client; from worker.settings.kafka import Kafka\n"
        "_client(Kafka())\n"
        "_client(Kafka(client='librdkafka'))\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == (
        "worker.refusal.Refusal: kafka.client is librdkafka, which needs confluent_kafka, and it is not installed: "
        "pip install 'foldcast[librdkafka]'"
    )


@pytest.mark.parametrize(
    ("low", "high", "offsets", "stretch"),
    [
        (3, 6, [3, 4, 5], None),
        (3, 3, [], None),
        (3, 5, [], (3, 5, 0)),
        (3, 8, [5, 6, 7], (3, 5, 0)),
        (3, 8, [3, 4, 5], (6, 8, 0)),
        (0, 9, [0, 1, 3, 4, 6, 7, 8], (2, 6, 2)),
        (0, 9, [1, 2, 5, 6, 7], (0, 9, 5)),
    ],
)
def test_only_the_stretch_with_missing_offsets_is_read_once_more(
    low: int, high: int, offsets: list[int], stretch: tuple[int, int, int] | None
) -> None:
    assert gap(low, high, offsets) == stretch


@pytest.fixture
def gapped(bootstrap: str) -> Iterator[tuple[KafkaRig, Worker]]:
    """A worker that owns all, and of partition 0 a log whose offsets 2 to 5 hold no record that it may read."""
    rig = KafkaRig(bootstrap, "librdkafka")
    rig.feed(numbered(0, 2))
    rig.feed_aborted([(0, b"k", b"no", 1)] * 3)
    rig.feed(numbered(0, 2))
    yield rig, joined(rig)
    rig.close()


def nobody_answers(patch: pytest.MonkeyPatch, worker: Worker) -> None:
    """Let looks at gaps bring nothing."""
    patch.setattr(worker.broker._consumer._beside, "poll", lambda timeout_ms: {})  # type: ignore[attr-defined]


@pytest.mark.kafka
def test_what_lies_behind_a_gap_that_nobody_answers_for_is_put_off(
    gapped: tuple[KafkaRig, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, worker = gapped
    rig.feed(numbered(1, 2))
    with monkeypatch.context() as away:
        nobody_answers(away, worker)
        for partition in (0, 1):
            worker.broker.start(partition, 0)
        drive(worker, until=lambda: len(worker.rows.get(1, ())) == 2)
        for _ in range(5):
            worker.poll(0.2)
        assert {offset for offset, *_ in worker.rows.get(0, ())} <= {0, 1}
        away.setattr(beside, "LIMIT_S", 1.0)
        with pytest.raises(BrokerError, match=f"gaps of {rig.input} .*: no answer yet"):
            drive(worker, until=lambda: False)
    worker.broker.renew()
    worker.owned.clear()
    worker.rows.clear()
    in_group(worker)
    worker.broker.start(0, 0)
    drive(worker, until=lambda: worker.count() == 4)
    assert [offset for offset, *_ in worker.rows[0]] == [0, 1, 6, 7]
    assert worker.lost == {}


@pytest.mark.kafka
def test_what_was_put_off_comes_once_there_is_an_answer(
    gapped: tuple[KafkaRig, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, worker = gapped
    with monkeypatch.context() as away:
        nobody_answers(away, worker)
        worker.broker.start(0, 0)
        for _ in range(5):
            worker.poll(0.2)
    drive(worker, until=lambda: worker.count() == 4)
    assert [offset for offset, *_ in worker.rows[0]] == [0, 1, 6, 7]
    assert (worker.lost, worker.ended) == ({}, [])


class Deaf:
    """A client whose offsets nobody answers for, until somebody says so."""

    def __init__(self, client: Any) -> None:
        self._client, self.answered = client, Event()

    def send_offsets_to_transaction(self, *arguments: object) -> object:
        self.answered.wait(60.0)  # far beyond any limit of the producer's
        return self._client.send_offsets_to_transaction(*arguments)

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)


@pytest.mark.kafka
def test_offsets_that_nobody_answers_for_fail_the_transaction_and_the_next_one_goes_through(bootstrap: str) -> None:
    with closing(KafkaRig(bootstrap, "librdkafka")) as rig:
        rig.feed(numbered(0, 2))
        worker = joined(rig)
        producer = worker.broker._producer  # type: ignore[attr-defined]
        producer._producer = deaf = Deaf(producer._producer)
        with pytest.raises(CommitError, match="the offsets were not answered for in time") as failed:
            worker.commit([Message(rig.output, 0, b"k", b"lost")], {0: 1})
        assert failed.value.outcome == "refused"
        worker.broker.renew()
        deaf.answered.set()  # what it says then is of a transaction that is over
        in_group(worker)
        worker.commit([Message(rig.output, 0, b"k", b"sent")], {0: 2})
        assert [message.value for message in rig.readable(rig.output)] == [b"sent"]
        assert worker.committed(0) == 2


def test_a_session_without_an_answer_is_told_by_the_log_alone_and_what_is_fatal_is_no_trouble_of_a_broker() -> None:
    log = Log()
    log.log(2, "%s [%s] %s", "FATAL", "one#consumer-1", "Static consumer fenced by other consumer")
    assert not log.troubled
    log.log(4, "%s [%s] %s", "SESSTMOUT", "one#consumer-1", "Consumer group session timed out")
    assert log.troubled


def report(answers: int, waiting: int = 0, owed: int = 0) -> str:
    """A report of one partition and its broker, as far as it is read."""
    broker = {"nodeid": 1, "nodename": "host:9092", "state": "UP", "waitresp_cnt": owed}
    partition = {"broker": 1, "fetchq_cnt": waiting, "unknown": False}
    return json.dumps(
        {
            "brokers": {
                "b": {**broker, "source": "learned", "rx": answers},
                "c": {**broker, "source": "logical", "rx": 99},
            },
            "topics": {"in": {"partitions": {"0": partition, "-1": partition}}},
        }
    )


def test_a_broker_is_silent_where_it_answers_no_more_and_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((100.0, 101.0, 102.0, 106.0, 110.0, 110.0, 110.0))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    told = Statistics("in")
    assert (told.known(), told.words([0])) == (0, None)
    told.over(0)
    for answers in (1, 2, 2):
        told.take(report(answers))
        assert told.words([0]) is None
    told.take(report(2, waiting=5))
    assert told.words([0]) is None, "fetched records wait"
    told.take(report(2))
    assert told.words([0]) == "no answer from host:9092 for 8 s"
    told.rests(0)
    assert told.words([0]) is None
    told.over(0)
    assert told.words([0]) is None, "it was asked only now"
    assert told.known() == 1


def test_a_broker_that_owes_an_answer_is_silent_where_the_client_has_no_partition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter((1.0, 2.0, 30.0, 36.0, 37.0))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    told = Statistics("in")
    for answers, owed in ((1, 1), (2, 0), (2, 1)):
        told.take(report(answers, owed=owed))
        assert told.words([]) is None, "it is asked only now and then"
    told.take(report(2, owed=1))
    assert told.words([]) == "no answer from host:9092 for 6 s"
    told.take(report(3, owed=1))
    assert told.words([]) is None
