"""Settings of the cluster, the topics and the group: the section `kafka`."""

import socket
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from worker.settings.section import Name, Section, Servers, Topic, check_apart

# The worker's promises rest on these; a user's value would break them or be overwritten without a word.
# fmt: off
OWNED = frozenset((
    "bootstrap_servers", "client_id", "group_id", "group_instance_id", "enable_auto_commit",
    "auto_commit_interval_ms", "isolation_level", "auto_offset_reset", "partition_assignment_strategy",
    "max_poll_records", "max_poll_interval_ms", "session_timeout_ms", "heartbeat_interval_ms",
    "consumer_timeout_ms", "key_deserializer", "value_deserializer", "key_serializer", "value_serializer",
    "transactional_id", "transaction_timeout_ms", "enable_idempotence", "acks", "retries", "delivery_timeout_ms",
    "request_timeout_ms", "retry_backoff_ms", "max_block_ms", "batch_size", "linger_ms", "max_request_size",
    "max_in_flight_requests_per_connection", "partitioner", "fetch_max_wait_ms", "max_partition_fetch_bytes",
    "allow_auto_create_topics", "bootstrap_timeout_ms", "kafka_client", "security_protocol", "sasl_mechanism",
    "sasl_plain_username", "sasl_plain_password", "ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_password",
    # librdkafka's
    "bootstrap.servers", "metadata.broker.list", "client.id", "group.id", "group.instance.id", "group.protocol",
    "partition.assignment.strategy", "isolation.level", "auto.offset.reset", "enable.auto.commit",
    "auto.commit.enable", "auto.commit.interval.ms", "enable.auto.offset.store", "offset.store.method",
    "enable.partition.eof", "session.timeout.ms", "heartbeat.interval.ms", "max.poll.interval.ms",
    "fetch.wait.max.ms", "max.partition.fetch.bytes", "fetch.max.bytes", "receive.message.max.bytes",
    "fetch.message.max.bytes", "queued.min.messages", "queued.max.messages.kbytes", "statistics.interval.ms",
    "transactional.id", "transaction.timeout.ms", "enable.idempotence", "request.required.acks",
    "message.send.max.retries", "retry.backoff.ms", "batch.size", "batch.num.messages", "message.max.bytes",
    "queue.buffering.max.messages", "queue.buffering.max.kbytes", "queue.buffering.max.ms", "linger.ms",
    "socket.timeout.ms", "request.timeout.ms", "delivery.timeout.ms", "message.timeout.ms",
    "delivery.report.only.error", "max.in.flight", "max.in.flight.requests.per.connection",
    "allow.auto.create.topics", "security.protocol", "sasl.mechanism", "sasl.mechanisms", "sasl.username",
    "sasl.password", "ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.key.password",
))
# fmt: on


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
    max_batch_mb: int = Field(
        default=64,
        ge=1,
        le=1024,
        description="a batch of records that becomes larger once it is unpacked is not read; it is in memory twice. "
        "librdkafka keeps to it for zstd alone",
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
    client: Literal["kafka-python", "librdkafka"] = Field(
        default="kafka-python",
        description="what reads the input and writes transactions; `librdkafka` is experimental and needs "
        "`foldcast[librdkafka]`",
    )
    client_options: dict[str, object] = Field(
        default={},
        repr=False,
        description="more options by kafka-python's names, with a dot in them by librdkafka's; what the worker sets is "
        "refused",
    )

    @field_validator("client_options")
    @classmethod
    def _not_ours(cls, value: dict[str, object]) -> dict[str, object]:
        if owned := sorted(OWNED & value.keys()):
            raise ValueError(f"the worker sets these Kafka client options itself: {', '.join(owned)}")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        check_apart("kafka", self, ("input_topic", "output_topic", "dead_letter_topic", "changelog_topic"))
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
