"""How every Kafka client reaches the cluster: addresses, TLS, SASL, and what a user may add."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaTimeoutError
from kafka.net.compat import KafkaNetClient
from pydantic import SecretStr

from worker.broker.codecs import limit_batches
from worker.broker.diagnosis import Attempts, check_here
from worker.broker.parked import release_parked
from worker.refusal import Refusal
from worker.settings.kafka import Kafka

BOOTSTRAP_TIMEOUT_MS = 10_000


def client_options(kafka: Kafka, client: type = KafkaConsumer) -> dict[str, Any]:
    """Keyword arguments for a client of this class: the settings, and of `client_options` what the class knows.

    Raises Refusal where no client knows one of them.
    """
    every = KafkaConsumer.DEFAULT_CONFIG.keys() | KafkaProducer.DEFAULT_CONFIG.keys()
    given = {name for name in kafka.client_options if kafka.client == "kafka-python" or "." not in name}
    if unknown := sorted(given - every):
        raise Refusal(
            f"kafka.client_options cannot be used: kafka-python has no such client options: {', '.join(unknown)}; "
            "correct them, or leave them out"
        )
    options = {
        "bootstrap_servers": kafka.bootstrap_servers.split(","),
        "client_id": f"foldcast-{kafka.instance_id}",
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        "allow_auto_create_topics": False,
        "security_protocol": kafka.security_protocol,
        "sasl_mechanism": kafka.sasl_mechanism,
        "sasl_plain_username": kafka.sasl_username,
        "sasl_plain_password": _opened(kafka.sasl_password),
        "ssl_cafile": kafka.ssl_cafile,
        "ssl_certfile": kafka.ssl_certfile,
        "ssl_keyfile": kafka.ssl_keyfile,
        "ssl_password": _opened(kafka.ssl_password),
        **kafka.client_options,
    }
    known: dict[str, object] = client.DEFAULT_CONFIG  # type: ignore[attr-defined]
    return {name: value for name, value in options.items() if name in known}


def _opened(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def open_consumer(kafka: Kafka, **own: object) -> KafkaConsumer:
    """A consumer without automatic commits. Raises as `open_producer`."""
    limit_batches(kafka.max_batch_mb)
    consumer = _open(kafka, KafkaConsumer, {"enable_auto_commit": False, **client_options(kafka), **own})
    release_parked(consumer)
    return consumer


def open_producer(kafka: Kafka, **own: object) -> KafkaProducer:
    """A producer. Raises KafkaError when no broker answers in time, Refusal when none ever will."""
    return _open(kafka, KafkaProducer, {**client_options(kafka, KafkaProducer), **own})


def open_admin(kafka: Kafka, **own: object) -> KafkaAdminClient:
    """An admin client. Raises KafkaError when no broker answers in time, Refusal when none ever will."""
    return _open(kafka, KafkaAdminClient, {**client_options(kafka, KafkaAdminClient), **own})


def _open(kafka: Kafka, client: Callable[..., Any], options: dict[str, Any]) -> Any:
    check_here(kafka)
    network: list[KafkaNetClient] = []
    attempts: list[Attempts] = []

    def remember(**configs: object) -> KafkaNetClient:
        network.append(KafkaNetClient(**configs))
        # It never hears of allow_auto_create_topics (kafka-python 3.0.12): asking for a topic that was deleted would
        # bring it back, empty and with other settings
        network[0].cluster.config["allow_auto_create_topics"] = False
        attempts.append(Attempts(network[0]._manager, kafka))
        return network[0]

    try:
        opened = client(**options, kafka_client=remember)
    except Exception as error:
        # kafka-python 3.0.12: a constructor that fails leaves its network thread running, once per attempt
        with suppress(Exception):
            network[0].close()
        if isinstance(error, KafkaTimeoutError) and attempts and (reason := attempts[0].explain()):
            raise KafkaTimeoutError(f"{error.args[0]}: {reason}") from error
        raise
    attempts[0].over()
    return opened
