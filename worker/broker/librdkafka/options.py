"""The section `kafka` as librdkafka's properties: addresses, TLS, SASL, and what a user may add."""

import logging
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from pydantic import SecretStr

from worker.broker.diagnosis import check_here
from worker.refusal import Refusal
from worker.settings.kafka import Kafka

log = logging.getLogger(__name__)

LACKING = ("GSSAPI", "AWS_MSK_IAM")  # mechanisms that the library of the package is built without
RECONNECT_MS = 1000  # at most so long between two attempts to reach a broker; the library's 10 s is a long restart


class _Quietly:
    """Takes librdkafka's own log, which says nothing that a poll or a commit does not say."""

    def log(self, _: int, text: str, *arguments: object) -> None:
        log.debug(text, *arguments)


def properties(kafka: Kafka) -> dict[str, Any]:
    """Return what every client has. Raises Refusal where librdkafka lacks what the settings ask for."""
    if kafka.sasl_mechanism in LACKING:
        raise Refusal(
            f"kafka.sasl_mechanism is {kafka.sasl_mechanism}, which kafka.client librdkafka lacks: make the client "
            "kafka-python, or set another mechanism"
        )
    check_here(kafka)
    given = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "client.id": f"foldcast-{kafka.instance_id}",
        "allow.auto.create.topics": False,
        "reconnect.backoff.max.ms": RECONNECT_MS,
        "log.connection.close": False,
        # Without one a fatal error is raised within whatever callback comes next (confluent-kafka 2.16.1)
        "error_cb": _note,
        "security.protocol": kafka.security_protocol,
        "sasl.mechanism": kafka.sasl_mechanism,
        "sasl.username": kafka.sasl_username,
        "sasl.password": _opened(kafka.sasl_password),
        "ssl.ca.location": kafka.ssl_cafile,
        "ssl.certificate.location": kafka.ssl_certfile,
        "ssl.key.location": kafka.ssl_keyfile or kafka.ssl_certfile,
        "ssl.key.password": _opened(kafka.ssl_password),
        **kafka.librdkafka_options,
    }
    return {name: value for name, value in given.items() if value is not None}


def _note(error: KafkaError) -> None:
    log.debug("%s", error)


def _opened(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def open_consumer(kafka: Kafka, own: dict[str, Any]) -> Consumer:
    """Return a consumer; it connects by itself. Raises Refusal."""
    try:
        return Consumer({**properties(kafka), **own}, logger=_Quietly())
    except KafkaException as error:
        raise _refused(error) from error


def open_producer(kafka: Kafka, own: dict[str, Any]) -> Producer:
    """Return a producer; it connects by itself. Raises Refusal."""
    try:
        return Producer({**properties(kafka), **own}, logger=_Quietly())
    except KafkaException as error:
        raise _refused(error) from error


def _refused(error: KafkaException) -> Refusal:
    return Refusal(f"librdkafka takes no such settings of the section kafka: {error.args[0].str()}; correct them")
