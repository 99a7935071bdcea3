"""Schemas without a registry, and messages as its clients frame them."""

import json
from io import BytesIO
from typing import Any

import fastavro

from pipeline.decoding.schemas import Schema, SchemasAway, UnknownSchema

READING = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "stream", "type": "string"},
        {"name": "time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "value", "type": ["null", "double"]},
    ],
}


class GivenSchemas:
    """Those of a test; `asked` are the ids in the order in which they were asked for."""

    def __init__(self, **given: Schema) -> None:
        self.given = {int(name.removeprefix("s")): schema for name, schema in given.items()}
        self.asked: list[int] = []
        self.away = False

    def schema(self, number: int) -> Schema:
        self.asked.append(number)
        if self.away:
            raise SchemasAway("the registry is away", "start it")
        if number not in self.given:
            raise UnknownSchema(f"there is no schema {number}")
        return self.given[number]


def framed(number: int, message: bytes) -> bytes:
    return b"\0" + number.to_bytes(4) + message


def avro(schema: Any, value: object) -> bytes:
    """A value as bytes by this schema."""
    stream = BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), value)
    return stream.getvalue()


def reading(number: int, stream: str, time_ms: int, value: float | None) -> bytes:
    """A framed message of READING."""
    return framed(number, avro(READING, {"stream": stream, "time": time_ms, "value": value}))


def avro_schema(schema: Any) -> Schema:
    return Schema(json.dumps(schema))
