"""Schemas out of a registry with Confluent's API, asked for by their ids."""

import base64
import binascii
import json
import math
import time
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from pipeline.decoding.schemas import MAIN, Schema, SchemasAway, StillAsking, UnknownSchema
from worker.registry.protoc import compiled
from worker.registry.tls import context_of, fix_for
from worker.settings.registry import Registry

KINDS = {"avro": "AVRO", "protobuf": "PROTOBUF", "json_schema": "JSON"}  # by events.format, as a registry calls them
NOT_FOUND = (40401, 40402, 40403)  # subject, version, schema
MOST_BYTES = 4 << 20  # of an answer
MOST_REFERENCES = 100
REST_S = 1.0  # so long nobody asks again for what was not there or not answered
MOST_UNKNOWN = 1000
BELIEVED_S = 60.0  # after an unknown schema: so that many of them do not hold up the others
MOST_ASKING_S = 3.0  # then all rest, so that the worker goes on with what needs no schema

_Verdict = Callable[[], UnknownSchema | SchemasAway]  # a new exception each time: a raised one holds what was at hand


class RegistryClient:
    """Asks for schemas, one request at a time, and remembers none but those that were not there a moment ago."""

    def __init__(self, settings: Registry, form: str, alone: bool = False) -> None:
        """`alone`: no others wait for it, so it asks for as long as it takes, and believes the first answer.

        Raises Refusal where certificates cannot be read.
        """
        assert settings.url is not None, "settings are checked"
        self.url = settings.url.rstrip("/")
        self._kind, self._timeout_s = KINDS[form], settings.timeout_s
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if settings.username is not None and settings.password is not None:
            pair = f"{settings.username}:{settings.password.get_secret_value()}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        if settings.token is not None:
            self._headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
        self._settings = settings
        self._opener = build_opener(HTTPSHandler(context=context_of(settings)), _NoRedirect())
        self._away: tuple[float, _Verdict] | None = None
        self._unknown: dict[int, tuple[float, _Verdict]] = {}
        self._believed_until = math.inf if alone else 0.0
        self._most_asking_s = math.inf if alone else MOST_ASKING_S
        self._asking_s = 0.0  # since all rested

    def verify(self) -> None:
        """Ask for nothing in particular. Raises SchemasAway where no registry answers."""
        if not isinstance(self._ask("/schemas/types"), list):
            raise self._no_registry("the answer is no list of schema types")

    def schema(self, number: int) -> Schema:
        """Return a schema with all that it refers to. Raises UnknownSchema, SchemasAway, ValueError."""
        began = time.monotonic()
        until, verdict = self._unknown.get(number, (0.0, None))
        if verdict is not None and began < until:
            raise verdict()
        if self._asking_s > self._most_asking_s and self._away is None:
            why = f"the schema registry at {self.url} is still being asked: records name many schemas, or it is slow"
            self._away = began + REST_S, partial(StillAsking, why, "see who sends so many ids")
            self._asking_s = 0.0
        try:
            return self._asked(number)
        finally:
            self._asking_s += time.monotonic() - began

    def _asked(self, number: int) -> Schema:
        form = "?format=serialized" if self._kind == KINDS["protobuf"] else ""
        try:
            answer = self._ask(f"/schemas/ids/{number}{form}")
            kind = self._checked(answer, "schemaType", str, "AVRO")
            if kind != self._kind:
                raise ValueError(f"it is {kind}, and events.format is for {self._kind}")
            found: dict[str, str | bytes] = {}
            definition = self._definition(MAIN, answer, form, found, ())
            self._unknown.pop(number, None)
            return Schema(definition, tuple(found.items()))
        except UnknownSchema as error:
            why = f"the registry at {self.url} does not know schema {number}: {error}"
            raise self._doubted(number, why)() from None

    def _doubted(self, number: int, why: str) -> _Verdict:
        """Return what an unknown schema is: the first for a while is asked for twice.

        A registry that follows another learns of a new schema a moment after the one who registered it.
        """
        now = time.monotonic()
        if len(self._unknown) >= MOST_UNKNOWN:
            self._unknown.clear()
        verdict: _Verdict = partial(UnknownSchema, why)
        if number in self._unknown or now < self._believed_until:
            self._believed_until = max(self._believed_until, now + BELIEVED_S)
        else:
            verdict = partial(SchemasAway, f"{why}; it is asked again", "register that schema")
        self._unknown[number] = now + REST_S, verdict
        return verdict

    def _definition(
        self, name: str, answer: Any, form: str, found: dict[str, str | bytes], inside: tuple[str, ...]
    ) -> str | bytes:
        """Return an answer's schema; what it refers to is added to `found` before."""
        for reference in self._checked(answer, "references", list, None) or ():
            other, subject = self._checked(reference, "name", str), self._checked(reference, "subject", str)
            version = self._checked(reference, "version", int)
            if other in found:
                continue
            if other in inside or len(found) >= MOST_REFERENCES:
                raise ValueError(f"its references are a circle, or more than {MOST_REFERENCES}")
            below = self._ask(f"/subjects/{quote(subject, safe='')}/versions/{version}{form}")
            found[other] = self._definition(other, below, form, found, (*inside, other))
        text: str = self._checked(answer, "schema", str)
        if self._kind != KINDS["protobuf"]:
            return text
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:  # a registry that does not serialize
            return compiled(name, text, {other: data for other, data in found.items() if isinstance(data, bytes)})

    def _checked(self, answer: Any, name: str, kind: type, absent: object = ...) -> Any:
        value = answer.get(name, absent) if isinstance(answer, dict) else ...
        if value is ... or not (isinstance(value, kind) or value is absent):
            raise self._no_registry(f"there is no {name} in an answer")
        return value

    def _ask(self, path: str) -> Any:
        """Return an answer. Raises UnknownSchema, SchemasAway."""
        if self._away is not None and time.monotonic() < self._away[0]:
            raise self._away[1]()
        self._away = None
        try:
            return self._answer(path)
        except SchemasAway as error:
            self._away = time.monotonic() + REST_S, partial(SchemasAway, str(error), error.fix)
            raise

    def _answer(self, path: str) -> Any:
        request = Request(self.url + path, headers=self._headers)  # noqa: S310 - settings take http and https alone
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                data = response.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                raise self._no_registry(f"an answer is larger than {MOST_BYTES:,} bytes")
            return json.loads(data)
        except HTTPError as error:
            raise self._meaning(error, path) from None
        except (OSError, HTTPException) as error:
            cause = error.reason if isinstance(error, URLError) else error
            fix = fix_for(cause, self._settings) if isinstance(cause, OSError) else None
            why, fix = str(cause) or type(error).__name__, fix or "start it, or correct registry.url and the way there"
            raise SchemasAway(f"the schema registry at {self.url} does not answer: {why}", fix) from None
        except (ValueError, RecursionError):
            raise self._no_registry("an answer is no JSON") from None

    def _meaning(self, error: HTTPError, path: str) -> Exception:
        """Return what a refusal means: only the registry's own word for it makes a schema unknown."""
        try:
            told = json.loads(error.read(MOST_BYTES))
        except (OSError, HTTPException, ValueError, RecursionError):
            told = None
        told = told if isinstance(told, dict) else {}
        why = f"{error.code} {told.get('message') or error.reason}"
        if error.code == 404 and told.get("error_code") in NOT_FOUND:
            return UnknownSchema(why)
        where = f"the schema registry at {self.url} answers {path} with {why}"
        if error.code in (401, 403):
            return SchemasAway(
                where, "set registry.username and registry.password, or registry.token, of one who may read"
            )
        if error.code < 500 and error.code != 429:
            return SchemasAway(where, "see that registry.url is where the API of Confluent's form begins")
        return SchemasAway(where, "see what ails the registry")

    def _no_registry(self, why: str) -> SchemasAway:
        fix = "see that registry.url is where the API of Confluent's form begins"
        return SchemasAway(f"what answers at {self.url} is no schema registry: {why}", fix)


class _NoRedirect(HTTPRedirectHandler):
    """Elsewhere the log-in would be sent to who knows whom."""

    def redirect_request(self, *_: Any) -> None:
        return None
