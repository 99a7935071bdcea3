"""All settings of one process, by section.

Does not know where values come from, nor whether a file, a topic or a broker they name exists.
"""

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pipeline.decoding.paths import WHOLE, parts_of
from pipeline.decoding.schemas import JSON_FORMAT
from worker.settings.events import Events
from worker.settings.fine_tune import FineTune
from worker.settings.history import History
from worker.settings.http import Http
from worker.settings.kafka import Kafka
from worker.settings.log import Log
from worker.settings.model import Model
from worker.settings.output import Output
from worker.settings.registry import Registry
from worker.settings.section import Section
from worker.settings.worker import Worker


class Settings(BaseSettings):
    """All settings of one process. The constructor knows only its arguments; `load` reads the sources."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kafka: Kafka = Field(default_factory=Kafka)
    events: Events = Field(default_factory=Events)
    registry: Registry = Field(default_factory=Registry)
    model: Model = Field(default_factory=Model)
    fine_tune: FineTune = Field(default_factory=FineTune)
    output: Output = Field(default_factory=Output)
    worker: Worker = Field(default_factory=Worker)
    history: History = Field(default_factory=History)
    http: Http = Field(default_factory=Http)
    log: Log = Field(default_factory=Log)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.model.profile == "lite" and self.events.covariates:
            raise ValueError(
                "events.covariates are read by the linear experts alone, and model.profile is lite, which has none: "
                "make it full, or leave them out"
            )
        if self.events.format != JSON_FORMAT and self.registry.url is None:
            raise ValueError(f"events.format is {self.events.format}, and schemas are in a registry: set registry.url")
        if self.events.format == JSON_FORMAT and self.registry.url is not None:
            raise ValueError(
                f"registry.url does nothing while events.format is {JSON_FORMAT}: make that avro, protobuf or "
                "json_schema, or leave it out"
            )
        rows = self.output.rows_topic
        for name in ("input_topic", "output_topic", "dead_letter_topic", "changelog_topic"):
            if getattr(self.kafka, name) == rows:
                raise ValueError(f"output.rows_topic and kafka.{name} are both {rows!r}: give each its own")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings passes all of them by name
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the arguments and no other source: tests and tools must not depend on the environment."""
        return (init_settings,)

    def meaning(self) -> dict[str, object]:
        """Return the settings that give the state its meaning, as JSON; under other values it is another state.

        One that came later is left out at its default, and a path of one name is that name: images of before are read.
        """
        whole = self.model_dump(mode="json", include=MEANING)
        words = {f"{section}.{name}": value for section, table in whole.items() for name, value in table.items()}
        paths = {f"events.{name}": _named(words[f"events.{name}"]) for name in PATHS}
        return {name: value for name, value in (words | paths).items() if name not in LATER or value != LATER[name]}


def _named(field: object) -> object:
    """Return the name of a field that is in no other, the steps on the way to one that is; of many, those of each."""
    if isinstance(field, list):
        return [_named(each) for each in field]
    steps: list[str | int] = [] if field == WHOLE else parts_of(str(field))
    return steps[0] if len(steps) == 1 and isinstance(steps[0], str) else steps


MEANING = {
    "events": {name for name in Events.model_fields if not name.startswith("max_dead_")},
    "model": Model.model_fields.keys() - {"checkpoint", "seed"},  # they give the first weights, which the state holds
    "fine_tune": {"window"},
    "worker": {"stream_ttl_s"},
}
PATHS = ("stream_field", "time_field", "target_field", "covariates")  # that were names, before they could be paths
LATER: dict[str, object] = {  # what did not exist from the first state on, with the default
    "events.format": JSON_FORMAT, "events.target_fields": [], "events.numbers": "strict",
    "events.missing_values": [], "events.range": [], "events.outside_range": "drop", "events.timezone": "UTC",
    "events.earliest": "1990-01-01", "model.floor": 0.0,
}  # fmt: skip
SECTIONS: dict[str, type[Section]] = {
    "kafka": Kafka, "events": Events, "registry": Registry, "model": Model, "fine_tune": FineTune,
    "output": Output, "worker": Worker, "history": History, "http": Http, "log": Log,
}  # fmt: skip
NAMES = [f"{section}.{name}" for section, fields in SECTIONS.items() for name in fields.model_fields]
