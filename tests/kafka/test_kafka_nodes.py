"""Brokers of our own: they answer, survive a crash, and leave no process and no data behind."""

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Timer

import pytest

from tests.conftest import clients
from tests.rigs.documented import command, environment, programs
from tests.rigs.ports import free_port
from worker.broker import admin
from worker.broker.contract import NotYet
from worker.broker.produce import FastProducer
from worker.broker.producer import close
from worker.broker.restore import read_all
from worker.broker.security import open_producer
from worker.demo import jars
from worker.demo.local_kafka import BOOTSTRAP_VARIABLE, WHAT_TO_INSTALL, kafka_from_jars
from worker.settings.kafka import Kafka

# Not the Kafka that the environment may name: that one is not for tests to kill
pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(not jars.can_run(), reason=WHAT_TO_INSTALL),
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc"),
]
LIMIT_S = 60.0


def processes_naming(path: Path) -> list[str]:
    """Of the broker and its guard: both have the folder among their arguments."""
    found = []
    for arguments in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # ended meanwhile
            if str(path).encode() in arguments.read_bytes():
                found.append(arguments.parent.name)
    return found


def readable(connection: Kafka, topic: str) -> list[bytes | None]:
    """Nothing while a partition has no leader."""
    with suppress(NotYet):
        return [record.value for record in read_all(connection, topic)]
    return []


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_a_stopped_node_leaves_no_process_and_no_data() -> None:
    kafka = kafka_from_jars()
    assert kafka.home is not None
    assert len(processes_naming(kafka.home)) == 2
    admin.wait_until_answering(Kafka(bootstrap_servers=kafka.bootstrap_servers, instance_id="nodes-test"), LIMIT_S)
    kafka.stop()
    assert processes_naming(kafka.home) == []
    assert not kafka.home.exists()
    kafka.stop()


def test_a_node_maps_the_classes_that_one_before_it_has_loaded() -> None:
    kafka = kafka_from_jars()
    try:
        assert kafka.home is not None
        maps = [Path(f"/proc/{process}/maps").read_text() for process in processes_naming(kafka.home)]
        assert sum("classes.jsa" in mapped for mapped in maps) == 1, "Java's; the guard has none"
    finally:
        kafka.stop()


def test_a_frozen_node_stands_still_until_it_is_thawed_or_stopped() -> None:
    kafka = kafka_from_jars()
    home = kafka.home
    assert home is not None

    def stands_still() -> list[bool]:
        stats = (Path(f"/proc/{process}/stat").read_text() for process in processes_naming(home))
        return sorted(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)

    try:
        assert stands_still() == [False, False]
        kafka.freeze(1)
        wait_for(lambda: stands_still() == [False, True])  # its guard goes on
        kafka.thaw(1)
        wait_for(lambda: stands_still() == [False, False])
        kafka.freeze(1)
    finally:
        kafka.stop()
    assert processes_naming(home) == []


def test_a_producer_whose_broker_does_not_answer_is_closed_all_the_same(unique: str) -> None:
    kafka = kafka_from_jars()
    try:
        connection = Kafka(bootstrap_servers=kafka.bootstrap_servers, instance_id="nodes-test")
        admin.create_topics(connection, [admin.TopicSpec(unique, 1)])
        before = clients()
        producer = open_producer(connection)
        producer.send(unique, b"v").get(LIMIT_S)
        kafka.freeze(1)
        producer.send(unique, b"v")
        close(producer, 0.2)
        for client in clients() - before:
            client.join(LIMIT_S)
        assert clients() <= before
    finally:
        kafka.stop()


# kafka-python 3.0.12 leaves the socket of a refused connection to the garbage collector
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_records_of_2013_on_three_nodes_outlive_a_crash(unique: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "kafka")  # else the log keeps the client's errors, and they the sockets
    kafka = kafka_from_jars(nodes=3)
    try:
        connection = Kafka(bootstrap_servers=kafka.bootstrap_servers, instance_id="nodes-test")
        admin.create_topics(connection, [admin.TopicSpec(unique, 3)])
        assert admin.describe(connection, [unique])[unique].replication == 3
        with FastProducer(connection) as producer:
            for partition in range(3):
                producer.send(unique, partition, b"k", b"v", 1_357_020_000_000)
            producer.flush()
        kafka.kill(1)
        wait_for(lambda: readable(connection, unique) == [b"v"] * 3)
        kafka.restart(1)
        kafka.kill(2)
        wait_for(lambda: readable(connection, unique) == [b"v"] * 3)
    finally:
        kafka.stop()
        gc.collect()  # here, where the warning is expected


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_whoever_started_it_takes_it_along_however_they_die(sign: signal.Signals) -> None:
    code = (
        "import time; from worker.demo.local_kafka import *; print(kafka_from_jars().home, flush=True); time.sleep(300)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as owner:
        assert owner.stdout is not None
        home = Path(owner.stdout.readline().strip())
        assert len(processes_naming(home)) == 2
        os.kill(owner.pid, sign)
    wait_for(lambda: processes_naming(home) == [] and not home.exists())


@pytest.mark.parametrize("ignored", ["", "trap '' INT; "], ids=["in a terminal", "in the background"])
def test_a_kafka_for_the_worked_examples_is_at_its_port_until_it_is_interrupted(ignored: str, tmp_path: Path) -> None:
    port, given = free_port(), environment(programs(tmp_path / "bin"))
    given.pop(BOOTSTRAP_VARIABLE, None)
    start = f"{ignored}exec {command('docs/sensors.md', 'python -m worker.demo.broker')} --port {port}"
    with subprocess.Popen(["bash", "-c", start], env=given, stdout=subprocess.PIPE, text=True) as broker:
        assert broker.stdout is not None
        try:
            said = next((line for line in broker.stdout if line.startswith("Kafka is at")), "it ended before")
            assert f" 127.0.0.1:{port} " in said
            admin.wait_until_answering(Kafka(bootstrap_servers=f"127.0.0.1:{port}", instance_id="nodes-test"), LIMIT_S)
        finally:
            broker.send_signal(signal.SIGINT)
            ends = Timer(LIMIT_S, broker.kill)
            ends.start()
            broker.wait()
            ends.cancel()
    assert broker.returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
