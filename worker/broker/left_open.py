"""Transactions that hold a partition open though their coordinator has ended them.

A broker that ends a transaction while a partition has no leader writes no marker there, then or later (Apache Kafka
4.3.1, KAFKA-20734): nobody who reads committed records gets past it until a transaction of the same transactional id
ends in that partition.
"""

import time
from collections.abc import Sequence

from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ProducerState
from kafka.errors import KafkaError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError
from kafka.structs import OffsetAndMetadata, TopicPartition

from worker.broker.contract import BY_HAND, BrokerError, LeftOpen
from worker.broker.fixes import fix_for
from worker.broker.limits import asking, within
from worker.broker.producer import discard, left
from worker.broker.security import open_admin, open_producer
from worker.settings.kafka import Kafka

ASK_LIMIT_MS = 5_000
ADD_S = 0.01  # between two looks whether the coordinator has added the partitions

CLOCKS_S = 2  # that those of two workers may differ by

Place = tuple[int, str]  # a producer's id, and a topic


def left_open(kafka: Kafka, topics: Sequence[str], partition: int) -> list[LeftOpen]:
    """Return those that this partition of the topics holds open and that are not under way. Raises BrokerError."""
    with asking(kafka, f"transactions in partition {partition}"):
        admin = open_admin(kafka, request_timeout_ms=ASK_LIMIT_MS)
        try:
            before = _producers(admin, topics, partition)
            if not any(map(_is_open, before.values())):
                return []
            names, under_way = _known(admin, {producer for producer, _ in before}, partition)
            after = _producers(admin, topics, partition)  # one that has ended meanwhile is none
        finally:
            admin.close()
    lasting = {place: one for place, one in before.items() if _is_open(one) and place not in under_way}
    lasting = {place: one for place, one in lasting.items() if place in after and _begin(after[place]) == _begin(one)}
    members = {producer for producer, name in names.items() if name.startswith(f"{kafka.group_id}/")}
    found = []
    for producer in sorted({producer for producer, _ in lasting}):
        own = {topic: one for (whose, topic), one in lasting.items() if whose == producer}
        wrote_ms = max(one.last_timestamp for one in own.values())
        others = [one.last_timestamp for (whose, _), one in after.items() if whose in members - {producer}]
        overtaken = any(at > wrote_ms - CLOCKS_S * 1000 for at in others)
        begins = {topic: _begin(one) for topic, one in own.items()}
        found.append(LeftOpen(producer, names.get(producer), begins, overtaken))
    return found


def _begin(producer: ProducerState) -> int:
    """The first offset of its transaction that the partition holds open, -1 where it holds none."""
    offset: int = producer.current_transaction_start_offset
    return offset


def _is_open(producer: ProducerState) -> bool:
    return _begin(producer) >= 0


def _producers(admin: KafkaAdminClient, topics: Sequence[str], partition: int) -> dict[Place, ProducerState]:
    found: dict[Place, ProducerState] = {}
    for topic in topics:
        place = TopicPartition(topic, partition)
        try:
            producers = admin.describe_producers([place])[place].active_producers
        except (UnknownTopicOrPartitionError, TopicAuthorizationFailedError):  # of rows, which no worker has to read
            continue
        found |= {(one.producer_id, topic): one for one in producers}
    return found


def _known(admin: KafkaAdminClient, producers: set[int], partition: int) -> tuple[dict[int, str], set[Place]]:
    """The producers' transactional ids, and where the coordinators know them to be in this partition."""
    listed = admin.list_transactions(producer_id_filters=sorted(producers)).values()
    names = {one.producer_id: one.transactional_id for some in listed for one in some}
    known = admin.describe_transactions(sorted(names.values())).values() if names else ()
    places = {(one.producer_id, place) for one in known for place in one.topic_partitions}
    return names, {(producer, place.topic) for producer, place in places if place.partition == partition}


def end_left_open(
    kafka: Kafka, opened: LeftOpen, partition: int, commit: bool, offset: int | None, limit_s: float
) -> None:
    """End it by a transaction of its own transactional id, without a record; a producer of that id is fenced.

    With an `offset` it is that of the group as well, which the transaction may still hold. Raises BrokerError.
    """
    deadline, limit_ms = time.monotonic() + limit_s, int(limit_s * 1000)
    producer = None
    try:
        producer = open_producer(
            kafka,
            transactional_id=opened.transactional_id,
            transaction_timeout_ms=limit_ms,
            retry_backoff_ms=5,
            request_timeout_ms=limit_ms,
            delivery_timeout_ms=limit_ms + 5,
            max_block_ms=limit_ms,
        )
        producer.init_transactions()
        _check_same(producer, opened)
        producer.begin_transaction()
        _add(producer, [TopicPartition(topic, partition) for topic in opened.begins], deadline)
        if offset is not None:
            offsets = {TopicPartition(kafka.input_topic, partition): OffsetAndMetadata(offset, "", -1)}
            within(left(deadline), lambda: producer.send_offsets_to_transaction(offsets, kafka.group_id))
        within(left(deadline), producer.commit_transaction if commit else producer.abort_transaction)
    except (KafkaError, TimeoutError) as error:
        fix = fix_for(error, kafka, "Write")
        raise BrokerError(f"the transaction of {opened.transactional_id} is not ended: {error!r}", fix=fix) from error
    finally:
        if producer is not None:
            discard(producer)


def _check_same(producer: KafkaProducer, opened: LeftOpen) -> None:
    """Raises BrokerError where the id has come to another producer, whose transactions end nothing of this one."""
    now = producer._transaction_manager.producer_id_and_epoch.producer_id
    if now != opened.producer:
        raise BrokerError(
            f"the transaction of producer {opened.producer} cannot be ended by {opened.transactional_id}, which is "
            f"producer {now} now",
            fix=BY_HAND,
        )


def _add(producer: KafkaProducer, places: list[TopicPartition], deadline: float) -> None:
    """Make the partitions part of the transaction: a marker comes to each, though nothing was written there."""
    manager = producer._transaction_manager
    for place in places:
        manager.maybe_add_partition_to_transaction(place)
    producer._sender.wakeup()
    while not all(map(manager.is_partition_added, places)):
        if manager.has_error():
            raise manager.last_error
        if time.monotonic() > deadline:
            raise TimeoutError("the partitions are not added to the transaction")
        time.sleep(ADD_S)
