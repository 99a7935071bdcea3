"""Where settings come from, and the one sentence that says what is wrong with them.

The first source that has a setting wins: what the caller gives, environment variables, secret files, the TOML file,
the default. A table (`kafka.client_options`) is put together from all of them.
"""

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import get_args, get_origin

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from worker.forecast_section import Model
from worker.learning_section import FineTune
from worker.sections import Events, Http, Kafka, Log, Section, Worker

PREFIX = "FOLDCAST_"
CONFIG, SECRETS_DIR = "FOLDCAST_CONFIG", "FOLDCAST_SECRETS_DIR"
DEFAULT_SECRETS_DIR = Path("/run/secrets")
# Kubernetes gives every pod such variables for a Service called foldcast or foldcast-something
SERVICE_LINK = re.compile(r"FOLDCAST_(\w+_)?(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP|SCTP)\w*)")
SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")

Layer = dict[str, tuple[object, str]]  # by "section.name": the value, and the words that say where it stands


class SettingsError(Exception):
    """One sentence: which setting, what is wrong with it, and what to do."""


class Settings(BaseSettings):
    """All settings of one process. The constructor knows only what it is given; `load` reads the sources."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kafka: Kafka = Field(default_factory=Kafka)
    events: Events = Field(default_factory=Events)
    model: Model = Field(default_factory=Model)
    fine_tune: FineTune = Field(default_factory=FineTune)
    worker: Worker = Field(default_factory=Worker)
    http: Http = Field(default_factory=Http)
    log: Log = Field(default_factory=Log)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings passes all of them by name
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the arguments: tests and tools must not depend on the environment."""
        return (init_settings,)

    def meaning(self) -> dict[str, object]:
        """What gives the state its meaning, as JSON would have it: state made under other values is another state."""
        whole = self.model_dump(mode="json", include=MEANING)
        return {f"{section}.{name}": value for section, table in whole.items() for name, value in table.items()}


MEANING = {
    "events": {name for name in Events.model_fields if not name.startswith("max_dead_")},
    "model": Model.model_fields.keys() - {"checkpoint", "seed"},  # they give the first weights, which the state holds
    "fine_tune": {"window"},
    "worker": {"stream_ttl_s"},
}
SECTIONS: dict[str, type[Section]] = {
    "kafka": Kafka, "events": Events, "model": Model, "fine_tune": FineTune, "worker": Worker, "http": Http, "log": Log,
}  # fmt: skip
NAMES = [f"{section}.{name}" for section, fields in SECTIONS.items() for name in fields.model_fields]


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
        sources = tuple(InitSettingsSource(Settings, _nested(layer)) for layer in layers)
        return Settings(_build_sources=(sources, {}))  # type: ignore[call-arg]
    except ValidationError as error:
        where = {key: words for layer in reversed(layers) for key, (_, words) in layer.items()}
        raise SettingsError(_sentence(error.errors(include_url=False)[0], where)) from None


# ---- sources


def _is_ours(name: str, value: str) -> bool:
    """An empty variable is one that is not set, as compose files write it."""
    name = name.upper()
    linked = SERVICE_LINK.fullmatch(name) or (name.endswith("_PORT") and SERVICE_ADDRESS.match(value))
    return name.startswith(PREFIX) and name not in (CONFIG, SECRETS_DIR) and value != "" and not linked


def _secret_files(environ: Mapping[str, str]) -> list[tuple[str, str, str]]:
    named = environ.get(SECRETS_DIR)
    folder = Path(named) if named else DEFAULT_SECRETS_DIR
    if named and not folder.is_dir():
        raise SettingsError(f"{SECRETS_DIR} is {named!r}, which is no directory: name the one with the secret files")
    if not folder.is_dir():
        return []
    try:
        files = [p for p in sorted(folder.iterdir()) if p.name.upper().startswith(PREFIX) and p.is_file()]
    except OSError as error:
        raise SettingsError(f"{folder} cannot be listed ({error.strerror}): mend that, or set {SECRETS_DIR}") from None
    return [(f"secret file {p}", p.name, _read(p).rstrip("\r\n")) for p in files]


def _named(texts: Iterable[tuple[str, str, str]]) -> Layer:
    """From (where, FOLDCAST_SECTION__NAME, text)."""
    found: Layer = {}
    for where, name, text in texts:
        key = name.upper().removeprefix(PREFIX).lower().replace("__", ".", 1)
        if key not in NAMES:
            instead = _instead(key, NAMES, lambda name: PREFIX + name.upper().replace(".", "__"))
            raise SettingsError(f"{where} is no setting: {instead}")
        found[key] = _value(key, text, where), where
    return found


