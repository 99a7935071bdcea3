"""Rules: every one is right, tested firing and quiet, about metrics that there are, and explained in the runbook."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.observe.metrics import Metrics
from worker.settings.method import method_of
from worker.settings.sources import load

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus"
ELSEWHERE = {"up", "process_start_time_seconds", "ALERTS"}


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def sections(runbook: str) -> dict[str, str]:
    """Text by heading."""
    return dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", runbook, re.M | re.S))


def promtool(*arguments: str) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("there is no promtool here: install the package prometheus")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, cwd=RULES, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_configuration() -> None:
    promtool("check", "config", "prometheus.yaml")


def test_every_rule_does_what_its_tests_say() -> None:
    promtool("test", "rules", "rules_test.yaml")


def test_every_alert_is_tested_firing_and_quiet_and_every_recording_rule_once() -> None:
    tests = yaml.safe_load((RULES / "rules_test.yaml").read_text())["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    alerts = {rule["alert"] for rule in rules("alerts.yaml")}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == alerts
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == alerts
    asked = " ".join(case["expr"] for test in tests for case in test.get("promql_expr_test", ()))
    assert [rule["record"] for rule in rules("recording.yaml") if rule["record"] not in asked] == []


def test_every_alert_has_a_section_in_the_runbook_and_the_other_way_round() -> None:
    found = sections((ROOT / "docs" / "runbook.md").read_text())
    named = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in rules("alerts.yaml")}
    assert named == {title: f"docs/runbook.md#{title.lower()}" for title in found}
    assert all(len(text.split()) > 20 for text in found.values())


def test_alerts_have_the_severities_and_annotations_of_the_mixins_and_name_no_job() -> None:
    for rule in rules("alerts.yaml"):
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, rule
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, rule
        assert len(rule["annotations"]["description"].split()) > 8, rule
    for rule in rules("alerts.yaml") + rules("recording.yaml"):
        assert not re.search(r"\bjob=~?", rule["expr"]), rule


def test_every_rule_is_about_metrics_that_a_worker_has() -> None:
    names = {
        s
        for family in Metrics(method_of(load(None, {})), "1").registry.collect()
        for s in series(family.name, family.type)
    }
    recorded = {rule["record"] for rule in rules("recording.yaml")}
    for rule in rules("recording.yaml") + rules("alerts.yaml"):
        used = set(re.findall(r"\b(?:\w+:)?foldcast_[\w:]+", rule["expr"]))
        assert used - names - recorded == set(), rule
        assert used or set(re.findall(r"\w+", rule["expr"])) & ELSEWHERE, rule


def series(name: str, kind: str) -> list[str]:
    match kind:
        case "counter":
            return [f"{name}_total"]
        case "histogram":
            return [f"{name}_bucket", f"{name}_sum", f"{name}_count"]
        case _:
            return [name]
