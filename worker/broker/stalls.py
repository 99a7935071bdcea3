"""Partitions that a consumer forgets: it has its place, the log goes on, and nothing comes, without an error."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from worker.broker.contract import BrokerError, NotYet

STILL_S = 20.0  # without a step before it is asked whether there is one to take


class Stalls:
    """Looks at how far a consumer has read. Seen with kafka-python 3.0.12 after a session ended, for minutes."""

    def __init__(self, consumer: KafkaConsumer, topic: str, end_of: Callable[[int], int]) -> None:
        """`end_of` asks for the offset after a partition's last readable record; it may raise NotYet."""
        self._consumer, self._topic, self._end_of = consumer, topic, end_of
        self._since: dict[int, tuple[int, float]] = {}  # by partition: where it is, and since when

    def look(self, positions: Mapping[int, int]) -> None:
        """Take note of where each started partition is now; ask about at most one. Raises BrokerError."""
        now = time.monotonic()
        self._since = {
            partition: before if (before := self._since.get(partition)) and before[0] == at else (at, now)
            for partition, at in positions.items()
        }
        for partition, (at, since) in self._since.items():
            if now - since > STILL_S:
                self._ask(partition, at, now)
                return

    def _ask(self, partition: int, at: int, now: float) -> None:
        self._since[partition] = at, now
        if self._waits(TopicPartition(self._topic, partition)):
            return
        with suppress(NotYet):  # then it is not the consumer
            if (end := self._end_of(partition)) > at:
                place = f"{self._topic}-{partition} from {at} on, though there is more up to {end}"
                raise BrokerError(f"the client reads nothing of {place}", fix="if that comes back, restart the worker")

    def _waits(self, tp: TopicPartition) -> bool:
        """Whether it is not to be read now, or what was fetched of it waits for its turn behind other partitions."""
        fetcher = self._consumer._fetcher
        fetched = [*fetcher._completed_fetches.copy(), *filter(None, [fetcher._next_partition_records])]
        return tp in self._consumer.paused() or any(one.topic_partition == tp for one in fetched)
