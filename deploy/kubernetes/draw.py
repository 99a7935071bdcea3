"""Draws what the components hold of deploy/prometheus and deploy/grafana: `python deploy/kubernetes/draw.py`."""

from pathlib import Path

import yaml

HERE = Path(__file__).parent
RULES = ("recording.yaml", "alerts.yaml")


def drawn() -> dict[Path, str]:
    """Return the text of each file that is drawn, by its path."""
    texts = {name: (HERE.parent / "prometheus" / name).read_text() for name in RULES}
    groups = [group for text in texts.values() for group in yaml.safe_load(text)["groups"]]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "foldcast", "namespace": "foldcast"},
        "spec": {"groups": groups},
    }
    board = HERE.parent / "grafana" / "dashboards" / "foldcast.json"
    return {
        HERE / "monitoring" / "prometheusrule.yaml": yaml.safe_dump(rule, sort_keys=False, width=10_000),
        HERE / "monitoring" / board.name: board.read_text(),
        **{HERE / "no-operator" / name: text for name, text in texts.items()},
    }


if __name__ == "__main__":
    for path, text in drawn().items():
        path.write_text(text)
