"""Schemas hold for what a worker reads and writes, and for nothing else; the command writes them with its topics."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pipeline.events import Decoder, Format
from pipeline.method import Method
from tests.rigs.letters import Rig, letter
from tests.rigs.methods import SMALL
from tests.rigs.rows import folded
from worker.__main__ import main
from worker.broker.contract import Records, Topics
from worker.dead_letters import dead_letters
from worker.publish import forecast_messages
from worker.rows import row_messages

FOLDER = files("worker").joinpath("schemas")
SCHEMAS = {file.name.removesuffix(".json"): json.loads(file.read_text()) for file in FOLDER.iterdir()}
DOCUMENTS = ("asyncapi", "openapi")
Headers = list[tuple[str, bytes]]
TOPICS = Topics("readings", "forecasts", "bad", "log", rows="rows")
METHOD = SMALL
VALUES = [n % 4 + (1000.0 if n == 45 else n / 3) for n in range(50)]


def valid(name: str, record: object) -> bool:
    return bool(Draft202012Validator(SCHEMAS[name]).is_valid(record))


def records_of(name: str, method: Method = METHOD) -> list[dict[str, Any]]:
    """All that a worker makes of a stream."""
    made = {"forecast": forecast_messages, "row": row_messages}[name]
    return [json.loads(m.value or b"") for m in made(folded(VALUES, method), method, "gru8-0", TOPICS, 3)]


@pytest.mark.parametrize("name", [name for name in SCHEMAS if name not in DOCUMENTS])
def test_it_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$schema"] == Draft202012Validator.META_SCHEMA["$id"]


@pytest.mark.parametrize("name", ["forecast", "row"])
@pytest.mark.parametrize("quantiles", [(0.025, 0.1, 0.5, 0.9, 0.975), (1e-05, 0.0125, 0.5, 0.9875, 0.99999), (0.5,)])
def test_what_a_worker_publishes_is_valid_and_has_no_other_field(name: str, quantiles: tuple[float, ...]) -> None:
    records = records_of(name, replace(METHOD, quantiles=quantiles))
    for record in records:
        Draft202012Validator(SCHEMAS[name]).validate(record)
        assert not valid(name, {**record, "more": 1})
    needed = set(SCHEMAS[name]["required"])
    assert all(needed <= record.keys() for record in records)
    assert not any(valid(name, {k: v for k, v in records[-1].items() if k != field}) for field in needed)
    assert not any(valid(name, {**records[-1], field: [[]]}) for field in records[-1])


def test_the_row_that_is_shown_is_valid() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "sinks.md").read_text()
    [shown] = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    Draft202012Validator(SCHEMAS["row"]).validate(json.loads(shown))


BODIES: list[object] = [
    {"stream": "s", "time": "2013-01-01T06:00:00Z", "value": 39.02, "humid": 61.0, "more": {"a": []}},
    {"stream": None, "time": None, "value": 7},
    {"value": None},
    {"stream": "s", "time": 1.5e9},
    {"stream": 7, "value": 1},
    {"stream": 7.5, "value": 1},
    {"time": True, "value": 1},
    {"value": "7"},
    {"value": True},
    {"value": 1e37},
    [1],
    7,
]


@pytest.mark.parametrize("body", BODIES, ids=json.dumps)
def test_what_is_an_event_by_its_schema_is_one_for_a_worker(body: object) -> None:
    _, rejected = Decoder(Format()).decode([0], [1_600_000_000_000], [b"key"], [json.dumps(body).encode()])
    assert valid("event", body) == (not rejected)


@pytest.mark.parametrize(
    ("key", "value", "own"),
    [(b"k", b"{", []), (None, None, []), (b"k" * 9000, b"{" * 9000, [("h", b"x" * 9000)])],
)
def test_headers_of_dead_letters_are_valid(key: bytes | None, value: bytes | None, own: Headers) -> None:
    records = Records([7], [1], [key], [value], [own])
    _, rejected = Decoder(Format()).decode(*records[:4])
    [letter] = dead_letters(rejected, records, TOPICS, 0, 4000)
    headers = {name: text.decode() for name, text in letter.headers if name.startswith("foldcast-")}
    Draft202012Validator({**SCHEMAS["dead-letter-headers"], "additionalProperties": False}).validate(headers)
    assert len(headers) == (14 if own else 9)
    assert not valid("dead-letter-headers", {**headers, "foldcast-error-offset": "seven"})


def test_what_is_sent_again_and_the_note_of_it_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(monkeypatch)
    rig.log = [letter(0)]
    assert rig.last().sent == 1
    [record], [_, note] = rig.input, rig.log
    messages = SCHEMAS["asyncapi"]["components"]["messages"]
    for message, name in ((record, "event"), (note, "resentNote")):
        own = {header: part.decode() for header, part in message.headers}
        Draft202012Validator({**messages[name]["headers"], "additionalProperties": False}).validate(own)
        assert own
    key = messages["resentNote"]["bindings"]["kafka"]["key"]
    Draft202012Validator(key).validate((note.key or b"").decode())
    body = json.loads(note.value or b"")
    Draft202012Validator(SCHEMAS["resent-note"]).validate(body)
    assert not any(valid("resent-note", other) for other in ({}, {"offsets": []}, {**body, "more": 1}))


def references(document: object) -> Iterator[str]:
    if isinstance(document, dict):
        yield from [document["$ref"]] if "$ref" in document else []
        document = list(document.values())
    if isinstance(document, list):
        for inner in document:
            yield from references(inner)


def test_the_asyncapi_document_is_made_of_the_schemas_and_all_it_refers_to_is_there() -> None:
    document = SCHEMAS["asyncapi"]
    targets = set(references(document))
    assert {f"./{name}.json" for name in SCHEMAS if name not in DOCUMENTS} == {t for t in targets if t.startswith(".")}
    for target in targets - {f"./{name}.json" for name in SCHEMAS}:
        place = document
        for word in target.removeprefix("#/").split("/"):
            place = place[word]


def test_the_command_writes_them_with_the_topics_of_the_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDCAST_KAFKA__GROUP_ID", "meters")
    monkeypatch.setenv("FOLDCAST_OUTPUT__ROWS_TOPIC", "rows")
    folder = tmp_path / "new" / "contracts"
    assert main(["schemas", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(folder / f"{name}.json") for name in sorted(SCHEMAS)]
    written = {file.stem: json.loads(file.read_text()) for file in folder.iterdir()}
    channels = written.pop("asyncapi")["channels"]
    assert written == {name: schema for name, schema in SCHEMAS.items() if name != "asyncapi"}
    addresses = {name: channel["address"] for name, channel in channels.items()}
    assert addresses == {
        "events": "events", "forecasts": "forecasts", "rows": "rows", "deadLetters": "meters-dead-letters",
    }  # fmt: skip


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["schemas", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.endswith("name another folder\n")
