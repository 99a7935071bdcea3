"""JSON Schema: a schema becomes a reader that lets its messages pass. Needs jsonschema-rs."""

import json
from typing import Any, NoReturn

import jsonschema_rs
import msgspec

from pipeline.decoding.schemas import Reader, Schema


def reader(schema: Schema) -> Reader:
    """Return the reader of a schema's messages. Raises ValueError where it cannot be used."""
    try:
        registry = None
        if schema.references:
            registry = jsonschema_rs.Registry([(name, json.loads(text)) for name, text in schema.references])
        definition: Any = json.loads(schema.definition)
        validator = jsonschema_rs.validator_for(definition, registry=registry, retriever=_fetch_nothing)
    except (ValueError, TypeError, jsonschema_rs.ReferencingError, RecursionError) as error:
        raise ValueError(_first_line(error)) from None

    def read(message: bytes) -> object:
        try:
            validator.validate(msgspec.json.decode(message))
        except msgspec.DecodeError as error:
            raise ValueError(str(error)) from None
        except (ValueError, RecursionError) as error:
            raise ValueError(_first_line(error)) from None
        return msgspec.Raw(message)

    return read


def _fetch_nothing(uri: str) -> NoReturn:
    raise ValueError(f"it refers to {uri}, which the registry does not name among its references")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
