"""Topics, groups and offsets as an operator sees them; each call opens a client of its own."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType, MemberToRemove, OffsetSpec
from kafka.errors import (
    AuthorizationError,
    KafkaError,
    NoError,
    RetriableError,
    TopicAlreadyExistsError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    for_code,
)
from kafka.structs import OffsetAndMetadata, TopicPartition

from worker.broker.contract import NO_TOPIC, BrokerError
from worker.broker.fixes import allow, fix_for
from worker.broker.security import open_admin
from worker.refusal import Refusal
from worker.settings.kafka import Kafka

REQUEST_TIMEOUT_MS = 10_000
RETRY_S = 10.0

T = TypeVar("T")


@dataclass(frozen=True)
class TopicSpec:
    """A topic to make. A replication of -1 is the cluster's default."""

    name: str
    partitions: int
    replication: int = -1
    configs: Mapping[str, str] = field(default_factory=dict)


class TopicInfo(NamedTuple):
    """A topic as it is; `configs` holds every setting, the cluster's defaults included."""

    partitions: int
    replication: int
    configs: dict[str, str]


class Standing(NamedTuple):
    """What a cluster says before anybody joins a group. Operations are empty where its brokers do not tell them."""

    operations: dict[str, frozenset[str]]  # that the user may do, by topic, in capitals
    group_operations: frozenset[str]
    input_id: str
    offsets: dict[int, int]  # the group's committed next offsets by partition
    changelog: dict[int, tuple[int, int]]  # first offset and log end by partition


class Member(NamedTuple):
    """A member of a group, as the coordinator lists it."""

    instance_id: str | None
    client_id: str
    host: str


def wait_until_answering(kafka: Kafka, limit_s: float) -> None:
    """Return once a broker answers metadata requests; BrokerError when none has in `limit_s`."""
    deadline = time.monotonic() + limit_s
    while True:
        left_ms = max((deadline - time.monotonic()) * 1000, 100)
        try:
            with _admin(kafka, bootstrap_timeout_ms=min(left_ms, 2000)) as admin:
                admin.list_topics()
            return
        except BrokerError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)


def create_topics(kafka: Kafka, specs: Sequence[TopicSpec]) -> None:
    """Make the topics that are not there yet and wait until they can be used. Raises BrokerError."""
    wanted = {
        spec.name: {
            "num_partitions": spec.partitions,
            "replication_factor": spec.replication,
            "configs": dict(spec.configs),
        }
        for spec in specs
    }
    with _admin(kafka) as admin:
        for name, settings in wanted.items():
            with _allowed(kafka, "Create", name), suppress(TopicAlreadyExistsError):
                admin.create_topics({name: settings})
        admin.wait_for_topics(list(wanted))


def delete_topic(kafka: Kafka, name: str) -> None:
    """Delete a topic and wait until it is gone; one that is not there is no error. Raises BrokerError."""
    with _admin(kafka) as admin:
        with _allowed(kafka, "Delete", name), suppress(UnknownTopicOrPartitionError):
            admin.delete_topics([name])
        deadline = time.monotonic() + RETRY_S
        while _found(admin, [name]):
            if time.monotonic() > deadline:
                raise BrokerError(f"topic {name} was deleted but is still listed")
            time.sleep(0.05)


def describe(kafka: Kafka, names: Sequence[str]) -> dict[str, TopicInfo]:
    """Those of the topics that exist. Raises BrokerError, or Refusal where the user may not see them."""
    with _admin(kafka) as admin:
        found = _found(admin, names)
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in found]
        configs = admin.describe_configs(resources, config_filter="all")["topic"] if found else {}
    for name in found:
        # A refusal looks like a topic without settings (kafka-python 3.0.12)
        if not configs[name]:
            raise Refusal(f"the settings of topic {name} cannot be read: {allow(kafka, 'DescribeConfigs', name)}")
    return {
        name: TopicInfo(
            partitions=len(topic["partitions"]),
            replication=min(len(partition["replica_nodes"]) for partition in topic["partitions"]),
            configs={key: entry["value"] for key, entry in configs[name].items()},
        )
        for name, topic in found.items()
    }


def bounds(kafka: Kafka, topic: str) -> dict[int, tuple[int, int]]:
    """First offset and log end of each partition; open transactions are counted in. Raises BrokerError."""
    with _admin(kafka) as admin:
        return _bounds(admin, topic)


def _bounds(admin: KafkaAdminClient, topic: str) -> dict[int, tuple[int, int]]:
    tps = _partitions(admin, topic)
    first = admin.list_partition_offsets(dict.fromkeys(tps, OffsetSpec.EARLIEST))
    end = admin.list_partition_offsets(dict.fromkeys(tps, OffsetSpec.LATEST))
    return {tp.partition: (first[tp].offset, end[tp].offset) for tp in tps}


