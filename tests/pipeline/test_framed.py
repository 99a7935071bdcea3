"""Messages in a schema registry's framing: what becomes of each format, and that no bytes do harm."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2, timestamp_pb2, wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batch import Batch, Rejected
from pipeline.decoding.numbers import Numbers
from pipeline.decoding.schemas import MAIN, Schema, SchemasAway
from pipeline.events import Format
from pipeline.framed import FramedDecoder
from tests.rigs.schemas import READING, GivenSchemas, avro, avro_schema, framed, reading
from worker.registry.client import KINDS
from worker.registry.protoc import compiled
from worker.registry.readers import reader_of

SENT_MS = 1_700_000_000_000
TIME_MS = 1_600_000_000_123
PLAIN = Format()
PROTO = """
syntax = "proto3";
package plant;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
enum Kind { PLAIN = 0; FINE = 1; }
message Other {}
message Outer {
  map<string, sint64> counts = 1;
  message Reading {
    string stream = 1;
    google.protobuf.Timestamp time = 2;
    optional double value = 3;
    double plain = 4;
    google.protobuf.DoubleValue wrapped = 5;
    repeated Point points = 6;
    Kind kind = 7;
    google.protobuf.Struct free = 8;
  }
}
message Point { double at = 1; }
"""


def decode(
    form: str, schemas: GivenSchemas, *values: bytes | None, fields: Format = PLAIN
) -> tuple[Batch, list[Rejected]]:
    decoder = FramedDecoder(fields, schemas, reader_of(form))
    return decoder.decode(range(len(values)), [SENT_MS] * len(values), [b"key"] * len(values), values)


def one_of(schema: Any, value: object, **fields: Any) -> tuple[Batch, list[Rejected]]:
    """What becomes of one Avro message."""
    return decode("avro", GivenSchemas(s1=avro_schema(schema)), framed(1, avro(schema, value)), fields=Format(**fields))


def record(**types: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": name, "type": kind} for name, kind in types.items()]}


def wide(nulls: int) -> dict[str, Any]:
    """A record of one byte."""
    return record(one="boolean", **{f"n{n}": "null" for n in range(nulls)}) | {"name": "W"}


@pytest.fixture(scope="module")
def proto() -> bytes:
    return compiled(MAIN, PROTO, {})


def message_of(proto: bytes, name: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    for file in (*(needed.DESCRIPTOR.serialized_pb for needed in (struct_pb2, timestamp_pb2, wrappers_pb2)), proto):
        pool.Add(descriptor_pb2.FileDescriptorProto.FromString(file))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def test_avro_messages_are_events_and_each_schema_is_asked_for_once() -> None:
    schemas = GivenSchemas(s1=avro_schema(READING), s7=avro_schema(READING))
    some = [reading(number, "a", TIME_MS + number, 2.5) for number in (1, 7, 1, 7)]
    batch, rejected = decode("avro", schemas, *some, reading(1, "b", TIME_MS, None))
    assert rejected == []
    assert batch.name == ["a"] * 4 + ["b"]
    assert batch.time_ms.tolist() == [TIME_MS + n for n in (1, 7, 1, 7, 0)]
    assert batch.value.tolist()[:4] == [2.5] * 4
    assert batch.value[4] != batch.value[4], "null is a missing value"
    assert schemas.asked == [1, 7]


def test_a_newer_schema_without_a_field_follows_the_rules_of_what_is_absent() -> None:
    lacking = record(stream="string", time={"type": "long", "logicalType": "timestamp-millis"})
    wider = record(stream="string", value="float", more={"type": "array", "items": "string"})
    schemas = GivenSchemas(s1=avro_schema(READING), s2=avro_schema(lacking), s3=avro_schema(wider))
    batch, rejected = decode(
        "avro",
        schemas,
        reading(1, "a", TIME_MS, 1.0),
        framed(2, avro(lacking, {"stream": "a", "time": TIME_MS})),
        framed(3, avro(wider, {"stream": "a", "value": 3.5, "more": ["x"]})),
    )
    assert [(each.place, each.reason) for each in rejected] == [(1, "no_value")]
    assert batch.value.tolist() == [1.0, 3.5]
    assert batch.time_ms.tolist() == [TIME_MS, SENT_MS], "without a field it is the record's"


@pytest.mark.parametrize(
    ("kind", "value", "time_ms"),
    [
        ({"type": "long", "logicalType": "timestamp-micros"}, datetime(1985, 3, 1, tzinfo=UTC), 478483200000),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, datetime(2020, 3, 1), 1583020800000),
        ({"type": "int", "logicalType": "date"}, date(2020, 3, 1), 1583020800000),
        ("long", TIME_MS, TIME_MS),
        ("string", "2020-03-01T00:00:00Z", 1583020800000),
    ],
)
def test_times_of_avro_are_what_their_types_say(kind: Any, value: object, time_ms: int) -> None:
    batch, rejected = one_of(record(time=kind, value="double"), {"time": value, "value": 1.0})
    assert (batch.time_ms.tolist(), rejected) == ([time_ms], [])


def test_numbers_of_avro_may_be_decimals_and_what_is_not_finite_is_missing() -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}
    assert one_of(record(value=decimal), {"value": Decimal("21.50")})[0].value.tolist() == [21.5]
    for value in (float("nan"), float("inf")):
        batch, rejected = one_of(record(value="double"), {"value": value})
        assert (str(batch.value.tolist()), rejected) == ("[nan]", [])
    assert [each.reason for each in one_of(record(value="boolean"), {"value": True})[1]] == ["wrong_type"]


def test_paths_targets_sentinels_and_ranges_hold_in_a_framed_message_too() -> None:
    inner = {"type": "record", "name": "I", "fields": [{"name": n, "type": "double"} for n in ("temp", "rh", "co2")]}
    schema = record(device="int", data={"type": "array", "items": inner})
    fields = Format(
        stream_field="device",
        target_fields=("data.0.temp", "data.0.rh", "data.0.co2"),
        numbers=Numbers(sentinels=frozenset([-9999.0]), low=-50, high=1000),
    )
    value = {"device": 12, "data": [{"temp": 21.5, "rh": -9999.0, "co2": 5000.0}]}
    batch, rejected = decode(
        "avro", GivenSchemas(s1=avro_schema(schema)), framed(1, avro(schema, value)), framed(2, b""), fields=fields
    )
    assert batch.name == ["12/temp", "12/rh", "12/co2"]
    assert (batch.value.tolist()[0], batch.drop.tolist()) == (21.5, [0, 4, 5])
    assert [(each.place, each.reason) for each in rejected] == [(1, "unknown_schema")]
    whole = decode(
        "avro", GivenSchemas(s1=Schema('"float"')), framed(1, avro("float", 2.5)), fields=Format(target_field=".")
    )
    assert (whole[0].name, whole[0].value.tolist()) == (["key"], [2.5])


def test_what_does_not_match_names_its_schema() -> None:
    schemas = GivenSchemas(s1=avro_schema(READING), s2=Schema("{"), s3=Schema('{"type":"what"}'))
    whole = reading(1, "a", TIME_MS, 1.0)
    given = [
        b"",
        b"\0\0\0",
        b'{"value":1}',
        whole[:-1],
        whole + b"x",
        framed(2, b""),
        framed(3, b""),
        framed(9, b""),
        None,
    ]
    batch, rejected = decode("avro", schemas, *given)
    assert batch.name == []
    reasons = ["undecodable"] * 5 + ["unusable_schema"] * 2 + ["unknown_schema", "empty"]
    assert [each.reason for each in rejected] == reasons
    assert all("schema 1" in each.message for each in rejected[3:5])
    assert all("cannot be used" in each.message for each in rejected[5:7])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"]}]},
        record(one={"type": "record", "name": "N", "fields": [{"name": "n", "type": {"type": "array", "items": "N"}}]}),
        record(nothing={"type": "array", "items": "null"}),
        record(nothing={"type": "array", "items": record()}),
        record(much={"type": "array", "items": wide(11)}),
        record(much={"type": "map", "values": ["null", wide(21)]}),
        record(value="double", nothing={"type": "record", "name": "N", "fields": [{"name": "n", "type": "null"}]}),
    ],
)
def test_a_schema_by_which_few_bytes_claim_to_be_much_is_not_used(schema: Any) -> None:
    _, [rejected] = decode("avro", GivenSchemas(s1=avro_schema(schema)), framed(1, b"\2" * 200_000))
    assert (rejected.reason, "schema 1 cannot be used" in rejected.message) == ("unusable_schema", True)


def test_a_list_of_what_takes_few_bytes_is_read() -> None:
    schema = record(many={"type": "array", "items": ["null", wide(9)]}, value="double")
    more = [None, {"one": True, **{f"n{n}": None for n in range(9)}}]
    batch, rejected = one_of(schema, {"many": more, "value": 3.0})
    assert (batch.value.tolist(), rejected) == ([3.0], [])


def test_a_name_that_is_used_twice_is_no_circle() -> None:
    point = {"type": "record", "name": "P", "fields": [{"name": "at", "type": "double"}]}
    schema = record(first=point, second="P", value="double")
    batch, rejected = one_of(
        schema, {"first": {"at": 1.0}, "second": {"at": 2.0}, "value": 3.0}, covariates=("second.at",)
    )
    assert (batch.covariates.tolist(), batch.value.tolist(), rejected) == ([[2.0]], [3.0], [])


def test_a_schema_that_doubles_at_each_level_is_judged_at_once() -> None:
    schema: Any = {"type": "record", "name": "R0", "fields": [{"name": "a", "type": "int"}]}
    for n in range(1, 200):
        fields = [{"name": "a", "type": schema}, {"name": "b", "type": f"R{n - 1}"}]
        schema = {"type": "record", "name": f"R{n}", "fields": fields}
    _, [rejected] = decode("avro", GivenSchemas(s1=avro_schema(schema)), framed(1, b"\2" * 99))
    assert "does not match" in rejected.message


def test_avro_and_json_schemas_may_refer_to_others() -> None:
    other = json.dumps({"type": "enum", "name": "Unit", "symbols": ["C", "F"]})
    schema = Schema(json.dumps(record(unit="Unit", value="double")), (("Unit", other),))
    batch, rejected = decode("avro", GivenSchemas(s1=schema), framed(1, b"\2" + avro("double", 2.5)))
    assert (batch.value.tolist(), rejected) == ([2.5], [])
    text = json.dumps({"type": "object", "properties": {"value": {"$ref": "number.json"}}})
    schema = Schema(text, (("number.json", '{"type": "number", "maximum": 9}'),))
    batch, rejected = decode("json_schema", GivenSchemas(s1=schema), *(framed(1, b'{"value":%d}' % n) for n in (9, 10)))
    assert (batch.value.tolist(), [each.place for each in rejected]) == ([9.0], [1])
    elsewhere = Schema('{"$ref": "http://127.0.0.1:9/number.json"}')
    _, [rejected_too] = decode("json_schema", GivenSchemas(s1=elsewhere), framed(1, b"1"))
    assert "cannot be used" in rejected_too.message


def test_json_is_held_to_its_schema() -> None:
    schema = Schema('{"type": "object", "required": ["value"], "properties": {"value": {"type": "number"}}}')
    values = [b'{"stream":"a","value":3}', b'{"stream":"a"}', b'{"value":"3"}', b"{", b'{"value":1e999}']
    batch, rejected = decode("json_schema", GivenSchemas(s1=schema), *(framed(1, value) for value in values))
    assert (batch.name, batch.value.tolist()) == (["a"], [3.0])
    assert [each.reason for each in rejected] == ["undecodable"] * 4
    assert "required" in rejected[0].message


def test_protobuf_messages_are_events_by_their_place_in_the_schema(proto: bytes) -> None:
    sent = message_of(proto, "plant.Outer.Reading")(stream="a", value=0.0, kind=1)
    sent.time.FromMilliseconds(TIME_MS)
    sent.wrapped.value = 4.5
    sent.points.add(at=1.5)
    sent.points.add(at=2.5)
    sent.free["n"] = 7
    fields = Format(covariates=("wrapped", "points.1.at", "free.n", "plain"))
    bare = message_of(proto, "plant.Outer.Reading")(stream="b").SerializeToString()
    head = b"\x04\x02\x00"  # two indexes: the second message, and in it the first
    batch, rejected = decode(
        "protobuf",
        GivenSchemas(s1=Schema(proto)),
        framed(1, head + sent.SerializeToString()),
        framed(1, head + bare),
        framed(1, b"\0"),
        framed(1, b"\x02\x7e"),
        framed(1, b"\x04\x02"),
        framed(1, head + b"\xff\xff"),
        fields=fields,
    )
    assert batch.name == ["a", "b"]
    assert (batch.time_ms.tolist(), batch.value.tolist()[0]) == ([TIME_MS, SENT_MS], 0.0)
    assert batch.covariates[0].tolist() == [4.5, 2.5, 7.0, 0.0]
    assert batch.value[1] != batch.value[1], "what could be left out and was is null"
    assert [each.reason for each in rejected] == ["no_value", *["undecodable"] * 3]


def test_protobuf_schemas_may_import_others_and_lack_one() -> None:
    point = compiled("deep/point.proto", 'syntax = "proto3"; message Point { double at = 1; }', {})
    text = 'syntax = "proto3"; import "deep/point.proto"; message R { string stream = 1; Point value = 2; }'
    main = compiled(MAIN, text, {"deep/point.proto": point})
    value = framed(1, b"\0" + b"\x0a\x01a" + b"\x12\x09\x09" + bytes(6) + b"\x04\x40")
    whole = GivenSchemas(s1=Schema(main, (("deep/point.proto", point),)))
    assert decode("protobuf", whole, value, fields=Format(target_field="value.at"))[0].value.tolist() == [2.5]
    _, [rejected] = decode("protobuf", GivenSchemas(s1=Schema(main)), value)
    assert "cannot be used" in rejected.message


@pytest.mark.parametrize("name", ["Timestamp", "FieldMask", "Struct"])
def test_a_message_that_has_the_name_of_one_of_protobufs_own_is_read_by_its_fields(name: str) -> None:
    fields = "{ string stream = 1; optional double value = 2; }"
    text = f'syntax = "proto3"; package google.protobuf; message {name} {fields}'
    value = framed(1, b"\0\x0a\x01a\x11" + bytes(6) + b"\x04\x40")
    batch, rejected = decode("protobuf", GivenSchemas(s1=Schema(compiled(MAIN, text, {}))), value)
    assert (batch.name, batch.value.tolist(), rejected) == (["a"], [2.5], [])


def test_protobufs_own_files_are_ours_whatever_a_registry_has_under_their_names() -> None:
    name = "google/protobuf/wrappers.proto"
    other = compiled(name, 'syntax = "proto3"; package google.protobuf; message DoubleValue { double x = 1; }', {})
    text = f'syntax = "proto3"; import "{name}"; message R {{ google.protobuf.DoubleValue value = 1; }}'
    schema = Schema(compiled(MAIN, text, {name: other}), ((name, other),))
    batch, rejected = decode("protobuf", GivenSchemas(s1=schema), framed(1, b"\0\x0a\x09\x09" + bytes(6) + b"\x04\x40"))
    assert (batch.value.tolist(), rejected) == ([2.5], [])


@pytest.mark.parametrize("kind", ["repeated Wide", "map<int32, Wide>", "repeated Outer"])
def test_few_bytes_of_protobuf_do_not_become_very_many_fields(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr("pipeline.decoding.protobuf.MOST_FIELDS", 10_000)
    wide = " ".join(f"optional double n{n} = {n};" for n in range(1, 2001))
    text = f'syntax = "proto3"; message R {{ {kind} more = 1; double value = 2; }} message Wide {{ {wide} }}'
    schema = Schema(compiled(MAIN, text + " message Outer { Wide wide = 1; }", {}))
    item = {"repeated Wide": b"\x0a\0", "repeated Outer": b"\x0a\2\x0a\0"}.get(kind, b"\x0a\4\x08%c\x12\0")
    for number, refused in ((4, []), (5, ["undecodable"])):
        message = b"".join(item % n if b"%" in item else item for n in range(number))
        _, rejected = decode("protobuf", GivenSchemas(s1=schema), framed(1, b"\0" + message))
        assert [each.reason for each in rejected] == refused


@pytest.mark.parametrize("name", ["../point.proto", "/tmp/point.proto", "--version"])
def test_no_file_is_written_elsewhere(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a file"):
        compiled(name, 'syntax = "proto3";', {})


def test_a_registry_that_is_away_refuses_no_record() -> None:
    schemas = GivenSchemas(s1=avro_schema(READING))
    decoder = FramedDecoder(Format(), schemas, reader_of("avro"))
    schemas.away = True
    batch = [0, 1], [SENT_MS] * 2, [None] * 2, [b"no frame", reading(1, "a", TIME_MS, 1.0)]
    with pytest.raises(SchemasAway):
        decoder.decode(*batch)
    schemas.away = False
    assert decoder.decode(*batch)[0].name == ["a"]
    schemas.away = True
    assert decoder.decode(*batch)[0].name == ["a"], "what is known needs no registry"


NESTED = record(
    a="string", b={"type": "map", "values": ["null", "long", "bytes"]}, c={"type": "array", "items": "double"},
    d={"type": "long", "logicalType": "timestamp-micros"},
    e={"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 1},
    f={"type": "fixed", "name": "F", "size": 3}, g={"type": "enum", "name": "E", "symbols": ["x"]}, value="double",
    h={"type": "string", "logicalType": "uuid"}, i={"type": "int", "logicalType": "time-millis"},
)  # fmt: skip


@pytest.mark.parametrize("form", KINDS)
@given(data=st.data())
def test_no_bytes_raise(form: str, proto: bytes, data: st.DataObject) -> None:
    known = {"avro": avro_schema(NESTED), "protobuf": Schema(proto), "json_schema": Schema("{}")}
    drawn = st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: framed(1, rest))
    if form == "protobuf":
        drawn |= st.binary(max_size=60).map(lambda rest: framed(1, b"\x04\x02\x00" + rest))
    values = data.draw(st.lists(drawn, min_size=1, max_size=5))
    batch, rejected = decode(form, GivenSchemas(s1=known[form]), *values)
    assert len(batch.name) + len(rejected) == len(values)
    assert all(each.message for each in rejected)
