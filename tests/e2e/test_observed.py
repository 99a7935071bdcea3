"""A real Prometheus beside real workers under load: targets, rules, and data in every panel; and compose as a whole."""

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import docker
import pytest
import yaml
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from tests.rigs import stage
from tests.rigs.ports import free_port
from tests.rigs.stage import ROOT, Case, until

DEPLOY = ROOT / "deploy"
PROMETHEUS = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["prometheus"]


def asked(address: str, path: str) -> Any:
    with urlopen(f"{address}/api/v1/{path}", timeout=30) as answer:
        return json.load(answer)["data"]


def panels() -> dict[str, str]:
    """Queries by panel and legend, with Grafana's variables filled in."""
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "foldcast.json").read_text())
    values = {"$namespace": "", "$job": "foldcast", "$instance": ".*", "$__rate_interval": "30s"}
    found = {}
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"]
            for name, value in values.items():
                query = query.replace(name, value)
            assert "$" not in query, query
            found[f"{panel['title']}: {target['legendFormat']}"] = query
    return found


def all_well(address: str, targets: int) -> bool:
    """All targets up, so many workers among them, and every rule loaded and evaluated without an error."""
    active = asked(address, "targets?state=active")["activeTargets"]
    workers = [target for target in active if target["labels"]["job"] == "foldcast"]
    rules = [rule for group in asked(address, "rules")["groups"] for rule in group["rules"]]
    files = [yaml.safe_load((DEPLOY / "prometheus" / name).read_text()) for name in ("recording.yaml", "alerts.yaml")]
    written = sum(len(group["rules"]) for file in files for group in file["groups"])
    return (
        len(workers) == targets
        and all(target["health"] == "up" for target in active)
        and len(rules) == written
        and all(rule["health"] == "ok" for rule in rules)
    )


def test_every_panel_has_data_under_load(case: Case, tmp_path: Path) -> None:
    for name in ("one", "two"):
        case.worker(name, alias="worker")
    ready = LogMessageWaitStrategy("Server is ready").with_startup_timeout(180).with_poll_interval(0.1)
    prometheus = DockerContainer(PROMETHEUS["image"]).with_network(case.broker.network).with_exposed_ports(9090)
    prometheus = prometheus.with_volume_mapping(str(DEPLOY / "prometheus"), "/etc/prometheus", "ro")
    prometheus = prometheus.with_command(PROMETHEUS["command"]).waiting_for(ready)
    with prometheus, case.feeding(rate=400):
        address = f"http://127.0.0.1:{prometheus.get_exposed_port(9090)}"
        until("targets up, rules evaluated", lambda: all_well(address, targets=2))
        queries = panels()
        assert len(queries) > 20
        empty = dict(queries)

        def filled() -> bool:
            for name, query in list(empty.items()):
                result = asked(address, f"query?query={quote(query)}")["result"]
                if result and all(row["value"][1] != "NaN" for row in result):
                    del empty[name]
            return not empty

        try:
            until("data in every panel", filled, 150)
        finally:
            print(f"{len(queries) - len(empty)} of {len(queries)} queries have data; without: {sorted(empty)}")
    case.audit()


def compose() -> list[str]:
    """Either generation of it."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    pytest.skip("there is no compose here: install the package docker-compose")


def test_compose_brings_everything_up_and_takes_it_down(
    image: str, engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    for name, value in (("PROMETHEUS_PORT", port), ("KAFKA_PORT", free_port()), ("RATE", 300)):
        monkeypatch.setenv(name, str(value))
    project = f"foldcast-e2e-{port}"
    command = [*compose(), "--project-name", project, "--file", str(DEPLOY / "compose.yaml")]

    def do(*arguments: str) -> None:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]

    def containers() -> dict[str, Any]:
        mine = engine.containers.list(all=True, filters={"label": f"com.docker.compose.project={project}"})
        return {made.labels["com.docker.compose.service"]: made.attrs["State"] for made in mine}

    def flowing() -> bool:
        rate = asked(address, f"query?query={quote('job:foldcast_forecasts:rate1m > 50')}")["result"]
        return bool(rate)

    address = f"http://127.0.0.1:{port}"
    began = time.monotonic()
    try:
        do("up", "--detach", "--build")
        states = containers()
        assert set(states) == {"kafka", "topics", "worker", "feeder", "prometheus"}
        assert states["topics"]["ExitCode"] == 0
        until(
            "all healthy",
            lambda: all(
                state["Running"] and state.get("Health", {"Status": "healthy"})["Status"] == "healthy"
                for name, state in containers().items()
                if name != "topics"
            ),
        )
        until("targets up, rules evaluated", lambda: all_well(address, targets=1))
        until("forecasts flow", flowing)
        print(f"compose up to forecasts on Prometheus: {time.monotonic() - began:.0f} s")
        do("up", "--detach", "--scale", "worker=2")
        until("the second worker is scraped", lambda: all_well(address, targets=2))
    finally:
        began = time.monotonic()
        do("down", "--volumes", "--timeout", "30")
    print(f"compose down: {time.monotonic() - began:.0f} s")
    assert containers() == {}
    assert not stage.docker.from_env().networks.list(names=[f"{project}_default"])
