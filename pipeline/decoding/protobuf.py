"""Protobuf: a schema becomes a reader of its messages. Needs protobuf.

A field that a message could leave out and does is null; one that proto3 does not write where it is 0 is 0.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from google.protobuf import (
    any_pb2,
    api_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    message_factory,
    source_context_pb2,
    struct_pb2,
    timestamp_pb2,
    type_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message

from pipeline.decoding.schemas import MAIN, Reader, Schema

OWN = {
    module.DESCRIPTOR.name: module.DESCRIPTOR.serialized_pb
    for module in (
        any_pb2, api_pb2, descriptor_pb2, duration_pb2, empty_pb2, field_mask_pb2, source_context_pb2, struct_pb2,
        timestamp_pb2, type_pb2, wrappers_pb2,
    )
}  # fmt: skip
MOST_INDEXES = 32  # messages inside messages, on the way to the one that was sent
VARINT_BYTES = 5
MOST_FIELDS = 1_000_000  # of all messages in one, absent fields too
TEXTS = {f"google.protobuf.{name}" for name in ("Timestamp", "Duration", "FieldMask")}
TREES = {f"google.protobuf.{name}" for name in ("Struct", "Value", "ListValue")}


def reader(schema: Schema) -> Reader:
    """Return the reader of a schema's messages. Raises ValueError where it cannot be used."""
    pool = descriptor_pool.DescriptorPool()
    try:
        main = _add(pool, [*schema.references, (MAIN, schema.definition)])
    except (TypeError, ValueError, KeyError, DecodeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None

    @lru_cache(64)
    def kind(indexes: tuple[int, ...]) -> tuple[Callable[[bytes], Message], int]:
        """Return what makes the message, and the most fields that a message in it has."""
        found: Any = None
        inside = main.message_type
        for index in indexes:
            if not 0 <= index < len(inside):
                raise ValueError(f"the schema has no message {list(indexes)}")
            found = f"{found}.{inside[index].name}" if found else inside[index].name
            inside = [each for each in inside[index].nested_type if not each.options.map_entry]
        full = f"{main.package}.{found}" if main.package else found
        descriptor = pool.FindMessageTypeByName(full)
        return message_factory.GetMessageClass(descriptor).FromString, _widest(descriptor)

    def read(message: bytes) -> object:
        indexes, at = _indexes(message)
        try:
            make, widest = kind(indexes)
            made = make(message[at:])
            if len(message) * widest > MOST_FIELDS and _fields(made) > MOST_FIELDS:
                raise ValueError(f"it has more than {MOST_FIELDS:,} fields, absent ones too")
            return _plain(made)
        except (DecodeError, AttributeError, LookupError, TypeError, RecursionError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None

    return read


def _add(pool: Any, files: list[tuple[str, str | bytes]]) -> Any:
    """Add files and what they import of Protobuf's own; return the last."""
    added: set[str] = set()

    def own(name: str) -> None:
        if name not in added and name in OWN:
            added.add(name)
            file = descriptor_pb2.FileDescriptorProto.FromString(OWN[name])
            for needed in file.dependency:
                own(needed)
            pool.Add(file)

    for name, data in files:
        if name in OWN:  # whatever a registry has under its name
            own(name)
        if name in added:
            continue
        file = descriptor_pb2.FileDescriptorProto.FromString(data)
        file.name = name
        for needed in file.dependency:
            own(needed)
        added.add(name)
        pool.Add(file)
        pool.FindFileByName(name)  # raises where something is missing
    return file


def _indexes(message: bytes) -> tuple[tuple[int, ...], int]:
    """Return which message of the schema was sent, and where it begins. Raises ValueError."""
    count, at = _varint(message, 0)
    if not count:
        return (0,), at
    if not 0 < count <= MOST_INDEXES:
        raise ValueError(f"it names a message by {count} indexes")
    found = []
    for _ in range(count):
        index, at = _varint(message, at)
        found.append(index)
    return tuple(found), at


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place, byte in enumerate(message[at : at + VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at + place + 1
    raise ValueError("the indexes of its message are cut off")


def _widest(top: Descriptor) -> int:
    found = {top.full_name: top}
    todo = [top]
    while todo:
        inner = [field.message_type for field in todo.pop().fields if field.message_type is not None]
        todo += [each for each in inner if each.full_name not in found]
        found |= {each.full_name: each for each in inner}
    return max(len(each.fields) for each in found.values())


def _fields(message: Any) -> int:
    number = len(message.DESCRIPTOR.fields)
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if not field.is_repeated:
            number += _fields(value)
        elif not field.message_type.GetOptions().map_entry:
            number += sum(map(_fields, value))
        elif field.message_type.fields_by_name["value"].message_type is not None:
            number += sum(map(_fields, value.values()))
    return number


def _plain(message: Any) -> object:
    descriptor = message.DESCRIPTOR
    if descriptor.file.name in OWN:
        if descriptor.full_name in TEXTS:
            return message.ToJsonString()
        if descriptor.full_name in TREES:
            return MessageToDict(message)
        if descriptor.file.name == "google/protobuf/wrappers.proto":
            return message.value
    return {name: get(message) for name, get in _getters(descriptor)}


@lru_cache(1000)
def _getters(descriptor: Descriptor) -> list[tuple[str, Callable[[Any], object]]]:
    return [(field.name, _getter(field)) for field in descriptor.fields]


def _getter(field: FieldDescriptor) -> Callable[[Any], object]:
    name = field.name
    if field.is_repeated:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            one = _converter(field.message_type.fields_by_name["value"])
            return lambda message: {str(key): one(value) for key, value in getattr(message, name).items()}
        one = _converter(field)
        return lambda message: [one(value) for value in getattr(message, name)]
    one = _converter(field)
    if field.has_presence:
        return lambda message: one(getattr(message, name)) if message.HasField(name) else None
    return lambda message: one(getattr(message, name))


def _converter(field: FieldDescriptor) -> Callable[[Any], object]:
    if field.message_type is not None:
        return _plain
    if field.enum_type is not None:
        names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
        return lambda number: names.get(number, number)
    return lambda value: value
