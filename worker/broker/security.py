"""How every Kafka client reaches the cluster: addresses, TLS, SASL, and what a user may add."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.net.compat import KafkaNetClient

BOOTSTRAP_TIMEOUT_MS = 10_000

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
))
# fmt: on


@dataclass(frozen=True)
class Connection:
    """Where the cluster is and who we are to it. `extra` holds further options under the client's own names."""

    bootstrap_servers: str
    client_id: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_password: str | None = field(default=None, repr=False)
    extra: Mapping[str, object] = field(default_factory=dict, repr=False)


def check_extra(extra: Mapping[str, object]) -> None:
    """Raise ValueError for options that the worker sets itself, and for options that no client knows."""
    if owned := sorted(OWNED & extra.keys()):
        raise ValueError(f"the worker sets these Kafka client options itself: {', '.join(owned)}")
    known = KafkaConsumer.DEFAULT_CONFIG.keys() | KafkaProducer.DEFAULT_CONFIG.keys()
    if unknown := sorted(extra.keys() - known):
        raise ValueError(f"kafka-python has no such client options: {', '.join(unknown)}")


def client_options(connection: Connection, client: type = KafkaConsumer) -> dict[str, Any]:
    """Keyword arguments for a client of this class: the connection, and of `extra` what the class knows."""
    check_extra(connection.extra)
    options = {
        "bootstrap_servers": connection.bootstrap_servers.split(","),
        "client_id": connection.client_id,
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        "allow_auto_create_topics": False,
        "security_protocol": connection.security_protocol,
        "sasl_mechanism": connection.sasl_mechanism,
        "sasl_plain_username": connection.sasl_username,
        "sasl_plain_password": connection.sasl_password,
        "ssl_cafile": connection.ssl_cafile,
        "ssl_certfile": connection.ssl_certfile,
        "ssl_keyfile": connection.ssl_keyfile,
        "ssl_password": connection.ssl_password,
        **connection.extra,
    }
    known: dict[str, object] = client.DEFAULT_CONFIG  # type: ignore[attr-defined]
    return {name: value for name, value in options.items() if name in known}


def open_consumer(connection: Connection, **own: object) -> KafkaConsumer:
    """A consumer without automatic commits. Raises KafkaError when no broker answers in time."""
    return _open(KafkaConsumer, {"enable_auto_commit": False, **client_options(connection), **own})


def open_producer(connection: Connection, **own: object) -> KafkaProducer:
    """A producer. Raises KafkaError when no broker answers in time."""
    return _open(KafkaProducer, {**client_options(connection, KafkaProducer), **own})


def open_admin(connection: Connection, **own: object) -> KafkaAdminClient:
    """An admin client. Raises KafkaError when no broker answers in time."""
    return _open(KafkaAdminClient, {**client_options(connection, KafkaAdminClient), **own})


def _open(client: Callable[..., Any], options: dict[str, Any]) -> Any:
    network: list[KafkaNetClient] = []

    def remember(**configs: object) -> KafkaNetClient:
        network.append(KafkaNetClient(**configs))
        # It never hears of allow_auto_create_topics (kafka-python 3.0.12): asking for a topic that was deleted would
        # bring it back, empty and with other settings
        network[0].cluster.config["allow_auto_create_topics"] = False
        return network[0]

    try:
        return client(**options, kafka_client=remember)
    except Exception:
        # kafka-python 3.0.12: a constructor that fails leaves its network thread running, once per attempt
        with suppress(Exception):
            network[0].close()
        raise
