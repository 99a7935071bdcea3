"""The check that a container runs on itself: what it asks, and what it makes of the answer."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from worker.http import container_probe
from worker.http.pages import Pages
from worker.http.server import Server
from worker.observe.pulse import Pulse


@pytest.fixture
def stalled_after_s() -> float:
    return 60.0


@pytest.fixture
def server(stalled_after_s: float) -> Iterator[Server]:
    server = Server("127.0.0.1", 0, Pages(CollectorRegistry(), dict, Pulse(), stalled_after_s))
    yield server
    server.close()


def test_a_worker_that_turns_is_well(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDCAST_HTTP__PORT", str(server.port))
    assert container_probe.main() == 0


@pytest.mark.parametrize("stalled_after_s", [0.0])
def test_one_that_does_not_is_not(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDCAST_HTTP__PORT", str(server.port))
    assert container_probe.main() == 1


def test_address_and_port_may_stand_in_the_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "my.toml"
    config.write_text(f'[http]\nhost = "127.0.0.1"\nport = {server.port}\n')
    monkeypatch.setenv("FOLDCAST_CONFIG", str(config))
    assert container_probe.main() == 0


def test_nobody_there_is_not_well(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOLDCAST_HTTP__PORT", str(server.port))
    server.close()
    assert container_probe.main() == 1
    assert f"no answer on port {server.port}" in capsys.readouterr().out


def test_it_loads_nothing_slow() -> None:
    code = "import sys, worker.http.container_probe; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert not {"torch", "numba", "numpy", "pydantic", "kafka"} & set(told.stdout.split())
