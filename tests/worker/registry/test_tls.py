"""TLS to the registry: right certificates are used, and each wrong one is a sentence that names setting and fix."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.decoding.schemas import SchemasAway
from tests.rigs.registry import fake_registry
from tests.rigs.secured_kafka import KEY_PASSWORD, WRONG_PASSWORD, make_certificates
from tests.rigs.tls_front import tls_front
from worker.check import findings
from worker.refusal import Refusal
from worker.registry.client import RegistryClient
from worker.settings.registry import Registry
from worker.settings.sources import load

LOG_IN = {"username": "me", "password": "registry-secret-31"}
CA = {"ssl_cafile": "ca.pem"}
CLIENT = {**CA, "ssl_certfile": "client.pem", "ssl_keyfile": "client.key"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = tmp_path_factory.mktemp("certificates")
    make_certificates(files)
    return files


@pytest.fixture(scope="module")
def target() -> Iterator[int]:
    """The port of a registry that speaks no TLS."""
    with fake_registry() as registry:
        yield int(registry.url.rpartition(":")[2])


def settings(files: Path, port: int, given: dict[str, Any]) -> dict[str, Any]:
    named = {name: str(files / value) if name.endswith("file") else value for name, value in given.items()}
    return {"url": f"https://127.0.0.1:{port}", **LOG_IN, **named}


RIGHT = {
    "the signer's certificate": (None, CA),
    "the worker's certificate": ("ca", CLIENT),
    "both in one file": ("ca", {**CA, "ssl_certfile": "client.both.pem"}),
    "a locked key": ("ca", {**CLIENT, "ssl_keyfile": "client.locked.key", "ssl_password": KEY_PASSWORD}),
}


@pytest.mark.parametrize(("wanted", "given"), RIGHT.values(), ids=RIGHT)
def test_right_certificates_open_the_way(files: Path, target: int, wanted: str | None, given: dict[str, Any]) -> None:
    with tls_front(files, "good", target, wanted) as port:
        RegistryClient(Registry(**settings(files, port, given)), "avro").verify()


WRONG = {
    "no CA": ("good", None, {}, "registry.ssl_cafile is not set, and this system does not trust .*: name a PEM file"),
    "wrong CA": (
        "good",
        None,
        {"ssl_cafile": "other.pem"},
        r"registry.ssl_cafile .*other.pem does not hold who signed .*: put the signer's there",
    ),
    "expired": ("expired", None, CA, "certificate has expired: renew it there, or set this machine's clock"),
    "wrong host name": ("othername", None, CA, "write a name that .* holds into registry.url, or have one made"),
    "no client certificate": ("good", "ca", CA, "registry.ssl_certfile is not set, and .* asks for .*: set it"),
    "a stranger's": (
        "good",
        "ca",
        {**CA, "ssl_certfile": "stranger.pem", "ssl_keyfile": "stranger.key"},
        "refuses registry.ssl_certfile .*stranger.pem: use a certificate that it trusts",
    ),
}


@pytest.mark.parametrize(("certificate", "wanted", "given", "fix"), WRONG.values(), ids=WRONG)
def test_each_wrong_certificate_is_a_sentence_and_shows_no_password(
    files: Path, target: int, certificate: str, wanted: str | None, given: dict[str, Any], fix: str
) -> None:
    with tls_front(files, certificate, target, wanted) as port:
        registry = settings(files, port, given)
        with pytest.raises(SchemasAway, match=f"at https://127.0.0.1:{port} does not answer: ") as error:
            RegistryClient(Registry(**registry), "avro").verify()
        found = findings(load(None, {}, events={"format": "avro"}, registry=registry))
        assert next(found).ok
        told = next(found)
    assert re.search(fix, error.value.fix), error.value.fix
    assert (told.check, told.ok, told.says) == ("registry", False, f"{error.value}; {error.value.fix}")
    assert LOG_IN["password"] not in f"{error.value!r} {told}"


def test_https_to_a_port_without_tls_is_named(files: Path, target: int) -> None:
    with pytest.raises(SchemasAway) as error:
        RegistryClient(Registry(**settings(files, target, CA)), "avro").verify()
    assert error.value.fix == (
        "registry.url is https, and what answers there does not speak TLS: write http, or name another port"
    )


LOCKED = {**CLIENT, "ssl_keyfile": "client.locked.key"}


@pytest.mark.parametrize("given", [LOCKED, {**LOCKED, "ssl_password": WRONG_PASSWORD}, {"ssl_cafile": "junk.pem"}])
def test_files_that_cannot_be_used_are_refused_before_anybody_is_asked(files: Path, given: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match=r"certificates cannot be read .*: correct registry\.ssl_cafile") as error:
        RegistryClient(Registry(**settings(files, 1, given)), "avro")
    assert WRONG_PASSWORD not in str(error.value)
