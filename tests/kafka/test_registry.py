"""A real registry and other people's serializers: each format, an evolved schema, and a registry that is killed."""

import faulthandler
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pool, message_factory, timestamp_pb2

from tests.rigs.apicurio import WHAT_TO_INSTALL, Apicurio, can_run
from tests.rigs.cluster import FIRST_MS, STEP_MS, Cluster
from tests.rigs.ports import free_port
from tests.rigs.schemas import framed
from tests.rigs.secured_kafka import make_certificates
from tests.rigs.tls_front import tls_front
from worker.broker.produce import FastProducer
from worker.broker.restore import TopicReader
from worker.check import findings
from worker.registry.client import RegistryClient
from worker.registry.protoc import compiled
from worker.registry.readers import reader_of
from worker.settings.registry import Registry

pytestmark = pytest.mark.kafka

Serialize = Callable[[str, int, float], bytes]  # stream, number of the event, value

TIME = {"type": "long", "logicalType": "timestamp-millis"}
FIELDS: list[dict[str, Any]] = [
    {"name": "stream", "type": "string"},
    {"name": "time", "type": TIME},
    {"name": "value", "type": ["null", "double"]},
]
POINT = 'syntax = "proto3"; package plant; message Point { optional double value = 1; }'
READING = """
syntax = "proto3"; package plant;
import "google/protobuf/timestamp.proto";
message Other {}
message Reading { string stream = 1; google.protobuf.Timestamp time = 2; optional double value = 3; }
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    if not can_run():
        pytest.skip(WHAT_TO_INSTALL)
    faulthandler.cancel_dump_traceback_later()  # set for tests that take seconds
    with Apicurio(tmp_path_factory.mktemp("registry") / "home", free_port()) as registry:
        yield registry


@pytest.fixture
def client(registry: Apicurio) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": registry.url}) as client:
        yield client


def serializer(made: Any, topic: str) -> Callable[[Any], bytes]:
    context = SerializationContext(topic, MessageField.VALUE)
    return lambda value: bytes(made(value, context))


def avro(client: SchemaRegistryClient, topic: str, more: tuple[dict[str, Any], ...] = ()) -> Serialize:
    schema = json.dumps({"type": "record", "name": "Reading", "fields": [*FIELDS, *more]})
    write = serializer(AvroSerializer(client, schema), topic)
    return lambda stream, n, value: write(
        {"stream": stream, "time": FIRST_MS + n * STEP_MS, "value": value} | {field["name"]: "x" for field in more}
    )


def json_schema(client: SchemaRegistryClient, topic: str) -> Serialize:
    schema = {"title": "Reading", "type": "object", "properties": {"value": {"type": "number"}}, "required": ["value"]}
    write = serializer(JSONSerializer(json.dumps(schema), client), topic)
    return lambda stream, n, value: write({"stream": stream, "time": FIRST_MS + n * STEP_MS, "value": value})


def protobuf(client: SchemaRegistryClient, topic: str) -> Serialize:
    pool = descriptor_pool.Default()
    assert timestamp_pb2.DESCRIPTOR.name in READING, "imported for the pool"
    pool.AddSerializedFile(compiled("reading.proto", READING, {}))
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("plant.Reading"))
    write = serializer(ProtobufSerializer(kind, client, {"use.deprecated.format": False}), topic)

    def serialize(stream: str, n: int, value: float) -> bytes:
        message = kind(stream=stream, value=value)
        message.time.FromMilliseconds(FIRST_MS + n * STEP_MS)
        return write(message)

    return serialize


class Reader:
    """Ids of all forecasts that a reader has seen so far, and their values."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.ids: Counter[str] = Counter()
        self.values: dict[str, float] = {}

    def until(self, reader: TopicReader, *last: str) -> None:
        while not {*last} <= self.ids.keys():
            for record in reader.poll(0.2):
                message = orjson.loads(record.value or b"")
                self.ids[message["id"]] += 1
                self.values[message["id"]] = message["value"]
            assert not any(worker.life.ended for worker in self._cluster.workers), self._cluster.ends_of_logs()


