"""Settings of events, their fields and their acceptance: the section `events`."""

from datetime import date
from typing import Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from pipeline.decoding.paths import WHOLE, check_paths, labels_of
from worker.settings.section import Count, FieldPath, Section, Share, WholeSeconds, check_apart


class Events(Section):
    """The fields of an event, and which events are accepted."""

    format: Literal["json", "avro", "protobuf", "json_schema"] = Field(
        default="json",
        description="what messages are: plain JSON, or in a schema registry's framing (docs/messages.md), which needs "
        "`foldcast[registry]` and `registry.url`",
    )
    stream_field: FieldPath = Field(
        default="stream", description="field with the stream's name; where absent, the record's key"
    )
    time_field: FieldPath = Field(
        default="time", description="field with the event's time; where absent, the record's timestamp"
    )
    target_field: FieldPath = Field(
        default="value",
        description="field with the number to forecast; like every field a path, as in `data.temp` or "
        "`readings.0.value` (docs/messages.md); `.` where the whole message is the number",
    )
    target_fields: tuple[FieldPath, ...] = Field(
        default=(),
        description="several such fields in place of `target_field`: of `data.temp` and `data.rh`, each that is there "
        "is an event, of the streams `<name>/temp` and `<name>/rh`",
    )
    covariates: tuple[FieldPath, ...] = Field(
        default=(), description="numeric fields that are inputs of the forecast, of the full profile only"
    )
    numbers: Literal["strict", "lenient"] = Field(
        default="strict", description='numbers in text, such as "3.5", are dead letters, or read as numbers'
    )
    missing_values: tuple[float | str, ...] = Field(
        default=(),
        description="values that stand for none, such as -9999, or text where `numbers` is `lenient`: dropped and "
        "counted as sentinel",
    )
    range: tuple[float, ...] = Field(
        default=(), description="least and greatest value of a target, as in `[-50, 60]`; without it any"
    )
    outside_range: Literal["drop", "dead_letter"] = Field(
        default="drop", description="a value outside `range` is dropped and counted, or a dead letter"
    )
    transform: Literal["none", "log"] = Field(
        default="none",
        description="of the target, `log` for prices, where a value not above 0 is a dead letter",
    )
    same_time: Literal["drop", "accept"] = Field(
        default="drop",
        description="another value at the stream's last time is late, or an event as trades are",
    )
    timezone: str = Field(
        default="UTC",
        description="of times in text that name none, as `Europe/Berlin`; of an hour that comes twice it is the first",
    )
    earliest: date = Field(
        default=date(1990, 1, 1),
        description="a number that would be an earlier time is a dead letter, since it is hardly an epoch: dates in "
        "digits, days of a spreadsheet, clocks that were never set; text with dashes may be older",
    )
    max_ahead_s: WholeSeconds = Field(
        default=3600,
        description="an event further ahead of its record's timestamp, or of the worker's clock by either (by which "
        "a second is always forgiven), is a dead letter, since after it all others would be late; an hour forgives a "
        "clock that is wrong by summer time",
    )
    max_gap: Count = Field(
        default=100, description="a gap of more than so many of the stream's own steps begins its hidden state anew"
    )
    max_dead_ratio: Share | None = Field(
        default=None,
        description="stop where a larger share of all records since the start are dead letters; without it never",
    )
    max_dead_in_a_row: Count | None = Field(
        default=None, description="stop after so many records in a row that are all dead letters; without it never"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        fields = ("stream_field", "time_field", "target_field")
        check_apart("events", self, fields)
        if double := [c for c in self.covariates if self.covariates.count(c) > 1]:
            raise ValueError(f"events.covariates names {double[0]!r} twice: leave one out")
        for name in fields:
            if getattr(self, name) in self.covariates:
                field = getattr(self, name)
                raise ValueError(f"events.covariates names {field!r}, which is events.{name}: leave it out")
        if self.target_fields and "target_field" in self.model_fields_set:
            raise ValueError("events.target_field and events.target_fields are both given: leave one of them out")
        named = [(name, getattr(self, name)) for name in fields if name != "target_field" or not self.target_fields]
        named += [(name, path) for name in ("target_fields", "covariates") for path in getattr(self, name)]
        if self.target_field == WHOLE:
            self._check_whole()
        else:
            self._check_paths(named)
        labels = labels_of(self.target_fields)
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"events.target_fields has two fields that end as {label!r}: leave one of them out")
            if "/" in label:
                raise ValueError(
                    f"events.target_fields names {label!r}, but `/` stands between a stream's name and its field's: "
                    "rename that field where it is produced"
                )
        return self

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (OSError, ValueError, ZoneInfoNotFoundError):
            raise ValueError(
                "name a zone of the IANA list that this machine has, such as UTC or Europe/Berlin"
            ) from None
        return name

    @property
    def earliest_ms(self) -> int:
        """The first millisecond of `earliest`."""
        return (self.earliest - date(1970, 1, 1)).days * 86_400_000

    @model_validator(mode="after")
    def _check_numbers(self) -> Self:
        if self.range and not (len(self.range) == 2 and self.range[0] < self.range[1]):
            raise ValueError(
                f"events.range is {[*self.range]}: write the least value and a greater one, as in [-50, 60]"
            )
        texts = [value for value in self.missing_values if isinstance(value, str)]
        if texts and self.numbers == "strict":
            raise ValueError(
                f"events.missing_values names the text {texts[0]!r}, and events.numbers is strict, which takes none: "
                "make it lenient, or leave the text out"
            )
        return self

    def _check_whole(self) -> None:
        for name in ("stream_field", "time_field", "covariates"):
            if name in self.model_fields_set:
                raise ValueError(
                    f"events.{name} is given, and events.target_field is {WHOLE!r}, a message without fields: the "
                    "record's key names the stream, its timestamp is the time; leave one of the two settings out"
                )

    def _check_paths(self, named: list[tuple[str, str]]) -> None:
        for last, (name, path) in enumerate(named):
            for others, paths in ((name, [path]), *((f"{n} and events.{name}", [p, path]) for n, p in named[:last])):
                try:
                    check_paths(paths)
                except ValueError as error:
                    raise ValueError(f"events.{others} cannot be found: {error}") from None
