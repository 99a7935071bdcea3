"""Which Kafka is chosen; none is started here."""

import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from worker.demo import jars
from worker.demo.jars import VERSION
from worker.demo.kafka_node import LocalKafkaError
from worker.demo.local_kafka import (
    BOOTSTRAP_VARIABLE,
    IMAGE,
    LocalKafkaUnavailable,
    container_command,
    kafka_from_jars,
    local_kafka,
)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing in it, no Kafka named and no jars fetched before."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(BOOTSTRAP_VARIABLE, raising=False)
    monkeypatch.setattr(jars, "LIBS", tmp_path / "libs")
    return tmp_path


def install(tools: Path, name: str, script: str) -> None:
    (tools / name).write_text(f"#!/bin/sh\n{script}\n")
    (tools / name).chmod(0o755)


def says_what_to_install(nodes: int = 1) -> bool:
    with pytest.raises(LocalKafkaUnavailable) as caught, local_kafka(nodes):
        pass
    message = str(caught.value)
    return "JDK (17 or newer) and Maven" in message and "docker" in message and BOOTSTRAP_VARIABLE in message


def test_without_java_and_docker_one_sentence_says_what_to_install(tools: Path) -> None:
    assert says_what_to_install()
    with pytest.raises(LocalKafkaUnavailable, match="JDK"):
        kafka_from_jars()


@pytest.mark.parametrize("version", ['openjdk version "11.0.2" 2019-01-15', 'java version "1.8.0_392"', "no java here"])
def test_an_old_java_is_no_java(tools: Path, version: str) -> None:
    install(tools, "java", f"echo '{version}' >&2")
    install(tools, "mvn", "exit 0")
    assert says_what_to_install()


def test_java_without_maven_serves_only_when_the_jars_are_there(tools: Path) -> None:
    install(tools, "java", "echo 'openjdk version \"21.0.5\" 2024-10-15' >&2")
    assert says_what_to_install()
    (tools / "libs").mkdir()
    assert jars.can_run()


def test_docker_without_an_engine_is_no_docker(tools: Path) -> None:
    install(tools, "docker", "exit 1")
    assert says_what_to_install()


def test_three_nodes_are_not_started_in_containers(tools: Path) -> None:
    install(tools, "docker", "exit 0")
    assert says_what_to_install(nodes=3)


def test_the_container_is_ended_and_removed_at_the_end(tools: Path) -> None:
    # the stand-in for docker answers on the published port, as a broker would
    listen = "import re, socket, sys, time; s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1])))"
    listen += "; s.listen(); print('Kafka Server started', flush=True); time.sleep(60)"
    port = "for a; do case $a in --publish=*) p=${a#*1:}; p=${p%:*};; esac; done"
    serve = f"""{port}; exec '{sys.executable}' -c "{listen}" $p"""
    install(tools, "docker", f"echo $1 $2 $3 >>{tools}/calls\nif [ $1 = run ]; then {serve}; fi")
    said: list[str] = []
    with local_kafka(say=said.append) as kafka:
        assert kafka.home is not None
        assert kafka.home.exists()
    assert not kafka.home.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(kafka.bootstrap_servers.split(":")[1])))
    name = kafka.home.name
    assert (tools / "calls").read_text().splitlines() == ["info", f"run --rm --name={name}", f"rm --force {name}"]
    assert said == ["starting apache/kafka:4.3.1 (the engine fetches it the first time)"]


def test_a_failing_start_tells_the_end_of_its_log_and_leaves_nothing(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tools))
    install(tools, "docker", "if [ $1 = run ]; then echo no such image; exit 125; fi")
    with pytest.raises(LocalKafkaError, match="no such image"), local_kafka():
        pass
    assert not list(tools.glob("foldcast-kafka-*"))


def test_a_kafka_named_in_the_environment_is_used_and_left_alone(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BOOTSTRAP_VARIABLE, "kafka-1:9092,kafka-2:9092")
    with local_kafka() as kafka:
        assert kafka.bootstrap_servers == "kafka-1:9092,kafka-2:9092"
        assert kafka.nodes == {}
        kafka.stop()


def test_the_container_is_reached_on_loopback_only_and_goes_when_it_ends() -> None:
    command = container_command("foldcast-kafka-x", 23456, 512, {"log.retention.ms": "-1"})
    assert command[:2] == ["docker", "run"]
    assert command[-1] == IMAGE == "apache/kafka:4.3.1"
    assert {"--rm", "--name=foldcast-kafka-x", "--publish=127.0.0.1:23456:9092"} <= set(command)
    assert "--env=KAFKA_LOG_RETENTION_MS=-1" in command
    assert "--env=KAFKA_HEAP_OPTS=-Xmx512m" in command
    assert "--env=KAFKA_ADVERTISED_LISTENERS=EXTERNAL://127.0.0.1:23456,INTERNAL://localhost:19092" in command


def test_the_jars_are_of_the_same_version() -> None:
    assert f"<version>{VERSION}</version>" in jars.POM.read_text()


def test_two_processes_fetch_the_jars_once(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the stand-in for Maven is slow, and notes that it was called
    fetch = f"for a; do case $a in -DoutputDirectory=*) out=${{a#*=}};; esac; done; echo x >>{tools}/calls"
    install(tools, "mvn", f"PATH=/usr/bin:/bin; {fetch}; sleep 0.5; mkdir $out; echo jar >$out/kafka.jar")
    code = "import sys; from pathlib import Path; from worker.demo import jars\n"
    code += "jars.LIBS = Path(sys.argv[1]); print((jars.fetch(print) / 'kafka.jar').read_text())"
    libs = str(tools / "cache" / "libs")
    command = [sys.executable, "-c", code, libs]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=jars.CHECKOUT) for _ in range(2)]
    assert sorted(process.communicate(timeout=20)[0].split()[-1] for process in both) == ["jar", "jar"]
    assert (tools / "calls").read_text().split() == ["x"]
    assert sorted(path.name for path in (tools / "cache").iterdir()) == [".libs.lock", "libs"]
