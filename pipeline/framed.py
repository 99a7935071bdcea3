"""Records in a schema registry's framing: their messages become JSON, and the decoder goes on as with any other.

A schema that the registry does not know now may be there later, and one that cannot be used may be with other versions
of the libraries, so that a replay could see another message: whoever takes these records in remembers those that were
refused as `unknown_schema` or `unusable_schema`.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec

from pipeline.batch import Batch, Rejected
from pipeline.decoding.schemas import HEAD, Reader, Schema, Schemas, SchemasAway, UnknownSchema, number_of
from pipeline.events import Decoder, Format

MOST_SCHEMAS = 1000  # whose readers are kept
MOST_UNFINISHED = 1000  # batches, whose schemas are kept
UNKNOWN, UNUSABLE = "unknown_schema", "unusable_schema"

_encoder = msgspec.json.Encoder(decimal_format="number")  # what is not finite is null


class FramedDecoder(Decoder):
    """Decodes records whose messages a registry's schemas explain. `decode` raises SchemasAway."""

    def __init__(self, form: Format, schemas: Schemas, reader: Callable[[Schema], Reader]) -> None:
        """`reader` makes a reader of a schema, or raises ValueError."""
        super().__init__(form)

        @lru_cache(MOST_SCHEMAS)
        def made(number: int) -> Reader:
            try:
                return reader(schemas.schema(number))
            except ValueError as error:
                return _refusing(f"schema {number} cannot be used: {error}")

        self._reader = made
        self._unfinished = dict[tuple[int, int], _Found]()  # by a batch's first record: its next try gets further

    def decode(
        self,
        offsets: Sequence[int],
        timestamps_ms: Sequence[int],
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
    ) -> tuple[Batch, list[Rejected]]:
        """As `Decoder.decode`. Raises SchemasAway: then nothing was decoded."""
        refused = dict[int, Rejected]()
        plain: list[bytes | None] = []
        first = offsets[0], timestamps_ms[0]
        found = self._unfinished.pop(first, {})
        try:
            for place, value in enumerate(values):
                message = None if value is None else self._json(place, value, found)
                if isinstance(message, Rejected):
                    refused[place], message = message, None
                plain.append(message)
        except SchemasAway:
            if len(self._unfinished) >= MOST_UNFINISHED:
                del self._unfinished[next(iter(self._unfinished))]
            self._unfinished[first] = found
            raise
        batch, rejected = super().decode(offsets, timestamps_ms, keys, plain)
        return batch, [refused.get(each.place, each) for each in rejected]

    def _json(self, place: int, value: bytes, found: "_Found") -> bytes | Rejected:
        """Return a record's message as JSON, or why it is none. Raises SchemasAway."""
        number = number_of(value)
        if number is None:
            start = "it begins without a zero byte and a schema's id" if value else "it is empty"
            return Rejected(place, "undecodable", f"{start}; events.format says that a registry's serializer wrote it")
        read = found.get(number)
        if read is None:
            try:
                read = self._reader(number)
            except UnknownSchema as error:
                read = str(error)
            found[number] = read
        if isinstance(read, str):
            return Rejected(place, UNKNOWN, read)
        try:
            return _encoder.encode(read(value[HEAD:]))
        except _UnusableError as error:
            return Rejected(place, UNUSABLE, str(error))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            return Rejected(place, "undecodable", f"it does not match schema {number}: {error}")


_Found = dict[int, Reader | str]  # by the schema's id; or why it is unknown


class _UnusableError(ValueError):
    """No message can be read by this schema."""


def _refusing(why: str) -> Reader:
    def refuse(_: bytes) -> object:
        raise _UnusableError(why)

    return refuse
