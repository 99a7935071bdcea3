"""The group's committed offsets as one of its members asks for them: none that a transaction may still move."""

import time
from collections.abc import Iterable

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from worker.broker import admin
from worker.broker.contract import BrokerError, NotYet, OffsetHeld, longest_transaction_s
from worker.broker.fixes import no_answer
from worker.broker.holds import Holds
from worker.broker.limits import Patience, asking, within
from worker.refusal import Refusal
from worker.settings.kafka import Kafka

ASK_LIMIT_S = 0.5  # the loop stands still meanwhile
HELD_LIMIT_S = 3.0  # likewise, and seldom


class StableOffsets:
    """Asks through one consumer of the group, which is `read_committed`."""

    def __init__(self, kafka: Kafka, consumer: KafkaConsumer, patience: Patience, commit_timeout_s: float) -> None:
        self._kafka, self._consumer, self._patience = kafka, consumer, patience
        self._stale_answers: set[int] = set()
        self.longest_s = longest_transaction_s(commit_timeout_s)
        self._holds = Holds(consumer, 2 * self.longest_s)

    def committed(self, partition: int) -> int | None:
        """The group's offset, once no transaction holds it. Raises NotYet, OffsetHeld, BrokerError."""
        began = time.monotonic()
        try:
            # A call that timed out leaves its request behind, and the next call gets that old answer (kafka-python
            # 3.0.12), perhaps from before another worker owned the partition: throw one answer away.
            with self._patience.asking(partition, self.longest_s):
                if partition in self._stale_answers:
                    self._ask(partition)
                return self._ask(partition)
        except NotYet:
            if self._holds.unanswered(partition, began) <= self.longest_s:
                raise
            raise self._held(partition) from None

    def _ask(self, partition: int) -> int | None:
        self._stale_answers.add(partition)
        tp = TopicPartition(self._kafka.input_topic, partition)
        with asking(self._kafka, f"committed offset of {tp.topic}-{partition}"):
            offset: int | None = self._consumer.committed(tp, timeout_ms=ASK_LIMIT_S * 1000)
        self._stale_answers.discard(partition)
        return offset

    def _held(self, partition: int) -> OffsetHeld:
        """What is known of an offset that a transaction holds, though nobody of the group can have one open any more.

        A coordinator that was killed and started again may lose a transaction's end (Kafka 4.3.1). Raises NotYet.
        """
        kafka, what = self._kafka, f"committed offset of {self._kafka.input_topic}-{partition}"
        try:
            offsets = within(HELD_LIMIT_S, lambda: admin.group_offsets(kafka, kafka.group_id, kafka.input_topic))
        except (BrokerError, Refusal, TimeoutError) as error:
            raise NotYet(f"{what}: no answer yet ({error!r})", fix=no_answer(kafka)) from error
        self._patience.forget([partition])
        return OffsetHeld(
            f"{what} is held by a transaction for longer than any of this group lasts",
            offsets.get(partition),
            fix="see with kafka-transactions.sh find-hanging whose it is",
        )

    def forget(self, partitions: Iterable[int]) -> None:
        """Begin anew to count for how long a transaction holds the offsets of these partitions."""
        self._holds.forget(partitions)
