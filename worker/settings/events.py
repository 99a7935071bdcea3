"""Settings of events, their fields and their acceptance: the section `events`."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.decoding.paths import check_paths
from worker.settings.section import Count, FieldPath, Section, Share, WholeSeconds, check_apart


class Events(Section):
    """The fields of an event, and which events are accepted."""

    stream_field: FieldPath = Field(
        default="stream", description="field with the stream's name; where absent, the record's key"
    )
    time_field: FieldPath = Field(
        default="time", description="field with the event's time; where absent, the record's timestamp"
    )
    target_field: FieldPath = Field(
        default="value",
        description="field with the number to forecast; like every field a path, as in `data.temp` or "
        "`readings.0.value` (docs/messages.md)",
    )
    covariates: tuple[FieldPath, ...] = Field(
        default=(), description="numeric fields that are inputs of the forecast, of the full profile only"
    )
    transform: Literal["none", "log"] = Field(
        default="none",
        description="of the target, `log` for prices, where a value not above 0 is a dead letter",
    )
    same_time: Literal["drop", "accept"] = Field(
        default="drop",
        description="another value at the stream's last time is late, or an event as trades are",
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
        self._check_paths(
            [(name, getattr(self, name)) for name in fields] + [("covariates", c) for c in self.covariates]
        )
        return self

    def _check_paths(self, named: list[tuple[str, str]]) -> None:
        for last, (name, _) in enumerate(named):
            try:
                check_paths([path for _, path in named[: last + 1]])
            except ValueError as error:
                raise ValueError(f"events.{name} cannot be found: {error}") from None
