"""Manifests: valid for the API, hardened, and in agreement with the settings, the probes and the rules."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pipeline.table import Table
from tests.rigs.documented import PAGES, blocks, command
from worker.observe.recent import RecentStreams
from worker.room import COPIES, PROCESS_BYTES
from worker.settings.method import method_of
from worker.settings.sources import load

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MONITORING, NO_OPERATOR = FOLDER / "monitoring", FOLDER / "no-operator"
MANIFESTS = [yaml.safe_load((FOLDER / name).read_text()) for name in KUSTOMIZATION["resources"]]
API = "1.31"
LOG_MB = 5 * 10  # what a kubelet keeps of a container's log by default
OURS = {"app.kubernetes.io/name": "foldcast"}


def manifest(kind: str) -> dict[str, Any]:
    [found] = [made for made in MANIFESTS if made["kind"] == kind]
    return dict(found)


def pods() -> list[dict[str, Any]]:
    return [manifest(kind)["spec"]["template"]["spec"] for kind in ("StatefulSet", "Job")]


@pytest.mark.parametrize("made", MANIFESTS, ids=lambda m: m["kind"])
def test_the_api_knows_every_field(made: dict[str, Any]) -> None:
    kubernetes_validate.validate(made, API, strict=True)


def test_the_service_monitor_finds_the_service() -> None:
    monitor = yaml.safe_load((MONITORING / "servicemonitor.yaml").read_text())
    service = manifest("Service")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert set(monitor["spec"]) == {"selector", "endpoints"}
    [endpoint] = monitor["spec"]["endpoints"]
    assert set(endpoint) == {"port", "path", "interval", "relabelings"}
    assert endpoint["relabelings"] == [{"sourceLabels": ["__meta_kubernetes_pod_name"], "targetLabel": "instance"}]
    assert endpoint["path"] == "/metrics"
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"] == OURS


def test_everything_finds_the_pods() -> None:
    workers = manifest("StatefulSet")["spec"]
    assert workers["template"]["metadata"]["labels"] == workers["selector"]["matchLabels"] == OURS
    assert manifest("Service")["spec"]["selector"] == OURS
    assert manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == OURS
    assert manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == OURS
    assert workers["serviceName"] == manifest("Service")["metadata"]["name"]
    [port] = workers["template"]["spec"]["containers"][0]["ports"]
    assert port["containerPort"] == load(FOLDER / "foldcast.toml", {}).http.port
    assert port["name"] == manifest("Service")["spec"]["ports"][0]["targetPort"]


@pytest.mark.parametrize("pod", pods(), ids=lambda pod: pod["containers"][0]["name"])
def test_pods_may_do_nothing_that_they_need_not(pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (1000, 0)
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        allowed = container["securityContext"]
        assert allowed["readOnlyRootFilesystem"] is True
        assert allowed["allowPrivilegeEscalation"] is False
        assert allowed["capabilities"] == {"drop": ["ALL"]}
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}
        assert "tmp" in mounts


def test_only_prometheus_reaches_the_port() -> None:
    policy = manifest("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == OURS
    assert policy["policyTypes"] == ["Ingress"], "brokers are reached as before"
    [rule] = policy["ingress"]
    [source] = rule["from"]
    assert list(source) == ["namespaceSelector"]
    assert list(source["namespaceSelector"]["matchLabels"]) == ["kubernetes.io/metadata.name"], "every namespace has it"
    [container] = manifest("StatefulSet")["spec"]["template"]["spec"]["containers"]
    assert [port["port"] for port in rule["ports"]] == [port["name"] for port in container["ports"]]


@pytest.mark.parametrize("pod", pods(), ids=lambda pod: pod["containers"][0]["name"])
def test_secrets_are_for_the_group_of_the_process_alone(pod: dict[str, Any]) -> None:
    secrets = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    assert [oct(secret["defaultMode"]) for secret in secrets] == ["0o440"]
    assert pod["securityContext"]["runAsGroup"] == 0, "root's, which owns files of secrets"


@pytest.mark.parametrize("pod", pods(), ids=lambda pod: pod["containers"][0]["name"])
def test_a_pod_may_fill_its_share_of_the_nodes_disk_and_no_more(pod: dict[str, Any]) -> None:
    [container] = pod["containers"]
    asked, most = (
        int(container["resources"][kind]["ephemeral-storage"].removesuffix("Mi")) for kind in ("requests", "limits")
    )
    volumes = sum(int(v["emptyDir"]["sizeLimit"].removesuffix("Mi")) for v in pod["volumes"] if "emptyDir" in v)
    assert volumes + LOG_MB <= asked <= most


def test_settings_and_numbers_agree() -> None:
    settings = load(FOLDER / "foldcast.toml", {})
    pod = manifest("StatefulSet")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    ids = [e for e in container["env"] if e["name"] == "FOLDCAST_KAFKA__INSTANCE_ID"]
    assert ids[0]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    names = {e["name"] for e in container["env"]}
    assert "FOLDCAST_CONFIG" in names
    liveness = container["livenessProbe"]
    assert (liveness["httpGet"]["path"], container["readinessProbe"]["httpGet"]["path"]) == ("/livez", "/readyz")
    assert liveness["periodSeconds"] * liveness["failureThreshold"] < settings.worker.stall_exit_s
    assert pod["terminationGracePeriodSeconds"] > 5 + settings.worker.commit_timeout_s
    partitions = int(manifest("Job")["spec"]["template"]["spec"]["containers"][0]["args"][3])
    assert manifest("StatefulSet")["spec"]["replicas"] <= partitions
    assert [g["files"] for g in KUSTOMIZATION["configMapGenerator"]] == [["foldcast.toml"]]
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*KUSTOMIZATION["resources"], "kustomization.yaml"}


def kustomized(folder: Path) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl here; the other tests say the same of the parts")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_kustomize_puts_them_together() -> None:
    made = kustomized(FOLDER)
    assert {document["kind"] for document in made} == {m["kind"] for m in MANIFESTS} | {"ConfigMap"}
    [config] = [document["metadata"]["name"] for document in made if document["kind"] == "ConfigMap"]
    assert config.startswith("foldcast-")
    assert yaml.safe_dump_all(made).count(f"name: {config}\n") == 3, "the set and the job mount this very content"


def test_the_overlay_and_the_patch_of_the_page_can_be_used(tmp_path: Path) -> None:
    overlay = "".join(blocks(PAGES["docs/kubernetes.md"], "yaml"))
    shutil.copytree(FOLDER.parent, tmp_path / "deploy")
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "foldcast_kafka__sasl_password").write_text("secret")
    (tmp_path / "my" / "foldcast.toml").write_text('[kafka]\nbootstrap_servers = "mine:9092"\n')
    text = overlay.replace("<your registry>", "registry.example").replace("<your namespace>", "watch")
    (tmp_path / "my" / "kustomization.yaml").write_text(text)
    made = kustomized(tmp_path / "my")
    kinds = {document["kind"]: document for document in made if document["metadata"]["name"] != "foldcast-dashboard"}
    assert kinds["ConfigMap"]["data"] == {"foldcast.toml": '[kafka]\nbootstrap_servers = "mine:9092"\n'}
    assert list(kinds["Secret"]["data"]) == ["foldcast_kafka__sasl_password"]
    [source] = kinds["NetworkPolicy"]["spec"]["ingress"][0]["from"]
    assert source["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "watch"}
    [container] = kinds["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/foldcast:0.1.0"
    (tmp_path / "set.yaml").write_text(yaml.safe_dump(kinds["StatefulSet"]))
    patch = command("docs/kubernetes.md", "kubectl -n foldcast patch statefulset")
    asked = patch.partition(" statefulset foldcast")[2]
    local = ["kubectl", "patch", "--local", "-f", tmp_path / "set.yaml", "-o", "json", *shlex.split(asked)]
    done = subprocess.run(local, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["spec"]["template"]["spec"]["containers"][0]["args"] == ["run", "--leave"]


def with_component(name: str, folder: Path) -> list[dict[str, Any]]:
    """What the base and one component make, as an overlay beside the checkout has them; without the base's own."""
    copy = shutil.copytree(FOLDER, folder / "kubernetes")
    (copy.parent / "my").mkdir()
    overlay = {"resources": ["../kubernetes"], "components": [f"../kubernetes/{name}"]}
    (copy.parent / "my" / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return kustomized(copy.parent / "my")


def test_the_component_for_an_operator_brings_rules_targets_and_the_dashboard(tmp_path: Path) -> None:
    made = {m["kind"]: m for m in with_component("monitoring", tmp_path) if m["apiVersion"].startswith("monitoring")}
    assert set(made) == {"ServiceMonitor", "PrometheusRule"}
    assert {m["metadata"]["namespace"] for m in made.values()} == {"foldcast"}
    assert sum(len(group["rules"]) for group in made["PrometheusRule"]["spec"]["groups"]) > 30
    [board] = [m for m in with_component("monitoring", tmp_path / "b") if m["metadata"]["name"] == "foldcast-dashboard"]
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(board["data"]["foldcast.json"])["title"]


def test_the_component_without_an_operator_annotates_pods_and_holds_the_rules(tmp_path: Path) -> None:
    made = with_component("no-operator", tmp_path)
    [workers] = [m for m in made if m["kind"] == "StatefulSet"]
    port = workers["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"]
    assert workers["spec"]["template"]["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port),
        "prometheus.io/path": "/metrics",
    }
    [rules] = [m for m in made if m["metadata"]["name"] == "foldcast-rules"]
    assert set(rules["data"]) == {"recording.yaml", "alerts.yaml"}
    assert not any(m["apiVersion"].startswith("monitoring") for m in made)


def test_what_the_components_hold_is_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import draw

    try:
        for path, text in draw.drawn().items():
            assert path.read_text() == text, "draw it: python deploy/kubernetes/draw.py"
    finally:
        del sys.modules["draw"]


def test_the_memory_limit_holds_the_streams_it_is_said_to_hold() -> None:
    """By the sum in docs/kubernetes.md."""
    settings = load(FOLDER / "foldcast.toml", {})
    row_bytes = Table(method_of(settings)).row_bytes
    [container] = manifest("StatefulSet")["spec"]["template"]["spec"]["containers"]
    limit = int(container["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20
    history = RecentStreams(method_of(settings), settings.history.streams, settings.history.points)
    assert limit > PROCESS_BYTES + history.nbytes + COPIES * 13_000 * row_bytes
    assert f"({row_bytes / 1000:.1f} kB" in (FOLDER.parents[1] / "docs" / "kubernetes.md").read_text()
