"""librdkafka's errors as kafka-python's, so that what they mean and what to do about them is written once."""

from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException
from kafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

# The client's own numbers are negative; those of brokers are the protocol's
_OWN: dict[int, type[KafkaError]] = {
    Code._FENCED: ProducerFencedError,
    Code._AUTHENTICATION: SaslAuthenticationFailedError,
    Code._UNKNOWN_PARTITION: UnknownTopicOrPartitionError,
    Code._UNKNOWN_TOPIC: UnknownTopicOrPartitionError,
    Code._TIMED_OUT: KafkaTimeoutError,
    Code._TIMED_OUT_QUEUE: KafkaTimeoutError,
    Code._MSG_TIMED_OUT: KafkaTimeoutError,
    Code._WAIT_COORD: KafkaTimeoutError,
    Code._IN_PROGRESS: KafkaTimeoutError,
    Code._TRANSPORT: KafkaConnectionError,
    Code._ALL_BROKERS_DOWN: KafkaConnectionError,
    Code._RESOLVE: KafkaConnectionError,
    Code._SSL: KafkaConnectionError,
}


# A fatal error is raised before the other callbacks of a call have come: those fail, with it as the cause
# (confluent-kafka 2.16.1)
RAISED = (KafkaException, SystemError)


def translated(error: BaseException, topic: str | None = None) -> KafkaError:
    """Return what a call raised as one of kafka-python's; `topic` is whose it is, where that is known."""
    if isinstance(error, SystemError) and error.__cause__ is not None:
        return translated(error.__cause__, topic)
    code = error.args[0] if isinstance(error, KafkaException) else None
    return of_code(code, topic) if isinstance(code, Code) else KafkaError(repr(error))


def of_code(error: Code, topic: str | None = None) -> KafkaError:
    """Return the error of a message or an offset as one of kafka-python's."""
    number = error.code()
    kind = for_code(number) if number >= 0 else _OWN.get(number, KafkaTimeoutError if error.retriable() else KafkaError)
    if kind is TopicAuthorizationFailedError and topic is not None:
        return kind({topic})
    return kind(f"{error.name()}: {error.str()}")