def _value(key: str, text: str, where: str) -> object:
    """Lists and tables are written as JSON where there is only text."""
    section, name = key.split(".")
    kind = get_origin(SECTIONS[section].model_fields[name].annotation)
    if kind not in (tuple, dict):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        example = '["a", "b"] or [1, 2]' if kind is tuple else '{"name": 1}'
        raise SettingsError(f"{key} ({where}) is no JSON: write it like {example}") from None


def _toml(path: Path) -> Layer:
    try:
        tables = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        raise SettingsError(f"{path} is not TOML: {message[:1].lower()}{message[1:]}; correct it there") from None
    return _tables(tables, f"in {path}")


def _tables(tables: Mapping[str, object], where: str) -> Layer:
    found: Layer = {}
    for section, table in tables.items():
        if section not in SECTIONS:
            raise SettingsError(f"[{section}] ({where}) is no section: {_instead(section, SECTIONS, '[{}]'.format)}")
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


def _nested(layer: Layer) -> dict[str, object]:
    tables: dict[str, dict[str, object]] = {}
    for key, (value, _) in layer.items():
        section, _, name = key.partition(".")
        tables.setdefault(section, {})[name] = value
    return dict(tables)


# ---- sentences


def _sentence(error: ErrorDetails, where: Mapping[str, str]) -> str:
    message = str(error["ctx"]["error"]) if error["type"] == "value_error" else _plain(error["msg"])
    section, *rest = map(str, error["loc"])
    if not rest:  # settings that contradict each other, named in the message
        given = next((name for name in re.findall(r"\w+\.\w+", message) if name in where), "")
        return message.replace(given, f"{given} ({where[given]})", 1) if given else message
    key = f"{section}.{rest[0]}"
    standing = f"{key} ({where.get(key, 'the default')})"
    if error["type"] == "extra_forbidden":
        twins = [name for name in NAMES if name.endswith(f".{rest[0]}")]
        return f"{standing} is no setting: {_instead(twins[0] if twins else key, NAMES, str)}"
    if not SECTIONS[section].model_fields[rest[0]].repr:
        return f"{standing} cannot be used: {message}"
    verb = "is" if len(rest) == 1 else "holds"
    value = repr(error["input"])
    return f"{standing} {verb} {value if len(value) < 80 else value[:77] + '...'}: {message}"


def _plain(message: str) -> str:
    """Pydantic's words in ours."""
    message = re.sub(r"^\w+ should", "it should", message).partition(", unable to parse")[0]
    return message.replace("valid tuple", "list").replace("valid dictionary", "table")


def _instead(name: str, known: Iterable[str], written: Callable[[str], str]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.75)
    return f"did you mean {written(close[0])}?" if close else "leave it out; docs/settings.md lists all there are"


# ---- reference


def reference() -> str:
    """All settings as Markdown, the text of docs/settings.md."""
    parts = [REFERENCE_HEAD]
    for section, fields in SECTIONS.items():
        parts.append(f"\n## [{section}]\n\n{fields.__doc__}\n\n| name | default | meaning |\n|---|---|---|\n")
        parts += [f"| `{n}` | {_default(f)} | {_meaning(f)} |\n" for n, f in fields.model_fields.items()]
    return "".join(parts)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return f"`{field.examples[0]}`" if field.examples else ""
    if field.default is None:
        return "none"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{value}`"


def _meaning(field: FieldInfo) -> str:
    words = [a for kind in (field.annotation, *get_args(field.annotation)) for a in get_args(kind)]
    choices = dict.fromkeys(f"`{w}`" for w in words if isinstance(w, str))
    return f"{field.description}" + (f": {', '.join(choices)}" if choices else "")


REFERENCE_HEAD = f"""# Settings

They stand in one TOML file (`--config FILE`, or `{CONFIG}`); the defaults run the demo. A setting may also be an
environment variable `{PREFIX}SECTION__NAME`, or a file of that name (small letters will do) in the directory that
`{SECRETS_DIR}` names, `{DEFAULT_SECRETS_DIR}` where there is one: the place for passwords. Lists and tables are
written there as JSON. The environment wins over such files, and these over the TOML file. An empty variable counts as
not set. A name nobody knows, a value out of range and two settings that contradict each other stop the program with
one sentence.
"""
