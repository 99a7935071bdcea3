"""The sources of settings, and which of them wins.

The first source that has a setting wins: the caller, environment variables, secret files, the TOML file,
the default. A table (`kafka.client_options`) is put together from all of them.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import get_origin

from pydantic import ValidationError

from worker.settings.sentences import SettingsError, instead, sentence
from worker.settings.settings import NAMES, SECTIONS, Settings

PREFIX = "FOLDCAST_"
CONFIG, SECRETS_DIR = "FOLDCAST_CONFIG", "FOLDCAST_SECRETS_DIR"
DEFAULT_SECRETS_DIR = Path("/run/secrets")
# Kubernetes gives every pod such variables for a Service called foldcast or foldcast-something
SERVICE_LINK = re.compile(r"FOLDCAST_(\w+_)?(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP|SCTP)\w*)")
SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")

Layer = dict[str, tuple[object, str]]  # by "section.name": the value, and the words that say where it stands


def load(
    config: Path | None = None, environ: Mapping[str, str] = os.environ, **given: Mapping[str, object]
) -> Settings:
    """Settings from all sources; `given` are sections. Raises SettingsError with one sentence."""
    if config is None and environ.get(CONFIG):
        config = Path(environ[CONFIG])
    variables = [(f"environment variable {n}", n, v) for n, v in environ.items() if _is_ours(n, v)]
    layers = [_tables(given, "given by the caller"), _named(variables), _named(_secret_files(environ))]
    if config is not None:
        layers.append(_toml(config))
    try:
        return Settings.model_validate(_merged(layers))
    except ValidationError as error:
        where = {key: words for layer in reversed(layers) for key, (_, words) in layer.items()}
        raise SettingsError(sentence(error.errors(include_url=False)[0], where)) from None


def _is_ours(name: str, value: str) -> bool:
    """Whether a variable is a setting; an empty one counts as not set, as compose files write it."""
    name = name.upper()
    linked = SERVICE_LINK.fullmatch(name) or (name.endswith("_PORT") and SERVICE_ADDRESS.match(value))
    return name.startswith(PREFIX) and name not in (CONFIG, SECRETS_DIR) and value != "" and not linked


def _secret_files(environ: Mapping[str, str]) -> list[tuple[str, str, str]]:
    named = environ.get(SECRETS_DIR)
    folder = Path(named) if named else DEFAULT_SECRETS_DIR
    try:
        there = folder.is_dir()
        if named and not there:
            raise SettingsError(
                f"{SECRETS_DIR} is {named!r}, which is no directory: name the one with the secret files"
            )
        if not there:
            return []
        files = [p for p in sorted(folder.iterdir()) if p.name.upper().startswith(PREFIX) and p.is_file()]
    except OSError as error:
        raise SettingsError(f"{folder} cannot be listed ({error.strerror}): mend that, or set {SECRETS_DIR}") from None
    return [(f"secret file {p}", p.name, _read(p).rstrip("\r\n")) for p in files]


def _named(texts: Iterable[tuple[str, str, str]]) -> Layer:
    """Make a layer of triples (where, FOLDCAST_SECTION__NAME, text). Raises SettingsError."""
    found: Layer = {}
    for where, name, text in texts:
        key = name.upper().removeprefix(PREFIX).lower().replace("__", ".", 1)
        if key not in NAMES:
            meant = instead(key, NAMES, lambda name: PREFIX + name.upper().replace(".", "__"))
            raise SettingsError(f"{where} is no setting: {meant}")
        found[key] = _value(key, text, where), where
    return found


def _value(key: str, text: str, where: str) -> object:
    """Parse a list or a table, which is written as JSON where a source holds only text."""
    section, name = key.split(".")
    kind = get_origin(SECTIONS[section].model_fields[name].annotation)
    if kind not in (tuple, dict):
        return text
    example = '["a", "b"] or [1, 2]' if kind is tuple else '{"name": 1}'
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        fault = _too_much(error) or "is no JSON"
        raise SettingsError(f"{key} ({where}) {fault}: write it like {example}") from None


def _too_much(error: ValueError | RecursionError) -> str:
    """Return words for what a parser cannot take though it is well written; none where it is not."""
    if isinstance(error, RecursionError):
        return "holds too many brackets in brackets"
    badly_written = isinstance(error, (json.JSONDecodeError, tomllib.TOMLDecodeError))
    return "" if badly_written else "holds a number of too many digits"


def _toml(path: Path) -> Layer:
    try:
        tables = tomllib.loads(_read(path))
    except (ValueError, RecursionError) as error:
        message = str(error)
        fault = _too_much(error) or f"is not TOML: {message[:1].lower()}{message[1:]}"
        raise SettingsError(f"{path} {fault}; correct it there") from None
    return _tables(tables, f"in {path}")


def _tables(tables: Mapping[str, object], where: str) -> Layer:
    found: Layer = {}
    for section, table in tables.items():
        if section not in SECTIONS:
            raise SettingsError(f"[{section}] ({where}) is no section: {instead(section, SECTIONS, '[{}]'.format)}")
        if not isinstance(table, Mapping):
            raise SettingsError(f"{section} ({where}) is a section: write [{section}] and its settings below")
        for name, value in table.items():
            found[f"{section}.{name}"] = value, where
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"there is no settings file {path}: name another with --config or {CONFIG}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text: save it as such") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}): mend that or name another file") from None


def _merged(layers: Sequence[Layer]) -> dict[str, dict[str, object]]:
    """Merge layers into tables by section: the first layer with a setting wins, in a table each key by itself."""
    tables: dict[str, dict[str, object]] = {}
    for layer in reversed(layers):
        for key, (value, _) in layer.items():
            section, _, name = key.partition(".")
            table = tables.setdefault(section, {})
            before = table.get(name)
            table[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return tables
