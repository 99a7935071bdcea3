"""Where no Kafka is started for the worked examples, a sentence says why."""

import socket
import sys

import pytest

from worker.demo import broker
from worker.demo.local_kafka import BOOTSTRAP_VARIABLE


def start(monkeypatch: pytest.MonkeyPatch, port: int) -> int:
    monkeypatch.setattr(sys, "argv", ["broker", "--port", str(port)])
    return broker.main()


def test_a_port_that_is_taken_or_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(BOOTSTRAP_VARIABLE, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert start(monkeypatch, other.getsockname()[1]) == 2
    assert "Address already in use" in capsys.readouterr().err
    assert start(monkeypatch, 99_999) == 2
    assert "name another with --port" in capsys.readouterr().err


def test_a_kafka_that_the_environment_names_is_enough(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(BOOTSTRAP_VARIABLE, "kafka-1:9092")
    assert start(monkeypatch, 9092) == 0
    assert "kafka-1:9092" in capsys.readouterr().out
