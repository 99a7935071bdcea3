"""docs/sinks.md on a real database: table, statement, connector, panel; through kills and a second reading."""

import faulthandler
import json
import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.rigs.cluster import Cluster, Feeder, Source
from tests.rigs.documented import command
from tests.rigs.kafka_connect import WHAT_TO_INSTALL, Connect, can_run
from tests.rigs.panel import QUERIES, VARIABLES, asked
from tests.rigs.ports import free_port
from tests.rigs.postgres import Postgres
from tests.rigs.rows import rows_of
from worker.broker import admin

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "sinks.md").read_text()
[STATEMENT] = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
TABLE = (ROOT / "deploy" / "sinks" / "forecast_rows.sql").read_text()
PROPERTIES = (ROOT / "deploy" / "sinks" / "forecast-rows.properties").read_text()
SHOWN = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
AS_JSON = "SELECT row_to_json(forecast_rows) FROM forecast_rows"
ZONE = "SET timezone = 'UTC'; "


def held(postgres: Postgres) -> list[dict[str, Any]]:
    """The table's rows, times as rows have them."""
    rows = [json.loads(text) for (text,) in postgres.ask(ZONE + AS_JSON)]
    for row in rows:
        for name in ("made_at", "time"):
            row[name] = row[name] and _milliseconds(row[name])
    return rows


def _milliseconds(text: str) -> str:
    whole, _, part = text.removesuffix("+00:00").partition(".")
    return f"{whole}.{part:0<3}Z"


def sorted_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: str(row["id"]).encode())


def test_the_statement_takes_rows_as_they_are_and_twice(postgres: Postgres) -> None:
    postgres.ask(TABLE)
    rows = [SHOWN, {**SHOWN, "id": "events-1-0/1", "outside": None, "time": None}]
    for _ in range(2):
        postgres.ask(STATEMENT, rows=json.dumps(rows))
    assert sorted_rows(held(postgres)) == sorted_rows(rows)


def test_the_question_of_the_containers_page_is_answered(postgres: Postgres) -> None:
    """The part in quotes of `docker compose -f deploy/compose.yaml exec postgres psql ... -c "..."`."""
    postgres.ask(TABLE)
    rows = [{**SHOWN, "id": f"events-1-{n}/{n}", "horizon": n, "outside": n < 3} for n in (1, 2, 3)]
    postgres.ask(STATEMENT, rows=json.dumps(rows))
    question = command("docs/containers.md", "docker compose -f deploy/compose.yaml exec postgres").split('"')[1]
    assert [row[0] for row in postgres.ask(question)] == ["events-1-1/1"]


def connector(postgres: Postgres, topic: str, name: str) -> str:
    """The page's connector, for this database and this topic."""
    changed = {"name": name, "topics": topic, "connection.url": f"jdbc:postgresql://127.0.0.1:{postgres.port}/postgres"}
    text = PROPERTIES
    for key, value in changed.items():
        text, number = re.subn(rf"^{re.escape(key)}=.*$", f"{key}={value}", text, flags=re.MULTILINE)
        assert number == 1, key
    return text


def test_the_connector_leaves_one_row_per_forecast_and_horizon_after_kills_and_a_second_reading(
    bootstrap: str, unique: str, tmp_path: Path, postgres: Postgres
) -> None:
    if not can_run("connect", "jdbc_sink"):
        pytest.skip(WHAT_TO_INSTALL)
    faulthandler.cancel_dump_traceback_later()  # set for tests that take seconds
    topic = f"{unique}-rows"
    postgres.ask(TABLE)
    connect = Connect(tmp_path / "connect", bootstrap, free_port())
    with (
        Cluster(bootstrap, unique, tmp_path, 2, model={"hidden_size": 8}, output={"rows_topic": topic}) as cluster,
        connect,
    ):
        worker = cluster.worker("one")
        connect.start(connector(postgres, topic, f"{unique}-first"))
        cluster.wait_until_live()
        feeder = Feeder(cluster, Source(20, 2, seed=7), 100.0)
        feeder.start()
        connect.wait_for(lambda: postgres.ask("SELECT count(*) FROM forecast_rows") != [["0"]], "a row")
        worker.kill()
        connect.kill()
        worker.start()
        cluster.wait_until_live()
        feeder.finish()
        cluster.await_last()
        cluster.stop()
        again = f"{unique}-again"  # a group that has committed nothing reads all rows, and so the first ones twice
        connect.start(connector(postgres, topic, again))
        ends = {record.partition: record.offset + 1 for record in cluster.read(topic)}
        group = f"connect-{again}"
        connect.wait_for(lambda: admin.group_offsets(cluster.connection, group, topic) == ends, "all rows")
        records = [orjson.loads(record.value or b"") for record in cluster.read(cluster.topics.output)]
    due = sorted_rows([row for record in records for row in rows_of(record)])
    assert len(due) > 500
    assert sorted_rows(held(postgres)) == due
    days = ("2013-01-01", "2013-02-01")
    streams = [row[0] for row in postgres.ask(asked(VARIABLES["stream"], days))]
    assert sorted(streams) == sorted({str(row["stream"]) for row in due})
    for stream in streams:
        mine = [row for row in due if (row["stream"], row["horizon"]) == (stream, 1)]
        drawn = {name: postgres.ask(asked(query, days, stream=stream, horizon="1")) for name, query in QUERIES.items()}
        assert len(drawn["value"]) == len(mine)
        assert len(drawn["forecast"]) == sum(row["time"] is not None for row in mine)
        assert len(drawn["outside"]) == sum(row["outside"] is True for row in mine)
