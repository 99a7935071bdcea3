"""All metrics as Markdown: docs/metrics.md is made by this, and a test holds it to it."""

from pipeline.method import Method
from worker.observe.metrics import Metrics

HEAD = """# Metrics

What a worker answers at `/metrics`, for Prometheus. Names end as their kind has it: a counter in `_total`; a histogram
has `_bucket`, `_sum` and `_count`. No series is labelled by stream. Figures that are *recent* fade over the last 20,000
labels or so of their horizon. Beside these there are `process_*`, of the worker's own process: CPU, memory, open files
and its start.

[The dashboard](../deploy/grafana/dashboards/foldcast.json) draws most of them, [the
rules](../deploy/prometheus/alerts.yaml) watch them, and [the runbook](runbook.md) says what to do.

| metric | kind | labels | meaning |
|---|---|---|---|
"""


def reference() -> str:
    """All metrics as Markdown, the text of docs/metrics.md."""
    metrics = Metrics(Method(), "")
    rows = []
    for family in sorted(metrics.registry.collect(), key=lambda family: family.name):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in metrics.labels_of.get(family.name, ()))
        rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |\n")
    return HEAD + "".join(rows)
