"""The panel of forecasts: its queries, as Grafana sends them."""

import json
import re
from pathlib import Path

DASHBOARDS = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "dashboards"
BOARD = json.loads((DASHBOARDS / "forecasts.json").read_text())
VARIABLES = {variable["name"]: variable["query"] for variable in BOARD["templating"]["list"]}
QUERIES = {target["refId"]: target["rawSql"] for panel in BOARD["panels"] for target in panel["targets"]}


def asked(query: str, days: tuple[str, str], **chosen: str) -> str:
    """The query from one day to another: macros written out, variables in their places."""
    first, last = (f"'{day}T00:00:00Z'" for day in days)
    query = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {first} AND {last}", query)
    for name, value in chosen.items():
        query = query.replace(f"${name}", value)
    assert "$" not in query
    return query
