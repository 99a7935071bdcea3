"""Messages as a schema registry's clients frame them: a zero byte, the schema's id, and bytes that its schema explains.

Knows no network: whoever makes a decoder hands in the source of schemas.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

HEAD = 5  # bytes before the message: 0, and the id as four bytes, the most significant first
JSON_FORMAT = "json"  # without a registry
MAIN = "foldcast.main.proto"  # a schema's own file, beside those that it imports by their names

Reader = Callable[[bytes], object]  # of a message without its head, as values of JSON; raises ValueError


class Schema(NamedTuple):
    """A schema as the registry has it, behind those that it refers to, the innermost first."""

    definition: str | bytes  # of Protobuf a serialized FileDescriptorProto, else JSON
    references: tuple[tuple[str, str | bytes], ...] = ()  # the name by which it is known, and its definition


class UnknownSchema(Exception):  # noqa: N818 - a state of the registry
    """The registry answers that it has no such schema; it may have it later."""


class SchemasAway(Exception):  # noqa: N818 - a state of the registry
    """The registry gives no answer now; `fix` is what a person can do, in words that end a sentence."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


class StillAsking(SchemasAway):
    """The registry answers, and there was more to ask for than the others can wait for."""


class Schemas(Protocol):
    """Schemas by their ids, which never change their meaning."""

    def schema(self, number: int) -> Schema:
        """Return the schema. Raises UnknownSchema, SchemasAway, and ValueError where it is none of the wanted kind."""


def number_of(value: bytes) -> int | None:
    """Return the id of the schema in front of a message; None where there is none."""
    return None if len(value) < HEAD or value[0] else int.from_bytes(value[1:HEAD])


def framing(value: bytes) -> str:
    """Return a sentence about the head of a message that was to be plain JSON; empty without one."""
    number = number_of(value)
    if number is None:
        return ""
    return (
        f"this looks like a schema registry's framing (a zero byte, then the id of schema {number}), and events.format "
        "is json: set it to what the message is (avro, protobuf, json_schema)"
    )
