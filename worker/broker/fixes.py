"""What to do about a request that the cluster refused or left without an answer, in words that end a sentence."""

from collections.abc import Mapping

from kafka.errors import (
    BrokerResponseError,
    ClusterAuthorizationFailedError,
    CommitFailedError,
    FencedInstanceIdError,
    GroupAuthorizationFailedError,
    IllegalGenerationError,
    InvalidProducerEpochError,
    MessageSizeTooLargeError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    ProducerFencedError,
    RebalanceInProgressError,
    RecordListTooLargeError,
    RetriableError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
)

from worker.broker.contract import NO_ANSWER, NO_TOPIC
from worker.broker.diagnosis import errors_in, why
from worker.settings.kafka import Kafka

FENCED = (ProducerFencedError, InvalidProducerEpochError, FencedInstanceIdError)
REBALANCED = (CommitFailedError, IllegalGenerationError, UnknownMemberIdError, RebalanceInProgressError)
REPLICAS = (NotEnoughReplicasError, NotEnoughReplicasAfterAppendError)
SIZES = (MessageSizeTooLargeError, RecordListTooLargeError)

GROUP_MOVES = "see whether workers of the group come and go, or are silent for kafka.session_timeout_s"
REFUSES = "the broker does answer, and refuses: see its log"
SEE_LOGS = "see this worker's log before, and the brokers'"

# What is wrong, by the client's class, and what is to be done where no names are needed
FIXES: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    (FENCED, "see that no other worker has this kafka.instance_id, and that cycles end within worker.commit_timeout_s"),
    (REBALANCED, GROUP_MOVES),
    (SIZES, "raise the topic's max.message.bytes to what `foldcast topics check` asks for"),
    (REPLICAS, "see that enough replicas are in sync (min.insync.replicas)"),
    ((UnknownTopicOrPartitionError,), NO_TOPIC),
)


def fix_for(error: BaseException, kafka: Kafka, operation: str = "") -> str:
    """What the error asks for. `operation` is what was done to a topic, where that is known."""
    every = list(errors_in(error))
    for one in every:
        if right := _lacking(one, kafka, operation):
            return _allow(kafka, right)
    if reason := why(error, "a broker", kafka):
        return reason
    if any("Failed to update metadata" in repr(one) for one in every):  # or it is gone (kafka-python 3.0.12)
        return f"{no_answer(kafka)}, and {NO_TOPIC}"
    # A refusal that says little often comes from one that says more
    for classes, fix in FIXES:
        if any(isinstance(one, classes) for one in every):
            return fix
    if any(isinstance(one, (RetriableError, TimeoutError)) for one in every):
        return no_answer(kafka)
    return REFUSES if any(isinstance(one, BrokerResponseError) for one in every) else SEE_LOGS


def no_answer(kafka: Kafka) -> str:
    """What to do where no broker answers."""
    return f"{NO_ANSWER} (kafka.bootstrap_servers is {kafka.bootstrap_servers})"


def allow(kafka: Kafka, operation: str, topic: str) -> str:
    """What to do where the user may not do this to that topic."""
    return _allow(kafka, f"{operation} on topic {topic}")


def allow_group(kafka: Kafka) -> str:
    """What to do where the user may not be in the group."""
    return _allow(kafka, f"Read on group {kafka.group_id}")


def _allow(kafka: Kafka, right: str) -> str:
    user = "the worker's user" if kafka.sasl_username is None else f"user {kafka.sasl_username}"
    return f"allow {user} {right} (docs/security.md has the ACLs)"


def _lacking(error: BaseException, kafka: Kafka, operation: str) -> str | None:
    """The operation that the user may not do, and on what."""
    if isinstance(error, TopicAuthorizationFailedError):
        known = rights(kafka)
        return " and ".join(f"{operation or known.get(name, 'Write')} on topic {name}" for name in _names(error, kafka))
    if isinstance(error, GroupAuthorizationFailedError):
        return f"Read on group {kafka.group_id}"
    if isinstance(error, TransactionalIdAuthorizationFailedError):
        return f"Write on transactional id {transactional_id(kafka)}"
    if isinstance(error, ClusterAuthorizationFailedError):
        return f"{operation or 'ClusterAction'} on the cluster"
    return None


def _names(error: BaseException, kafka: Kafka) -> list[str]:
    """The topics that an error names, in no particular form (kafka-python 3.0.12); else those of ours it may mean."""
    named = error.args[0] if error.args else ()
    found = {named} & rights(kafka).keys() if isinstance(named, str) else set(named)
    return sorted(found) or sorted(rights(kafka))


def rights(kafka: Kafka, rows_topic: str | None = None) -> Mapping[str, str]:
    """What a worker does to its topics, by name: the least that ACLs have to allow, beside DescribeConfigs."""
    return ({rows_topic: "Write"} if rows_topic else {}) | {
        kafka.input_topic: "Read",
        kafka.output_topic: "Read and Write",
        kafka.dead_letter_topic: "Read and Write",
        kafka.changelog_topic: "Read and Write",
    }


def transactional_id(kafka: Kafka) -> str:
    """The same after a restart, so that the new process ends what the old one left open."""
    return f"{kafka.group_id}/{kafka.instance_id}"
