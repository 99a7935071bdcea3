"""Settings of messages in a registry's framing: what goes together, what is a secret, what the state remembers."""

from typing import Any

import pytest

from worker.plan import Plan
from worker.refusal import Refusal
from worker.registry.client import KINDS
from worker.registry.decoder import with_registry
from worker.settings.sentences import SettingsError
from worker.settings.settings import Settings
from worker.settings.sources import load

URL = "http://registry:8081"


@pytest.mark.parametrize(
    ("events", "registry", "sentence"),
    [
        ({"format": "avro"}, {}, "events.format .*is avro, and schemas are in a registry: set registry.url"),
        ({}, {"url": URL}, "registry.url .*does nothing while events.format .*is json"),
        ({"format": "xml"}, {}, "events.format"),
        ({"format": "avro"}, {"url": "registry:8081"}, "registry.url.*write http"),
        ({"format": "avro"}, {"url": "http://me:hidden@registry"}, "registry.url.*write http"),
        ({"format": "avro"}, {"url": "file:///etc/passwd"}, "registry.url.*write http"),
        ({"format": "avro"}, {"password": "hidden"}, "registry.password .*does nothing without registry.url"),
        ({"format": "avro"}, {"url": URL, "username": "me"}, "belong together"),
        ({"format": "avro"}, {"url": URL, "username": "m:e", "password": "hidden"}, "has a colon"),
        ({"format": "avro"}, {"url": URL, "username": "me", "password": "hidden", "token": "hidden"}, "both given"),
        ({"format": "avro"}, {"url": URL, "ssl_cafile": "ca.pem"}, "registry.ssl_cafile .*does nothing while"),
        ({"format": "avro"}, {"url": "https://r", "ssl_keyfile": "k.pem"}, "set registry.ssl_certfile"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(events: Any, registry: Any, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as refused:
        load(None, {}, events=events, registry=registry)
    assert "hidden" not in str(refused.value)


def test_state_of_plain_json_is_what_it_was_and_the_registry_is_no_part_of_any() -> None:
    assert "events.format" not in Settings().meaning()
    found = [load(None, {}, events={"format": form}, registry={"url": URL}).meaning() for form in KINDS]
    assert [meaning["events.format"] for meaning in found] == [*KINDS]
    assert URL not in str(found)


@pytest.mark.parametrize("form", KINDS)
def test_a_format_without_its_package_is_a_sentence(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    settings = load(None, {}, events={"format": form}, registry={"url": URL})
    plan = Plan.of(settings)
    assert with_registry(plan, settings)[1] is not None

    def lacking(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name="fastavro")

    monkeypatch.setattr("worker.registry.readers.import_module", lacking)
    sentence = (
        rf"^events.format is {form}, which needs fastavro, and it is not installed: pip install 'foldcast\[registry\]'$"
    )
    with pytest.raises(Refusal, match=sentence):
        with_registry(plan, settings)


def test_a_worker_of_plain_json_has_no_client() -> None:
    plan = Plan.of(Settings())
    assert with_registry(plan, Settings()) == (plan, None)
