"""The section `kafka` as librdkafka's properties: addresses, TLS, SASL, and what a user may add."""

import logging
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from pydantic import SecretStr

from worker.broker.diagnosis import check_here
from worker.broker.librdkafka.statistics import INTERVAL_MS
from worker.refusal import Refusal
from worker.settings.kafka import Kafka
from worker.settings.worker import Worker

log = logging.getLogger(__name__)

LACKING = ("GSSAPI", "AWS_MSK_IAM")  # mechanisms that the library of the package is built without
FETCH_BYTES, ALL_FETCH_BYTES = 4 << 20, 50 << 20  # of a partition, and of all, in an answer
LEAST_BYTES = 8 << 20  # of an answer
FETCH_MARGIN_BYTES = 1 << 10
QUEUED_POLLS, QUEUED_BYTES = 5, 32 << 20  # of each partition that are fetched ahead
TROUBLES = ("SESSTMOUT", "FAIL", "REQTMOUT")  # what such lines of its log begin with
RECONNECT_MS = 1000  # at most so long between two attempts to reach a broker; the library's 10 s is a long restart


class Log:
    """Takes librdkafka's own log, which says nothing that a poll or a commit does not say, but for one thing."""

    def __init__(self) -> None:
        self.troubled = False  # once a broker was away, or a session ended without an answer to its heartbeats

    def log(self, _: int, text: str, *arguments: object) -> None:
        """Take a line, within a poll."""
        self.troubled |= not {*TROUBLES}.isdisjoint(arguments)
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
    }
    return {name: value for name, value in given.items() if value is not None}


def _note(error: KafkaError) -> None:
    log.debug("%s", error)


def _opened(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def consumer_properties(kafka: Kafka, worker: Worker) -> dict[str, Any]:
    """Return what the member of the group has beside that."""
    session_ms = int(kafka.session_timeout_s * 1000)
    largest = max(kafka.max_batch_mb << 20, LEAST_BYTES)
    return {
        "group.id": kafka.group_id,
        "group.instance.id": kafka.instance_id,
        "partition.assignment.strategy": "cooperative-sticky",
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,  # tells where the log ends behind markers and aborted records
        "check.crcs": True,
        "session.timeout.ms": session_ms,
        "heartbeat.interval.ms": min(max(session_ms // 10, 1000), 3000),  # how fast others notice a rebalance
        "max.poll.interval.ms": max(int(worker.stall_exit_s * 1000), session_ms),
        "fetch.wait.max.ms": 50,  # a partition that was just started waits for the fetch before it
        "fetch.queue.backoff.ms": 20,  # of its 1000 a partition that is read fast would stand still for most
        "max.partition.fetch.bytes": FETCH_BYTES,
        "receive.message.max.bytes": largest,  # as a batch of zstd may become; others have no limit (2.16.0)
        "fetch.max.bytes": min(ALL_FETCH_BYTES, largest - FETCH_MARGIN_BYTES),
        "queued.min.messages": QUEUED_POLLS * worker.max_poll_records,
        "queued.max.messages.kbytes": QUEUED_BYTES >> 10,
        "statistics.interval.ms": INTERVAL_MS,
    }


def open_consumer(kafka: Kafka, own: dict[str, Any], log: Log) -> Consumer:
    """Return a consumer; it connects by itself. Raises Refusal."""
    try:
        return Consumer(_whole(kafka, own), logger=log)
    except KafkaException as error:
        raise _refused(kafka, error) from error


def open_producer(kafka: Kafka, own: dict[str, Any]) -> Producer:
    """Return a producer; it connects by itself. Raises Refusal."""
    try:
        return Producer(_whole(kafka, own), logger=Log())
    except KafkaException as error:
        raise _refused(kafka, error) from error


def _whole(kafka: Kafka, own: dict[str, Any]) -> dict[str, Any]:
    """Return all that a client is opened with: the user's properties last, because none of them is the worker's."""
    given = {name: value for name, value in kafka.client_options.items() if "." in name}
    return {**properties(kafka), **own, **given}


def _refused(kafka: Kafka, error: KafkaException) -> Refusal:
    text = error.args[0].str()
    named = [name for name in kafka.client_options if f'"{name}"' in text]  # its value may be a secret
    why = f"librdkafka takes no such properties, or not their values: {', '.join(named)}" if named else text
    return Refusal(f"kafka.client_options cannot be used: {why}; correct them, or leave them out")
