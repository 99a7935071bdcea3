"""The registry's client: what makes a schema unknown, and what is a registry that is away."""

import base64
import re
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.decoding.schemas import Schema, SchemasAway, StillAsking, UnknownSchema
from pipeline.events import Format
from pipeline.framed import FramedDecoder
from tests.rigs.clock import Clock
from tests.rigs.registry import FakeRegistry, fake_registry
from tests.rigs.schemas import framed
from worker.broker.contract import BrokerError
from worker.check import findings, verify
from worker.plan import Plan
from worker.refusal import Refusal
from worker.registry.client import MOST_ASKING_S, MOST_BYTES, RegistryClient
from worker.registry.decoder import with_registry
from worker.registry.protoc import compiled
from worker.registry.readers import reader_of
from worker.settings.registry import Registry
from worker.settings.sources import load


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        yield registry


def client(registry: FakeRegistry, form: str = "avro", **settings: Any) -> RegistryClient:
    return RegistryClient(Registry(url=registry.url, **settings), form)


def test_a_schema_comes_behind_all_that_it_refers_to(registry: FakeRegistry) -> None:
    def names(*others: str) -> list[dict[str, Any]]:
        return [{"name": other, "subject": f"of/{other}", "version": 3} for other in others]

    registry.answers |= {
        "/schemas/ids/7": (200, {"schema": "main", "references": names("a", "b")}),
        "/subjects/of%2Fa/versions/3": (200, {"schema": "A", "references": names("b")}),
        "/subjects/of%2Fb/versions/3": (200, {"schema": "B", "references": None}),
    }
    assert client(registry).schema(7) == Schema("main", (("b", "B"), ("a", "A")))
    registry.answers["/subjects/of%2Fb/versions/3"] = 200, {"schema": "B", "references": names("a")}
    with pytest.raises(ValueError, match="circle"):
        client(registry).schema(7)
    registry.answers["/subjects/of%2Fb/versions/3"] = 404, {"error_code": 40401, "message": "Subject not found"}
    with pytest.raises(SchemasAway, match="schema 7: 404 Subject not found"):
        client(registry).schema(7)


def unknown(asks: RegistryClient, number: int, clock: Clock) -> None:
    """Ask for a schema that is not there until that is believed."""
    with pytest.raises(SchemasAway, match=f"does not know schema {number}: .*; it is asked again"):
        asks.schema(number)
    clock.now += 1.1
    with pytest.raises(UnknownSchema, match=f"does not know schema {number}"):
        asks.schema(number)


def test_the_registrys_own_word_makes_a_schema_unknown_the_second_time(registry: FakeRegistry, clock: Clock) -> None:
    asks = client(registry)
    unknown(asks, 7, clock)
    with pytest.raises(UnknownSchema):
        asks.schema(8)  # for a while others are believed at once
    registry.answers["/schemas/ids/7"] = 200, {"schema": '"long"'}
    with pytest.raises(UnknownSchema):
        asks.schema(7)
    assert len(registry.asked) == 3, "a moment later nobody asks again"
    clock.now += 1.1
    assert asks.schema(7) == Schema('"long"')
    clock.now += 60
    unknown(asks, 9, clock)


def test_a_schema_that_a_follower_learns_of_late_is_found(registry: FakeRegistry, clock: Clock) -> None:
    asks = client(registry)
    for _ in range(3):
        with pytest.raises(SchemasAway):
            asks.schema(7)
    registry.answers["/schemas/ids/7"] = 200, {"schema": '"long"'}
    clock.now += 1.1
    assert asks.schema(7) == Schema('"long"')


def test_one_that_is_alone_asks_once(registry: FakeRegistry) -> None:
    with pytest.raises(UnknownSchema):
        RegistryClient(Registry(url=registry.url), "avro", alone=True).schema(7)


