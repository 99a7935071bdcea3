"""Transactions that hold a partition open though their coordinator has ended them, and the marker that ends one.

A broker that ends a transaction while a partition has no leader writes no marker there, then or later (Apache Kafka
4.3.1, KAFKA-20734): nobody who reads committed records gets past it. The marker is that of `kafka-transactions.sh
abort` (KIP-664), which can be one of a commit as well: it names producer and epoch, so that it ends nothing else, and
fences nobody.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kafka import KafkaAdminClient
from kafka.admin import AbortTransactionSpec, ProducerState
from kafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from kafka.structs import TopicPartition

from worker.broker.contract import BrokerError, LeftOpen
from worker.broker.fixes import fix_for
from worker.broker.limits import asking
from worker.broker.security import open_admin
from worker.settings.kafka import Kafka

ASK_LIMIT_MS = 5_000
RIGHT = "allow Alter on the cluster, or end it by hand, as docs/runbook.md has it"

Place = tuple[int, str]  # a producer's id, and a topic


def left_open(kafka: Kafka, topics: Sequence[str], partition: int) -> list[LeftOpen]:
    """Return those that this partition of the topics holds open and that are not under way. Raises BrokerError."""
    with asking(kafka, f"transactions in partition {partition}"), _admin(kafka) as admin:
        before = _open(admin, topics, partition)
        if not before:
            return []
        names, under_way = _known(admin, {producer for producer, _ in before}, partition)
        after = _open(admin, topics, partition)  # one that has ended meanwhile is none
    found: dict[tuple[int, int], LeftOpen] = {}
    for (producer, topic), state in before.items():
        begin = state.current_transaction_start_offset
        now = after.get((producer, topic))
        if (producer, topic) in under_way or now is None or now.current_transaction_start_offset != begin:
            continue
        new = LeftOpen(producer, state.producer_epoch, names.get(producer), {}, {})
        left = found.setdefault((producer, state.producer_epoch), new)
        left.begins[topic], left.coordinators[topic] = begin, state.coordinator_epoch
    return [*found.values()]


def _open(admin: KafkaAdminClient, topics: Sequence[str], partition: int) -> dict[Place, ProducerState]:
    found: dict[Place, ProducerState] = {}
    for topic in topics:
        place = TopicPartition(topic, partition)
        try:
            producers = admin.describe_producers([place])[place].active_producers
        except (UnknownTopicOrPartitionError, TopicAuthorizationFailedError):  # of rows, which no worker has to read
            continue
        found |= {(one.producer_id, topic): one for one in producers if one.current_transaction_start_offset >= 0}
    return found


def _known(admin: KafkaAdminClient, producers: set[int], partition: int) -> tuple[dict[int, str], set[Place]]:
    """The producers' transactional ids, and where the coordinators know them to be in this partition."""
    listed = admin.list_transactions(producer_id_filters=sorted(producers)).values()
    names = {one.producer_id: one.transactional_id for some in listed for one in some}
    known = admin.describe_transactions(sorted(names.values())).values() if names else ()
    places = {(one.producer_id, place) for one in known for place in one.topic_partitions}
    return names, {(producer, place.topic) for producer, place in places if place.partition == partition}


def end_left_open(kafka: Kafka, opened: LeftOpen, partition: int, commit: bool) -> None:
    """Write its end to this partition of the topics that hold it open, to the output last, which tells what it is.

    Raises BrokerError.
    """
    try:
        with _admin(kafka) as admin:
            for topic, coordinator in sorted(opened.coordinators.items(), key=lambda one: one[0] == kafka.output_topic):
                place = TopicPartition(topic, partition)
                spec = AbortTransactionSpec(place, opened.producer, opened.epoch, coordinator)
                admin._manager.run(_write, admin, spec, commit)
    except (KafkaError, TimeoutError) as error:
        refused = isinstance(error, ClusterAuthorizationFailedError)
        fix = RIGHT if refused else fix_for(error, kafka)
        raise BrokerError(f"the transaction of {opened.transactional_id} is not ended: {error!r}", fix=fix) from error


async def _write(admin: KafkaAdminClient, spec: AbortTransactionSpec, commit: bool) -> None:
    """As `KafkaAdminClient.abort_transaction`, which knows no commit."""
    request = admin._abort_transaction_request(spec)
    request.markers[0].transaction_result = commit
    [leader] = await admin._async_get_leader_for_partitions([spec.topic_partition])
    response = await admin._manager.send(request, node_id=leader)
    admin._abort_transaction_process_response(response, spec)


@contextmanager
def _admin(kafka: Kafka) -> Iterator[KafkaAdminClient]:
    admin = open_admin(kafka, request_timeout_ms=ASK_LIMIT_MS)
    try:
        yield admin
    finally:
        admin.close()
