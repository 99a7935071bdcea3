"""The broker contract on Apache Kafka: one group member, one transactional producer, one reader of logs."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from worker.broker.admin import remove_member
from worker.broker.consumer import InputConsumer
from worker.broker.contract import BrokerError, CommitError, LeftOpen, LogRead, Message, Polled
from worker.broker.left_open import end_left_open, left_open
from worker.broker.limits import within
from worker.broker.producer import TransactionalProducer
from worker.broker.restore import LogReader
from worker.refusal import Refusal
from worker.settings.kafka import Kafka
from worker.settings.worker import Worker

if TYPE_CHECKING:
    from worker.broker.librdkafka import consumer as other_consumer
    from worker.broker.librdkafka import producer as other_producer

    Consumer = InputConsumer | other_consumer.InputConsumer
    Producer = TransactionalProducer | other_producer.TransactionalProducer

log = logging.getLogger(__name__)

LEAVE_LIMIT_S = 5.0


class KafkaBroker:
    """Keeps `contract.Broker`; only one thread may call it."""

    def __init__(self, kafka: Kafka, worker: Worker, max_request_bytes: int) -> None:
        """Join the group. Raises BrokerError when no broker answers or the input topic is not there; Refusal."""
        self._kafka, self._worker = kafka, worker
        self._ended_with_consumer: frozenset[int] = frozenset()
        self._logs = LogReader(kafka)
        self._consumer_class, producer_class = _client(kafka)
        self._producer = producer_class(kafka, worker.commit_timeout_s, max_request_bytes)
        # First the producer: it ends what a predecessor left open, for which committed offsets would have to wait
        self._producer.renew()
        self._consumer: Consumer | None
        try:
            self._consumer = self._consumer_class(kafka, worker)
        except (BrokerError, Refusal):
            self._producer.close()
            raise
        self.partitions = self._consumer.partitions

    def input_id(self) -> str:
        return self._member().input_id()

    def partitions_now(self) -> int:
        return self._consumer.partitions_now() if self._consumer else self.partitions

    def poll(self, timeout_s: float) -> Polled:
        consumer = self._member()
        try:
            polled = consumer.poll(timeout_s)
        except BrokerError:
            self._drop_consumer()
            raise
        ended, self._ended_with_consumer = self._ended_with_consumer, frozenset()
        return replace(polled, ended=polled.ended | ended)

    def committed(self, partition: int) -> int | None:
        return self._member().committed(partition)

    def bounds(self, partition: int) -> tuple[int, int]:
        return self._member().bounds(partition)

    def start(self, partition: int, offset: int) -> None:
        self._member().start(partition, offset)

    def rest(self, partition: int, offset: int) -> None:
        self._member().rest(partition, offset)

    def open_changelog(self, partition: int) -> LogRead:
        return self._logs.open(self._kafka.changelog_topic, partition)

    def open_input(self, partition: int, offset: int) -> LogRead:
        return self._logs.open(self._kafka.input_topic, partition, offset)

    def open_end(
        self, topic: str, partition: int, last: int, before: int | None = None, undecided: bool = False
    ) -> LogRead:
        return self._logs.open(topic, partition, last=last, before=before, undecided=undecided)

    def left_open(self, topics: Sequence[str], partition: int) -> list[LeftOpen]:
        return left_open(self._kafka, topics, partition)

    def end_left_open(self, left: LeftOpen, partition: int, commit: bool) -> None:
        end_left_open(self._kafka, left, partition, commit)

    def commit(self, messages: Sequence[Message], offsets: dict[int, int], membership: object) -> None:
        if self._consumer is None:
            raise CommitError("the consumer failed: renew first", outcome="refused")
        self._producer.commit(messages, offsets, membership)

    def renew(self) -> None:
        self._logs.renew()
        if not self._producer.usable:
            self._producer.renew()
        if self._consumer is not None and self._consumer.stuck:
            self._drop_consumer()
        if self._consumer is None:
            self._consumer = self._consumer_class(self._kafka, self._worker, self.partitions)

    def lag(self) -> dict[int, int]:
        return self._consumer.lag() if self._consumer else {}

    def silence(self) -> str | None:
        return self._consumer.silence.words(self._consumer.started) if self._consumer else None

    def close(self, leave: bool) -> None:
        self._producer.close()
        self._drop_consumer()
        self._logs.close()
        if leave:
            self._leave()

    def _member(self) -> "Consumer":
        if self._consumer is None:
            raise BrokerError("the consumer failed: renew first")
        return self._consumer

    def _drop_consumer(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._ended_with_consumer |= consumer.held()
            consumer.close()

    def _leave(self) -> None:
        kafka = self._kafka
        try:
            within(LEAVE_LIMIT_S, lambda: remove_member(kafka, kafka.group_id, kafka.instance_id))
        except (BrokerError, Refusal, TimeoutError) as error:
            log.warning("not removed from group %s, others wait for the session to end: %r", kafka.group_id, error)


def _client(kafka: Kafka) -> tuple["type[Consumer]", "type[Producer]"]:
    """The classes of the client that the settings choose. Raises Refusal where it is not installed."""
    if kafka.client == "kafka-python":
        return InputConsumer, TransactionalProducer
    try:
        from worker.broker.librdkafka import consumer, producer
    except ImportError as error:
        raise Refusal(
            f"kafka.client is librdkafka, which needs {error.name}, and it is not installed: "
            "pip install 'foldcast[librdkafka]'"
        ) from error
    return consumer.InputConsumer, producer.TransactionalProducer
