"""The envelopes of docs/messages.md: their settings load, their messages decode to the events that are shown."""

import pytest

from pipeline.decoding.times import from_iso
from pipeline.events import Decoder
from tests.rigs.documented import ENVELOPES, SENT_MS, Shown, envelopes
from worker.plan import format_of
from worker.settings.sources import load


def decoder(name: str) -> Decoder:
    return Decoder(format_of(load(ENVELOPES / f"{name}.toml", {})))


def test_every_envelope_is_shown() -> None:
    assert {shown.name for shown in envelopes()} == {path.stem for path in ENVELOPES.glob("*.toml")}


@pytest.mark.parametrize("shown", envelopes(), ids=lambda shown: shown.name)
def test_an_envelope_decodes_to_the_events_that_are_shown(shown: Shown) -> None:
    batch, rejected = decoder(shown.name).decode([0], [SENT_MS], [shown.key], [shown.body])
    assert not rejected
    found = list(zip(batch.name, batch.time_ms.tolist(), batch.value.tolist(), strict=True))
    assert found == [(stream, from_iso(time), value) for stream, time, value in shown.events]


@pytest.mark.parametrize(
    ("name", "body", "outcome"),
    [
        ("debezium", b'{"payload":{"before":{"sensor_id":1},"after":null,"op":"d"}}', "missing"),
        ("debezium", None, "empty"),
        ("home_assistant", b'{"entity_id":"sensor.x","state":"unavailable"}', "sentinel"),
        ("home_assistant", b'{"entity_id":"light.x","state":"on"}', "wrong_type"),
        ("aws_iot", b'{"state":{"reported":{"temperature":-127}}}', "sentinel"),
        ("aws_iot", b'{"state":{"desired":{"temperature":20}}}', "no_value"),
        ("telegraf", b'{"fields":{"usage_user":101},"tags":{"host":"a"}}', "out_of_range"),
        ("trades", b'{"data":{"s":"X","p":"0"}}', "out_of_range"),
        ("trades", b'{"result":null,"id":1}', "no_value"),
    ],
)
def test_what_else_such_topics_hold_has_a_name(name: str, body: bytes | None, outcome: str) -> None:
    batch, rejected = decoder(name).decode([0], [SENT_MS], [b"key"], [body])
    drops = ["missing" if not drop else ("sentinel", "outside_range")[drop - 4] for drop in batch.drop.tolist()]
    assert [one.reason for one in rejected] + drops == [outcome]
