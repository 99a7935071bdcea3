"""Avro: a schema becomes a reader of its messages. Needs fastavro.

fastavro follows a message as deep and as long as it claims to be, so schemas whose messages could claim anything in a
few bytes are refused: those that contain themselves, and lists and records of what takes no byte, or hardly any.
"""

import json
from io import BytesIO
from struct import error as StructError
from typing import Any

import fastavro

from pipeline.decoding.schemas import Reader, Schema

# a reader that finds bytes which its schema did not write raises whatever it stumbled over
GARBLED = (ArithmeticError, AttributeError, EOFError, LookupError, StructError, TypeError, ValueError)

MOST_FREE = 10  # values that take no byte, for each byte of a list's item


def reader(schema: Schema) -> Reader:
    """Return the reader of a schema's messages. Raises ValueError where it cannot be used."""
    named: dict[str, Any] = {}
    try:
        definitions = [text for _, text in schema.references] + [schema.definition]
        *_, parsed = [fastavro.parse_schema(json.loads(text), named_schemas=named) for text in definitions]
        _extent(parsed, named, {})
    except (*GARBLED, fastavro.schema.SchemaParseException, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None

    def read(message: bytes) -> object:
        stream = BytesIO(message)
        try:
            value = fastavro.schemaless_reader(stream, parsed, None)
        except GARBLED as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None
        if stream.tell() != len(message):
            raise ValueError(f"{len(message) - stream.tell()} bytes are left behind its end")
        return value

    return read


def _extent(
    schema: Any, named: dict[str, Any], extents: dict[str, tuple[int, int]], inside: tuple[str, ...] = ()
) -> tuple[int, int]:
    """Return the fewest bytes that a value takes, and the most values in it that take none; `extents`: of records.

    Raises ValueError where messages could claim anything.
    """
    if isinstance(schema, list):
        each = [_extent(one, named, extents, inside) for one in schema]
        return 1 + min((least for least, _ in each), default=0), max((free for _, free in each), default=0)
    kind = schema["type"] if isinstance(schema, dict) else schema
    name = schema.get("name", "") if isinstance(schema, dict) else kind
    if not isinstance(kind, str):
        return _extent(kind, named, extents, inside)
    if name in inside:
        raise ValueError(f"{name} contains itself, and how deep is for a message to say: such are not read")
    if kind in ("record", "error"):
        fields = [_extent(field["type"], named, extents, (*inside, name)) for field in schema["fields"]]
        least = sum(least for least, _ in fields)
        if fields and not least:
            raise ValueError(f"{name} has fields, and none of them takes a byte")
        extents[name] = least, sum(free for _, free in fields) + (not fields)
        return extents[name]
    if kind in ("array", "map"):
        least, free = _extent(schema["items" if kind == "array" else "values"], named, extents, inside)
        if free > MOST_FREE * (least + (kind == "map")):  # the key of a map takes one
            raise ValueError("it has a list of what takes hardly a byte, and how long is for a message to say")
        return 1, 0
    if kind in named:
        return extents[kind] if kind in extents else _extent(named[kind], named, extents, inside)
    least = int(schema["size"]) if kind == "fixed" else int(kind != "null")
    return least, int(not least)
