"""What can be set: each setting's name, default, range and meaning, by the sections of the TOML file.

Does not know where values come from, nor whether a file, a topic or a broker they name exists.
"""

import re
import socket
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)


def _like(pattern: str, fix: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(fix)
        return value

    return AfterValidator(check)


Name = Annotated[str, Field(min_length=1)]
Topic = Annotated[str, _like(r"[A-Za-z0-9._-]{1,249}", "use at most 249 letters, digits, dots, dashes and underscores")]
Server = r"(\[[\da-fA-F:]+\]|[^\s,:]+):\d+"
Servers = Annotated[str, _like(f"{Server}(,{Server})*", "write host:port, or host:port,host:port")]
Count = Annotated[int, Field(ge=1, le=10**9)]
WholeSeconds = Annotated[int, Field(ge=0, le=10**9)]
TimeLimit = Annotated[float, Field(gt=0, le=86_400)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """One table of the TOML file. `repr=False` marks what is never shown, in errors neither."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, hide_input_in_errors=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool(cls, value: object, info: ValidationInfo) -> object:
        wanted = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and wanted is not bool:  # Pydantic would read 0 or 1
            raise ValueError("give a number or a word, not true or false")
        return value


class Kafka(Section):
    """The cluster, the topics and the group."""

    bootstrap_servers: Servers = Field(default="localhost:9092", description="brokers to begin with")
    input_topic: Topic = Field(default="events", description="events are read from here")
    output_topic: Topic = Field(default="forecasts", description="forecasts go here, partition by partition")
    group_id: Name = Field(default="foldcast", description="consumer group; workers with one id share the partitions")
    dead_letter_topic: Topic = Field(
        default_factory=lambda given: f"{given['group_id']}-dead-letters",
        examples=["<group_id>-dead-letters"],
        description="records that are no events go here as they came, the reason in headers",
    )
    changelog_topic: Topic = Field(
        default_factory=lambda given: f"{given['group_id']}-changelog",
        examples=["<group_id>-changelog"],
        description="compacted topic that holds the state",
    )
    instance_id: Name = Field(
        default_factory=socket.gethostname,
        examples=["<host name>"],
        description="names this worker in its group; the same after a restart, so that it takes over at once",
    )
    start: Literal["earliest", "latest"] = Field(default="earliest", description="where a new group begins to read")
    session_timeout_s: float = Field(
        default=10,
        ge=1,
        le=1800,
        description="a worker silent so long loses its partitions; brokers ask for 6 or more",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="how to talk to the brokers"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "AWS_MSK_IAM"] | None = Field(
        default=None, description="how to log in"
    )
    sasl_username: Name | None = Field(default=None, description="for PLAIN and SCRAM")
    sasl_password: SecretStr | None = Field(default=None, repr=False, description="for PLAIN and SCRAM; a secret")
    ssl_cafile: Name | None = Field(default=None, description="certificates to trust, a PEM file; else the system's")
    ssl_certfile: Name | None = Field(default=None, description="the worker's own certificate, a PEM file")
    ssl_keyfile: Name | None = Field(default=None, description="its key, where `ssl_certfile` does not hold it")
    ssl_password: SecretStr | None = Field(default=None, repr=False, description="opens the key; a secret")
    client_options: dict[str, object] = Field(
        default={}, repr=False, description="more options by kafka-python's names; what the worker sets is refused"
    )

    @field_validator("client_options")
    @classmethod
    def _not_ours(cls, value: dict[str, object]) -> dict[str, object]:
        if value:
            from worker.broker.security import check_extra  # it loads the Kafka client

            check_extra(value)
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        _apart("kafka", self, ("input_topic", "output_topic", "dead_letter_topic", "changelog_topic"))
        for prefix, protocols in (("sasl_", ("SASL_SSL", "SASL_PLAINTEXT")), ("ssl_", ("SSL", "SASL_SSL"))):
            idle = [n for n in type(self).model_fields if n.startswith(prefix) and getattr(self, n) is not None]
            if idle and self.security_protocol not in protocols:
                now, then = self.security_protocol, " or ".join(protocols)
                raise ValueError(
                    f"kafka.{idle[0]} does nothing while kafka.security_protocol is {now}: make that {then}, "
                    "or leave it out"
                )
        if self.security_protocol.startswith("SASL") and self.sasl_mechanism is None:
            raise ValueError(
                f"kafka.security_protocol is {self.security_protocol}, which logs in: set kafka.sasl_mechanism"
            )
        log_in = self.sasl_mechanism is not None and self.sasl_mechanism.startswith(("PLAIN", "SCRAM"))
        for name in ("sasl_username", "sasl_password"):
            if log_in and getattr(self, name) is None:
                raise ValueError(f"kafka.sasl_mechanism is {self.sasl_mechanism}, which needs kafka.{name}: set it")
        for name in ("ssl_keyfile", "ssl_password"):
            if getattr(self, name) is not None and self.ssl_certfile is None:
                raise ValueError(f"kafka.{name} belongs to a certificate: set kafka.ssl_certfile")
        return self


class Events(Section):
    """What an event looks like, and which are accepted."""

    stream_field: Name = Field(
        default="stream", description="field with the stream's name; where absent, the record's key"
    )
    time_field: Name = Field(
        default="time", description="field with the event's time; where absent, the record's timestamp"
    )
    target_field: Name = Field(default="value", description="field with the number to forecast")
    covariates: tuple[Name, ...] = Field(default=(), description="numeric fields that are inputs of the forecast")
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
        description="an event further ahead of its record's timestamp is a dead letter, since after "
        "it all others would be late; an hour forgives a clock that is wrong by summer time",
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
        _apart("events", self, fields)
        if double := [c for c in self.covariates if self.covariates.count(c) > 1]:
            raise ValueError(f"events.covariates names {double[0]!r} twice: leave one out")
        for name in fields:
            if getattr(self, name) in self.covariates:
                field = getattr(self, name)
                raise ValueError(f"events.covariates names {field!r}, which is events.{name}: leave it out")
        return self


class Worker(Section):
    """The loop, what it keeps, and when it gives up."""

    max_poll_records: int = Field(default=2000, ge=1, le=100_000, description="records of one cycle, at most")
    min_cycle_ms: int = Field(
        default=20, ge=0, le=5000, description="a cycle waits so long for more: a transaction costs the same for one"
    )
    snapshot_events: Count | None = Field(
        default=None,
        description="records of a partition that a crash makes it read again, at most; without it the larger of 50,000 "
        "and 8 per stream",
    )
    snapshot_interval_s: TimeLimit = Field(default=300, description="a snapshot is begun at least so often")
    changelog_history_s: WholeSeconds = Field(default=0, description="older state is kept so long, for replay")
    stream_ttl_s: Count | None = Field(
        default=None, description="a stream idle for so long is forgotten, by record timestamps; without it never"
    )
    on_gap: Literal["fail", "skip"] = Field(
        default="fail",
        description="where the input no longer holds what a restart must read: stop, or go on and count the gap",
    )
    commit_timeout_s: TimeLimit = Field(default=8, description="a transaction that takes longer has failed")
    stall_exit_s: TimeLimit = Field(default=120, description="leave with an error when the loop hangs for so long")
    give_up_s: TimeLimit = Field(
        default=300,
        description="leave with an error where no transaction has committed for so long while some failed, or a "
        "partition could not be restored",
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for name in ("stall_exit_s", "give_up_s"):
            if getattr(self, name) <= self.commit_timeout_s:
                raise ValueError(
                    f"worker.{name} is {getattr(self, name):g}, not more than one commit may take "
                    f"(worker.commit_timeout_s is {self.commit_timeout_s:g}): make it larger"
                )
        return self


class Http(Section):
    """Metrics, health and the page."""

    host: Name = Field(default="0.0.0.0", description="address to listen on")  # noqa: S104 - probes come from other hosts
    port: int = Field(default=8080, ge=0, le=65_535, description="0 takes any free one")


class Log(Section):
    """What is written to standard output."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="the least that is written")
    format: Literal["text", "json"] = Field(default="text", description="for people, or for a collector")


def _apart(section: str, values: Section, names: tuple[str, ...]) -> None:
    seen: dict[object, str] = {}
    for name in names:
        value = getattr(values, name)
        other = seen.setdefault(value, name)
        if other != name:
            raise ValueError(f"{section}.{other} and {section}.{name} are both {value!r}: give each its own")
