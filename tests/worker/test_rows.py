"""Forecasts as flat rows: their names, their shape, and numbers that are those of the forecast's own record."""

import json

import pytest

from pipeline.forecasts import Forecasts
from tests.rigs.methods import MEDIAN, SMALL
from tests.rigs.rows import folded, rows_of
from worker.broker.contract import Topics
from worker.publish import forecast_messages
from worker.rows import band_names, row_messages

TOPICS = Topics("readings", "forecasts", "bad", "log", rows="rows")
METHOD = SMALL


@pytest.mark.parametrize(
    ("quantiles", "names"),
    [
        ((0.025, 0.1, 0.5, 0.9, 0.975), ["lo95", "lo80", "median", "hi80", "hi95"]),
        ((0.005, 0.0125, 0.5, 0.9875, 0.995), ["lo99", "lo97_5", "median", "hi97_5", "hi99"]),
        ((1e-05, 0.45, 0.5, 0.55, 0.99999), ["lo99_998", "lo10", "median", "hi10", "hi99_998"]),
        ((0.1, 0.3, 0.5, 0.9), ["lo80", "q0_3", "median", "hi80"]),
        ((0.3, 0.99), ["q0_3", "q0_99"]),
    ],
)
def test_a_quantile_is_named_by_the_interval_that_it_bounds(quantiles: tuple[float, ...], names: list[str]) -> None:
    assert band_names(quantiles) == names


def test_a_row_is_flat_and_has_the_names_that_are_promised() -> None:
    *_, message = row_messages(folded([20.5, 21.5, 20.0, 22.5], METHOD), METHOD, "gru8-0", TOPICS, 3)
    assert (message.topic, message.partition, message.key) == ("rows", 3, "Zürich/1".encode())
    assert list(message.headers) == [("content-type", b"application/json")]
    row = json.loads(message.value or b"")
    assert list(row) == [
        "id", "stream", "made_at", "value", "outside", "time", "horizon",
        "mean", "lo95", "lo80", "median", "hi80", "hi95", "model",
    ]  # fmt: skip
    assert (row["id"], row["stream"], row["horizon"], row["model"]) == ("readings-3-3/3", "Zürich/1", 3, "gru8-0")
    assert (row["made_at"], row["value"], row["time"]) == ("1970-01-01T00:04:00.000Z", 22.5, "1970-01-01T00:07:00.000Z")
    assert all(isinstance(value, str | int | float | bool) for value in row.values())
    assert row["lo95"] <= row["lo80"] <= row["median"] <= row["hi80"] <= row["hi95"]


def test_rows_say_number_by_number_what_the_record_says() -> None:
    values = [n % 4 + (1000.0 if n == 45 else n / 3) for n in range(50)]
    given = (folded(values, METHOD), METHOD, "gru8-0", TOPICS, 3)
    records = [json.loads(message.value or b"") for message in forecast_messages(*given)]
    rows = [json.loads(message.value or b"") for message in row_messages(*given)]
    assert rows == [row for record in records for row in rows_of(record)]
    first, then = rows[0], {row["outside"] for row in rows[20:]}
    assert (first["time"], first["outside"]) == (None, None), "no step yet, and nothing was said of the first value"
    assert then == {True, False}
    assert rows[90]["outside"] is True


def test_without_a_band_nothing_is_outside() -> None:
    rows = row_messages(folded([1.0, 2.0, 900.0], MEDIAN), MEDIAN, "gru8-0", TOPICS, 0)
    assert [json.loads(row.value or b"")["outside"] for row in rows] == [None] * 6


def test_nothing_is_made_where_there_is_no_topic_for_rows() -> None:
    assert row_messages(folded([1.0, 2.0], METHOD), METHOD, "gru8-0", Topics("a", "b", "c", "d"), 0) == []


def test_a_batch_without_an_event_makes_no_row() -> None:
    assert row_messages(Forecasts.blank(0, METHOD), METHOD, "gru8-0", TOPICS, 0) == []