class Slow(dict[str, Any]):
    """Answers that take 50 ms each."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def get(self, path: str, default: Any = None) -> Any:
        self.clock.now += 0.05
        return super().get(path, default)


@pytest.mark.parametrize("alone", [True, False])
def test_very_many_unknown_schemas_hold_up_nobody_for_long_and_end(
    registry: FakeRegistry, clock: Clock, alone: bool
) -> None:
    registry.answers = Slow(clock)
    decoder = FramedDecoder(Format(), RegistryClient(Registry(url=registry.url), "avro", alone), reader_of("avro"))
    many, longest = 300, 0.0
    batch = range(many), [1] * many, [None] * many, [framed(number, b"x") for number in range(many)]
    kinds: list[type] = []
    while len(kinds) < 99:
        began = clock.now
        try:
            _, rejected = decoder.decode(*batch)
            break
        except SchemasAway as away:
            kinds.append(type(away))
        longest = max(longest, clock.now - began)
        clock.now += 1.1
    else:
        pytest.fail(f"no end after {len(kinds)} calls")
    assert {each.reason for each in rejected} == {"unknown_schema"}
    assert len(registry.asked) == many + (not alone), "what was found is kept"
    assert kinds == ([] if alone else [SchemasAway, *[StillAsking] * 4])
    assert longest < MOST_ASKING_S + 0.1


def test_an_exception_holds_no_batch(registry: FakeRegistry, clock: Clock) -> None:
    asks = client(registry)
    unknown(asks, 7, clock)
    registry.answers["/schemas/ids/8"] = 503, b""
    for number, kind in ((7, UnknownSchema), (8, SchemasAway)):
        errors = []
        for _ in range(3):
            with pytest.raises(kind) as error:
                asks.schema(number)
            errors.append(error.value)
        assert len({*map(id, errors)}) == 3
        assert len({str(error) for error in errors}) == 1


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((404, b"<html>"), "404 Not Found.* begins$"),
        ((404, {"message": "no such page"}), "no such page"),
        ((500, {"error_code": 50001, "message": "store"}), "500 store"),
        ((503, b""), "503"),
        ((401, {"message": "who"}), "401 who.*registry.username"),
        ((403, {"error_code": 40301}), "403.*registry.token"),
        ((302, b""), "302"),
        ((200, b"<html>"), "no JSON"),
        ((200, [1]), "no schemaType"),
        ((200, {}), "no schema in"),
        ((200, {"schema": 3}), "no schema in"),
        ((200, {"schema": "x", "references": [{}]}), "no name"),
        ((200, b" " * (MOST_BYTES + 1)), "larger"),
        ((200, b"[" * 100_000), "no JSON"),
    ],
)
def test_any_other_answer_is_a_registry_that_is_away(registry: FakeRegistry, answer: Any, why: str) -> None:
    registry.answers["/schemas/ids/7"] = answer
    with pytest.raises(SchemasAway) as error:
        client(registry).schema(7)
    assert registry.url in str(error.value)
    assert re.search(why, f"{error.value}; {error.value.fix}"), error.value


def test_one_that_does_not_answer_is_not_asked_by_each_partition(registry: FakeRegistry, clock: Clock) -> None:
    asks = client(registry)
    registry.answers["/schemas/ids/7"] = 503, b""
    for number in (7, 8, 7):
        with pytest.raises(SchemasAway):
            asks.schema(number)
    assert len(registry.asked) == 1
    clock.now += 1.1
    registry.answers["/schemas/ids/7"] = 200, {"schema": '"long"', "schemaType": "AVRO"}
    assert asks.schema(7) == Schema('"long"')


def test_nobody_there_is_a_sentence_with_the_address() -> None:
    with fake_registry() as gone:
        url = gone.url
    with pytest.raises(SchemasAway, match=rf"at {url} does not answer: .*refused"):
        RegistryClient(Registry(url=url), "avro").verify()


def test_it_logs_in_and_shows_no_secret(registry: FakeRegistry) -> None:
    registry.answers["/schemas/types"] = 403, {"message": "no"}
    for log_in, header in (
        ({"username": "me", "password": "hidden-1"}, f"Basic {base64.b64encode(b'me:hidden-1').decode()}"),
        ({"token": "hidden-2"}, "Bearer hidden-2"),
    ):
        with pytest.raises(SchemasAway) as error:
            client(registry, **log_in).verify()
        assert registry.asked[-1] == ("/schemas/types", header)
        assert "hidden" not in f"{error.value}{error.value.fix}{Registry(url=registry.url, **log_in)!r}"


def test_what_answers_may_be_no_registry(registry: FakeRegistry) -> None:
    client(registry).verify()
    registry.answers["/schemas/types"] = 200, {"hello": 1}
    with pytest.raises(SchemasAway, match="is no schema registry"):
        client(registry).verify()


def test_a_schema_of_another_kind_is_named(registry: FakeRegistry) -> None:
    registry.answers["/schemas/ids/7"] = 200, {"schema": "{}", "schemaType": "JSON"}
    with pytest.raises(ValueError, match=r"it is JSON, and events\.format is for AVRO"):
        client(registry).schema(7)


def test_protobuf_comes_serialized_or_as_text(registry: FakeRegistry) -> None:
    point = 'syntax = "proto3"; message Point { double at = 1; }'
    main = 'syntax = "proto3"; import "p.proto"; message R { Point value = 1; }'
    references = [{"name": "p.proto", "subject": "p", "version": 1}]
    data = compiled("p.proto", point, {})
    text = {"schema": main, "schemaType": "PROTOBUF", "references": references}
    registry.answers["/schemas/ids/7?format=serialized"] = 200, text
    found = []
    for schema in (point, base64.b64encode(data).decode()):
        registry.answers["/subjects/p/versions/1?format=serialized"] = 200, {"schema": schema}
        found.append(client(registry, "protobuf").schema(7))
    assert found[0] == found[1]
    assert found[0].references == (("p.proto", data),)
    registry.answers["/subjects/p/versions/1?format=serialized"] = 200, {"schema": "////"}
    with pytest.raises(ValueError, match="imports is no schema"):
        client(registry, "protobuf").schema(7)
    registry.answers["/subjects/p/versions/1?format=serialized"] = 200, {"schema": "message {"}
    with pytest.raises(ValueError, match=r"protoc: p\.proto:1"):
        client(registry, "protobuf").schema(7)


def test_certificates_that_are_not_there_are_a_sentence() -> None:
    with pytest.raises(Refusal, match="certificates cannot be read"):
        RegistryClient(Registry(url="https://127.0.0.1:1", ssl_cafile="/nowhere"), "avro")


def test_check_and_start_up_name_one_that_is_away(registry: FakeRegistry) -> None:
    settings = load(None, {}, events={"format": "avro"}, registry={"url": registry.url})
    registry.answers["/schemas/types"] = 503, b""
    found = findings(settings)
    assert next(found).ok
    second = next(found)
    assert (second.check, second.ok) == ("registry", False)
    assert registry.url in second.says
    plan, asks = with_registry(Plan.of(settings), settings)
    with pytest.raises(BrokerError, match=f"{registry.url} answers /schemas/types with 503"):
        verify(settings, plan, asks)
