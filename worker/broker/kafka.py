"""The broker contract on Apache Kafka: one group member, one transactional producer, one changelog reader."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from worker.broker.admin import remove_member
from worker.broker.consumer import ConsumerOptions, InputConsumer
from worker.broker.contract import BrokerError, ChangelogRead, CommitError, Message, Polled, longest_transaction_s
from worker.broker.limits import within
from worker.broker.producer import ProducerOptions, TransactionalProducer
from worker.broker.restore import ChangelogReader
from worker.broker.security import Connection

log = logging.getLogger(__name__)

LEAVE_LIMIT_S = 5.0


@dataclass(frozen=True)
class BrokerOptions:
    """`instance_id` names this worker among all that live; it must be the same after a restart."""

    connection: Connection
    input_topic: str
    changelog_topic: str
    group_id: str
    instance_id: str
    session_timeout_s: float = 10.0
    max_poll_interval_s: float = 120.0
    max_poll_records: int = 2000
    max_request_bytes: int = 1_048_576
    commit_timeout_s: float = 15.0


class KafkaBroker:
    """Keeps `contract.Broker`; only one thread may call it."""

    def __init__(self, options: BrokerOptions) -> None:
        """Join the group. Raises BrokerError when no broker answers or the input topic is not there."""
        self._options = options
        self._ended_with_consumer: frozenset[int] = frozenset()
        self._changelog = ChangelogReader(options.connection, options.changelog_topic)
        self._producer = TransactionalProducer(_producer_options(options))
        # First the producer: it ends what a predecessor left open, for which committed offsets would have to wait
        self._producer.renew()
        self._consumer: InputConsumer | None
        try:
            self._consumer = InputConsumer(_consumer_options(options))
        except BrokerError:
            self._producer.close()
            raise
        self.partitions = self._consumer.partitions

    def poll(self, timeout_s: float) -> Polled:
        """See the contract."""
        consumer = self._member()
        try:
            polled = consumer.poll(timeout_s)
        except BrokerError:
            self._drop_consumer()
            raise
        ended, self._ended_with_consumer = self._ended_with_consumer, frozenset()
        return Polled(polled.records, polled.began, polled.ended | ended, polled.membership)

    def committed(self, partition: int) -> int | None:
        """See the contract."""
        return self._member().committed(partition)

    def bounds(self, partition: int) -> tuple[int, int]:
        """See the contract."""
        return self._member().bounds(partition)

    def start(self, partition: int, offset: int) -> None:
        """See the contract."""
        self._member().start(partition, offset)

    def open_changelog(self, partition: int) -> ChangelogRead:
        """See the contract."""
        return self._changelog.open(partition)

    def commit(self, messages: Sequence[Message], offsets: dict[int, int], membership: object) -> None:
        """See the contract."""
        if self._consumer is None:
            raise CommitError("the consumer failed: renew first", outcome="refused")
        self._producer.commit(messages, offsets, membership)

    def renew(self) -> None:
        """See the contract."""
        self._changelog.renew()
        if not self._producer.usable:
            self._producer.renew()
        if self._consumer is not None and self._consumer.stuck:
            self._drop_consumer()
        if self._consumer is None:
            self._consumer = InputConsumer(_consumer_options(self._options), self.partitions)

    def lag(self) -> dict[int, int]:
        """See the contract."""
        return self._consumer.lag() if self._consumer else {}

    def close(self, leave: bool) -> None:
        """See the contract."""
        self._producer.close()
        self._drop_consumer()
        self._changelog.close()
        if leave:
            self._leave()

    def _member(self) -> InputConsumer:
        if self._consumer is None:
            raise BrokerError("the consumer failed: renew first")
        return self._consumer

    def _drop_consumer(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._ended_with_consumer |= consumer.held()
            consumer.close()

    def _leave(self) -> None:
        options = self._options
        try:
            within(LEAVE_LIMIT_S, lambda: remove_member(options.connection, options.group_id, options.instance_id))
        except (BrokerError, TimeoutError) as error:
            log.warning("not removed from group %s, others wait for the session to end: %r", options.group_id, error)


def _producer_options(options: BrokerOptions) -> ProducerOptions:
    return ProducerOptions(
        connection=options.connection,
        transactional_id=f"{options.group_id}/{options.instance_id}",
        group_topic=options.input_topic,
        max_request_bytes=options.max_request_bytes,
        commit_timeout_s=options.commit_timeout_s,
    )


def _consumer_options(options: BrokerOptions) -> ConsumerOptions:
    return ConsumerOptions(
        connection=options.connection,
        topic=options.input_topic,
        group_id=options.group_id,
        instance_id=options.instance_id,
        session_timeout_s=options.session_timeout_s,
        max_poll_interval_s=options.max_poll_interval_s,
        max_poll_records=options.max_poll_records,
        longest_transaction_s=longest_transaction_s(options.commit_timeout_s),
    )
