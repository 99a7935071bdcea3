"""Avro: a schema becomes a reader of its messages. Needs fastavro.

fastavro follows a message as deep and as long as it claims to be, so schemas whose messages could claim anything in a
few bytes are refused: those that contain themselves, and lists and records of what takes no byte.
"""

import json
from io import BytesIO
from struct import error as StructError
from typing import Any

import fastavro

from pipeline.decoding.schemas import Reader, Schema

# a reader that finds bytes which its schema did not write raises whatever it stumbled over
GARBLED = (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, StructError, TypeError, ValueError)


def reader(schema: Schema) -> Reader:
    """Return the reader of a schema's messages. Raises ValueError where it cannot be used."""
    named: dict[str, Any] = {}
    try:
        definitions = [text for _, text in schema.references] + [schema.definition]
        *_, parsed = [fastavro.parse_schema(json.loads(text), named_schemas=named) for text in definitions]
        _least_bytes(parsed, named, {})
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


def _least_bytes(schema: Any, named: dict[str, Any], sizes: dict[str, int], inside: tuple[str, ...] = ()) -> int:
    """Return the fewest bytes that a value takes; those of records are kept in `sizes`.

    Raises ValueError where messages could claim anything.
    """
    if isinstance(schema, list):
        return 1 + min((_least_bytes(each, named, sizes, inside) for each in schema), default=0)
    kind = schema["type"] if isinstance(schema, dict) else schema
    name = schema.get("name", "") if isinstance(schema, dict) else kind
    if not isinstance(kind, str):
        return _least_bytes(kind, named, sizes, inside)
    if name in inside:
        raise ValueError(f"{name} contains itself, and how deep is for a message to say: such are not read")
    if kind in ("record", "error"):
        fields = [field["type"] for field in schema["fields"]]
        sizes[name] = sum(_least_bytes(field, named, sizes, (*inside, name)) for field in fields)
        if fields and not sizes[name]:
            raise ValueError(f"{name} has fields, and none of them takes a byte")
        return sizes[name]
    if kind in ("array", "map"):
        item = _least_bytes(schema["items" if kind == "array" else "values"], named, sizes, inside)
        if not item and kind == "array":
            raise ValueError("it has a list of what takes no byte, and how long is for a message to say")
        return 1
    if kind in named:
        return sizes[kind] if kind in sizes else _least_bytes(named[kind], named, sizes, inside)
    return int(schema["size"]) if kind == "fixed" else int(kind != "null")
