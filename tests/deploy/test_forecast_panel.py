"""The panel of forecasts: its queries return data from a real PostgreSQL, and Compose brings what it needs."""

import re
from pathlib import Path

import pytest
import yaml

from tests.rigs.methods import SMALL
from tests.rigs.panel import BOARD, QUERIES, VARIABLES, asked
from tests.rigs.postgres import Postgres
from tests.rigs.rows import folded
from worker.broker.contract import Topics
from worker.rows import row_messages

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SERVICES = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
SPIKE = 45
DAYS = ("1970-01-01", "1970-01-02")


@pytest.fixture
def filled(postgres: Postgres) -> Postgres:
    """A database with the rows of one stream, one of its values far off."""
    method = SMALL
    values = [n % 4 + (1000.0 if n == SPIKE else n / 3) for n in range(60)]
    topics = Topics("events", "forecasts", "bad", "log", rows="rows")
    rows = [m.value.decode() for m in row_messages(folded(values, method), method, "gru8-0", topics, 0) if m.value]
    [statement] = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "sinks.md").read_text(), re.DOTALL)
    postgres.ask((DEPLOY / "sinks" / "forecast_rows.sql").read_text())
    postgres.ask(statement, rows=f"[{','.join(rows)}]")
    return postgres


def test_variables_offer_the_streams_and_the_horizons(filled: Postgres) -> None:
    assert filled.ask(asked(VARIABLES["stream"], DAYS)) == [["Zürich/1"]]
    assert filled.ask(asked(VARIABLES["horizon"], DAYS)) == [["1"], ["3"]]


@pytest.mark.parametrize("horizon", [1, 3])
def test_the_panel_has_value_mean_bands_and_what_was_outside(filled: Postgres, horizon: int) -> None:
    answers = {
        name: filled.ask("SET timezone = 'UTC'; " + asked(query, DAYS, stream="Zürich/1", horizon=str(horizon)))
        for name, query in QUERIES.items()
    }
    values = {time: float(value) for time, value in answers["value"]}
    assert len(values) == 60
    assert [time for time, value in values.items() if value > 1000] == ["1970-01-01 00:46:00+00"]
    assert ["1970-01-01 00:46:00+00", "1001"] in answers["outside"]
    assert len(answers["outside"]) < 30
    assert len(answers["forecast"]) == 59, "the first forecast has no time yet"
    assert min(time for time, *_ in answers["forecast"]) == f"1970-01-01 00:{2 + horizon:02}:00+00"
    for _, mean, *band in answers["forecast"]:
        assert mean
        assert sorted(band, key=float) == band


def test_every_column_is_drawn_by_a_rule_of_its_own() -> None:
    [panel] = BOARD["panels"]
    ruled = {rule["matcher"]["options"] for rule in panel["fieldConfig"]["overrides"]}
    assert ruled == {"value", "mean", "lo95", "lo80", "hi80", "hi95", "outside"}


def test_compose_brings_a_database_what_fills_it_and_grafana_with_the_panels_source() -> None:
    look = {name for name, service in SERVICES.items() if "look" in service.get("profiles", [])}
    assert look == {"postgres", "jdbc-sink", "connect", "grafana-of-forecasts"}
    file = DEPLOY / "grafana" / "provisioning" / "datasources" / "postgres.yaml"
    [source] = yaml.safe_load(file.read_text())["datasources"]
    database = SERVICES["postgres"]["environment"]
    properties = (DEPLOY / "sinks" / "forecast-rows.properties").read_text()
    assert source["uid"] == BOARD["panels"][0]["datasource"]["uid"]
    assert (source["url"], source["user"]) == ("postgres:5432", database["POSTGRES_USER"])
    assert source["secureJsonData"]["password"] == database["POSTGRES_PASSWORD"]
    assert source["jsonData"]["database"] == database["POSTGRES_DB"]
    for line in (
        f"connection.url=jdbc:postgresql://postgres:5432/{database['POSTGRES_DB']}",
        f"connection.username={database['POSTGRES_USER']}",
        f"connection.password={database['POSTGRES_PASSWORD']}",
        f"topics={SERVICES['worker']['environment']['FOLDCAST_OUTPUT__ROWS_TOPIC']}",
    ):
        assert line in properties.splitlines()
    mounted = [volume.split(":")[0] for name in look for volume in SERVICES[name]["volumes"] if volume.startswith(".")]
    assert all((DEPLOY / path).exists() for path in mounted)