def group_offsets(kafka: Kafka, group: str, topic: str) -> dict[int, int]:
    """The group's committed next offsets by partition; empty for an unknown group. Raises BrokerError."""
    with _admin(kafka) as admin:
        return _group_offsets(admin, group, topic)


def _group_offsets(admin: KafkaAdminClient, group: str, topic: str) -> dict[int, int]:
    offsets = _retried(lambda: admin.list_group_offsets({group: None}))[group]
    return {tp.partition: entry.offset for tp, entry in offsets.items() if tp.topic == topic and entry.offset >= 0}


def standing(kafka: Kafka, names: Sequence[str]) -> Standing:
    """What these topics and the group are to the settings' user. Raises BrokerError, Refusal."""
    with _admin(kafka) as admin:
        found = _found(admin, names)
        group = _retried(lambda: admin.describe_groups([kafka.group_id]))[kafka.group_id]
        return Standing(
            operations={name: _operations(topic) for name, topic in found.items()},
            group_operations=_operations(group),
            input_id=_id(found, kafka.input_topic),
            offsets=_group_offsets(admin, kafka.group_id, kafka.input_topic),
            changelog=_bounds(admin, kafka.changelog_topic),
        )


def topic_id(kafka: Kafka, topic: str) -> str:
    """Return the topic's id, which one of the same name that is made later does not have; empty where unknown.

    Raises BrokerError, Refusal.
    """
    with _admin(kafka) as admin:
        return _id(_found(admin, [topic]), topic)


def _id(found: Mapping[str, Any], topic: str) -> str:
    return str(found[topic].get("topic_id") or "") if topic in found else ""


def _operations(described: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(described.get("authorized_operations") or ())


def set_group_offsets(kafka: Kafka, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    """Set committed offsets of a group without members. Raises BrokerError, also while the group has any."""
    wanted = {TopicPartition(topic, p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}
    with _admin(kafka) as admin:
        errors = _retried(lambda: admin.alter_group_offsets(group, wanted))
    _refuse(f"offsets of group {group} not set", errors)


def members(kafka: Kafka, group: str) -> list[Member]:
    """The group's members, those included that are gone but not yet timed out. Raises BrokerError."""
    with _admin(kafka) as admin:
        description = _retried(lambda: admin.describe_groups([group]))[group]
    return [Member(m["group_instance_id"], m["client_id"], m["client_host"]) for m in description["members"]]


def remove_member(kafka: Kafka, group: str, instance_id: str) -> None:
    """Take a static member out of its group, so that others get its partitions at once. Raises BrokerError."""
    with _admin(kafka) as admin:
        errors = _retried(lambda: admin.remove_group_members(group, [MemberToRemove(group_instance_id=instance_id)]))
    _refuse(f"{instance_id} not removed from group {group}", errors, allowed=(NoError, UnknownMemberIdError))


@contextmanager
def _admin(kafka: Kafka, **own: object) -> Iterator[KafkaAdminClient]:
    try:
        admin = open_admin(kafka, request_timeout_ms=REQUEST_TIMEOUT_MS, **own)
        try:
            yield admin
        finally:
            admin.close()
    except AuthorizationError as error:
        raise Refusal(f"the cluster refuses: {fix_for(error, kafka)}") from error
    except KafkaError as error:
        raise BrokerError(f"the cluster refused or did not answer: {error!r}", fix=fix_for(error, kafka)) from error


@contextmanager
def _allowed(kafka: Kafka, operation: str, topic: str) -> Iterator[None]:
    try:
        yield
    except AuthorizationError as error:
        raise Refusal(f"the cluster refuses: {allow(kafka, operation, topic)}") from error


def _retried(call: Callable[[], T]) -> T:
    """The first group of a fresh cluster finds no coordinator for a second or so; the admin client gives up at once."""
    deadline = time.monotonic() + RETRY_S
    while True:
        try:
            return call()
        except RetriableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _found(admin: KafkaAdminClient, names: Sequence[str]) -> dict[str, Any]:
    found = {}
    for topic in admin.describe_topics(list(names)):
        error = for_code(topic["error_code"])
        if error is NoError:
            found[topic["name"]] = topic
        elif error is not UnknownTopicOrPartitionError:
            raise error({topic["name"]})
    return found


def _partitions(admin: KafkaAdminClient, topic: str) -> list[TopicPartition]:
    found = _found(admin, [topic])
    if not found:
        raise BrokerError(f"there is no topic {topic}", fix=NO_TOPIC)
    return sorted(TopicPartition(topic, entry["partition_index"]) for entry in found[topic]["partitions"])


def _refuse(
    what: str, errors: Mapping[object, type[KafkaError]], allowed: tuple[type[KafkaError], ...] = (NoError,)
) -> None:
    if bad := {key: error.__name__ for key, error in errors.items() if error not in allowed}:
        raise BrokerError(f"{what}: {bad}")
