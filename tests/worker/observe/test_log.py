"""Log lines as people and collectors see them."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.observe import log


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    root, others = logging.getLogger(), [logging.getLogger(name) for name in ("kafka", "numba")]
    handlers, level, levels = root.handlers[:], root.level, [other.level for other in others]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for other, before in zip(others, levels, strict=True):
        other.setLevel(before)


def test_a_text_line_is_time_level_message_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "text")
    log.event("restored", partition=3, offset=17, seconds=0.2)
    time, rest = capsys.readouterr().out.split(" ", 1)
    assert rest == "INFO restored partition=3 offset=17 seconds=0.2\n"
    assert time.endswith("Z")
    assert datetime.fromisoformat(time).tzinfo is not None


def test_a_json_line_holds_the_fields_beside_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    log.event("restored", partition=0, seconds=0.2)
    line = json.loads(capsys.readouterr().out)
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {"level": "info", "logger": "foldcast", "message": "restored", "partition": 0, "seconds": 0.2}


def test_a_field_called_like_a_part_of_every_line_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="like a part of every line"):
        log.event("restored", level=3)


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("warning", "text")
    log.event("restored", partition=3)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("level", ["debug", "info", "error"])
def test_what_the_kafka_client_warns_of_is_for_those_who_debug(
    level: log.Level, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(level, "text")
    logging.getLogger("kafka.conn").error("Connection lost")
    logging.getLogger("kafka.conn").info("Connected")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == (["DEBUG Connection lost"] if level == "debug" else [])


def test_compilations_are_not_told_step_by_step() -> None:
    log.configure("debug", "text")
    assert logging.getLevelName(logging.getLogger("numba.core.ssa").getEffectiveLevel()) == "INFO"


def test_configuring_again_replaces_what_was_before(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    log.configure("info", "text")
    log.event("joined")
    assert capsys.readouterr().out.endswith("Z INFO joined\n")


def test_a_text_traceback_follows_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "text")
    _fail()
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.endswith("ERROR failed")
    assert (rest[0], rest[-1]) == ("Traceback (most recent call last):", "ValueError: why")


def test_a_json_traceback_is_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    _fail()
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["exception"].endswith("ValueError: why")


def test_a_value_with_spaces_is_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "text")
    log.event("new", stream="a b", reason="", plain="JFK.temp", umlaut="Köln süd")
    assert capsys.readouterr().out.endswith('INFO new stream="a b" reason="" plain=JFK.temp umlaut="Köln süd"\n')


@given(st.text(), st.text())
def test_nobodys_name_can_begin_a_line_of_its_own(message: str, value: str) -> None:
    record = logging.makeLogRecord({"msg": "%s", "args": (message,), "fields": {"stream": value}})
    assert len(log.TextLines().format(record).splitlines()) == 1
    assert json.loads(log.JsonLines().format(record))["stream"] == value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_json_line_stays_json_where_a_number_is_not_finite(value: float) -> None:
    record = logging.makeLogRecord({"msg": "x", "fields": {"loss": value}})
    assert json.loads(log.JsonLines().format(record), parse_constant=pytest.fail)["loss"] == str(value)


def test_a_field_of_any_type_is_written_as_its_text() -> None:
    record = logging.makeLogRecord({"msg": "x", "fields": {"error": ValueError("why")}})
    assert json.loads(log.JsonLines().format(record))["error"] == "why"


def _fail() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("worker.loop").exception("failed")


def test_few_of_the_kafka_clients_lines_are_written_and_the_others_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    log.configure("debug", "text")

    def warn(name: str, lines: int) -> list[str]:
        for number in range(lines):
            logging.getLogger(name).warning("topic %d is gone", number)
        return capsys.readouterr().out.splitlines()

    assert len(warn("kafka.cluster", 1000)) == 5
    now[0] += 31
    first, *_, last = warn("kafka.cluster", 7)
    assert first.endswith("DEBUG topic 0 is gone (left out: 995 lines like it)")
    assert last.endswith("DEBUG topic 4 is gone")
    assert len(warn("worker.loop", 1000)) == 1000, "our own lines are few by themselves"