@pytest.mark.parametrize(("form", "make"), [("avro", avro), ("protobuf", protobuf), ("json_schema", json_schema)])
def test_each_format_by_its_own_serializer_is_forecast(
    bootstrap: str,
    unique: str,
    tmp_path: Path,
    registry: Apicurio,
    client: SchemaRegistryClient,
    form: str,
    make: Callable[[SchemaRegistryClient, str], Serialize],
) -> None:
    sections: dict[str, Any] = {"events": {"format": form}, "registry": {"url": registry.url}}
    with Cluster(bootstrap, unique, tmp_path, 1, fine_tune={"enabled": False}, **sections) as cluster:
        found = {finding.check: finding for finding in findings(cluster.settings)}
        assert all(finding.ok for finding in found.values()), found
        assert registry.url in found["registry"].says
        topic = cluster.topics.input
        serialize = make(client, topic)
        sent = [serialize(f"s{n % 3}", n, n / 2) for n in range(30)]
        assert all(value[0] == 0 for value in sent)
        reader = Reader(cluster)
        with (
            FastProducer(cluster.connection) as producer,
            TopicReader(cluster.connection, cluster.topics.output, {0: 0}) as forecasts,
        ):
            for value in [framed(1 << 30, b"x"), sent[0][:5], b'{"value":1}', *sent]:
                producer.send(topic, 0, b"k", value)
            producer.flush()
            cluster.worker("one")
            reader.until(forecasts, f"{topic}-0-32")
        cluster.stop()
        letters = [
            dict(record.headers)["foldcast-error-reason"] for record in cluster.read(cluster.topics.dead_letters)
        ]
    assert reader.ids == Counter(f"{topic}-0-{n + 3}" for n in range(30))
    assert reader.values == {f"{topic}-0-{n + 3}": n / 2 for n in range(30)}
    expected = [b"unknown_schema", b"undecodable", b"undecodable"]
    assert letters == expected if form != "protobuf" else letters[0] == expected[0]


def test_a_text_schema_with_an_import_is_compiled(
    registry: Apicurio, client: SchemaRegistryClient, unique: str
) -> None:
    client.register_schema(f"{unique}-point", Schema(POINT, "PROTOBUF"))
    text = 'syntax = "proto3"; package plant; import "point.proto"; message Main { Point at = 1; }'
    reference = SchemaReference("point.proto", f"{unique}-point", 1)
    number = client.register_schema(unique, Schema(text, "PROTOBUF", [reference]))
    schema = RegistryClient(Registry(url=registry.url), "protobuf").schema(number)
    assert reader_of("protobuf")(schema)(b"\0\x0a\x09\x09" + bytes(6) + b"\x04\x40") == {"at": {"value": 2.5}}


def test_behind_tls_it_is_asked_with_the_workers_certificate(
    registry: Apicurio, client: SchemaRegistryClient, unique: str, tmp_path: Path
) -> None:
    make_certificates(tmp_path)
    number = client.register_schema(unique, Schema('"double"', "AVRO"))
    named = {"ssl_cafile": "ca.pem", "ssl_certfile": "client.pem", "ssl_keyfile": "client.key"}
    files = {name: str(tmp_path / file) for name, file in named.items()}
    address = urlsplit(registry.url)
    with tls_front(tmp_path, "good", address.port or 0, clients_signed_by="ca") as port:
        asks = RegistryClient(Registry(url=f"https://127.0.0.1:{port}{address.path}", **files), "avro")
        asks.verify()
        assert json.loads(asks.schema(number).definition) == "double"


def test_a_registry_that_is_killed_costs_no_event(
    bootstrap: str, unique: str, tmp_path: Path, registry: Apicurio, client: SchemaRegistryClient
) -> None:
    sections: dict[str, Any] = {"events": {"format": "avro"}, "registry": {"url": registry.url}}
    with (
        Cluster(bootstrap, unique, tmp_path, 2, fine_tune={"enabled": False}, **sections) as cluster,
        FastProducer(cluster.connection) as producer,
        TopicReader(cluster.connection, cluster.topics.output, {0: 0, 1: 0}) as forecasts,
    ):
        topic = cluster.topics.input
        first = avro(client, topic)
        newer = avro(client, topic, ({"name": "unit", "type": "string", "default": "C"},))
        kept = newer("s0", 0, 0.0)  # registers it; no worker has seen it yet
        reader, sent = Reader(cluster), 0

        def send(serialize: Serialize, partition: int, number: int) -> None:
            nonlocal sent
            for _ in range(number):
                sent += 1
                producer.send(topic, partition, None, serialize(f"s{partition}", sent, 1.0))
            producer.flush()

        worker = cluster.worker("one")
        cluster.wait_until_live()
        send(first, 0, 20), send(first, 1, 20)
        reader.until(forecasts, f"{topic}-0-19", f"{topic}-1-19")
        registry.kill()
        try:
            send(newer, 0, 20), send(first, 1, 20)
            reader.until(forecasts, f"{topic}-1-39")  # what is known needs no registry
            cluster.wait_for(lambda: "does not answer" in cluster.logs(), "the worker says so")
            assert f"{topic}-0-20" not in reader.ids
            worker.kill()
            worker.start()
            send(first, 0, 10)
        finally:
            registry.start()
        reader.until(forecasts, f"{topic}-0-49")
        cluster.wait_until_live()
        cluster.stop()
        assert cluster.read(cluster.topics.dead_letters) == []
    assert kept[:5] != first("s0", 0, 0.0)[:5]
    assert reader.ids == Counter([*(f"{topic}-0-{n}" for n in range(50)), *(f"{topic}-1-{n}" for n in range(40))])
