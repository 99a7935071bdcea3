"""Whose lives began and ended, noted as the group's rebalances give partitions out and take them back."""

import logging
from collections.abc import Iterable
from threading import Lock

from kafka import KafkaConsumer
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.structs import TopicPartition

log = logging.getLogger(__name__)


class Lives:
    """Notes whose lives began and ended, on whatever thread; which partitions, not of which topic."""

    def __init__(self) -> None:
        self.partitions = 0  # those beyond are ignored
        self._lock = Lock()
        self._held: set[int] = set()
        self._began: set[int] = set()
        self._ended: set[int] = set()

    def assigned(self, partitions: Iterable[int]) -> None:
        """Begin the lives of these partitions."""
        every = {*partitions}
        began = {p for p in every if p < self.partitions}
        if extra := sorted(every - began):
            log.warning("ignoring partitions %s: there were %d at start", extra, self.partitions)
        with self._lock:
            self._held |= began
            self._began |= began

    def revoked(self, partitions: Iterable[int]) -> None:
        """End the lives of these partitions."""
        ended = {p for p in partitions if p < self.partitions}
        with self._lock:
            self._held -= ended
            self._began -= ended
            self._ended |= ended

    def take(self) -> tuple[frozenset[int], frozenset[int]]:
        """What began and what ended since the last call."""
        with self._lock:
            began, ended = frozenset(self._began), frozenset(self._ended)
            self._began.clear()
            self._ended.clear()
        return began, ended

    def held(self) -> frozenset[int]:
        with self._lock:
            return frozenset(self._held)


class Assignment(Lives, ConsumerRebalanceListener):  # type: ignore[misc]
    """What kafka-python calls on its I/O thread while `poll` or `close` waits for it."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        super().__init__()
        self._consumer = consumer

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        for tp in assigned:
            self._consumer.pause(tp)
            # Without a position poll() raises NoOffsetForPartitionError for a new group, paused or not
            self._consumer.seek(tp, 0)
        self.assigned(tp.partition for tp in assigned)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self.revoked(tp.partition for tp in revoked)

    def begin_anew(self) -> None:
        """End the lives of all held partitions and begin new ones."""
        held = self.held()
        tps = [TopicPartition(topic, p) for topic, p in self._consumer.assignment() if p in held]
        self.on_partitions_revoked(tps)
        self.on_partitions_assigned(tps)
