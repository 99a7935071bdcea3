"""The dashboard: the committed JSON is what the code draws, and Prometheus can parse all that it asks."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
JSON = GRAFANA / "dashboards" / "foldcast.json"
PANELS = [panel for panel in json.loads(JSON.read_text())["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_the_committed_dashboard_is_the_drawn_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(GRAFANA))
    import dashboard

    try:
        assert dashboard.drawn() == JSON.read_text(), "draw it: python deploy/grafana/dashboard.py"
    finally:
        del sys.modules["dashboard"]


def test_every_panel_has_a_unit_a_text_thresholds_and_legends() -> None:
    for panel in PANELS:
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"], panel["title"]
        assert defaults["thresholds"]["steps"][0]["value"] is None, panel["title"]
        assert len(panel["description"]) > 8, panel["title"]
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_prometheus_can_parse_every_query(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("there is no promtool here: install the package prometheus")
    plain = [query.replace("$__rate_interval", "1m") for query in QUERIES]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(plain)]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_recorded_series_are_recorded() -> None:
    groups = yaml.safe_load((ROOT / "deploy" / "prometheus" / "recording.yaml").read_text())["groups"]
    recorded = {rule["record"] for group in groups for rule in group["rules"]}
    used = {name for query in QUERIES for name in re.findall(r"\w+:foldcast\w+:\w+", query)}
    assert used
    assert used <= recorded


def test_compose_provisions_the_data_source_and_the_dashboard() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    grafana = services["grafana-of-forecasts"]
    mounts = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    assert set(mounts) == {"./grafana/provisioning", "./grafana/dashboards"}
    assert {**grafana, "volumes": 0, "profiles": 0} == {**services["grafana"], "volumes": 0, "profiles": 0}
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "foldcast.yaml").read_text())["providers"][0]
    assert provider["options"]["path"] == mounts["./grafana/dashboards"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{mounts['./grafana/dashboards']}/{JSON.name}"
    alone = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert [path for path in alone if not (ROOT / "deploy" / path).exists()] == []
    assert alone[f"./grafana/dashboards/{JSON.name}"] == home
    assert not [path for path in alone if "postgres" in path or "forecasts" in path], "there is no PostgreSQL"
    source = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert [entry["type"] for entry in source] == ["prometheus"]
