"""Brokers that leave fetches without an answer: the client tries again and again, and raises nothing."""

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from worker.broker.contract import SILENT_S


class Silence:
    """When each partition's leader last answered a fetch of one consumer.

    kafka-python 3.0.12 has this for all brokers together at most, in a metric; so its fetcher is listened to.
    """

    def __init__(self, consumer: KafkaConsumer, topic: str) -> None:
        self._consumer, self._topic = consumer, topic
        self._heard: dict[int, float] = {}  # by partition, of the monotonic clock; written by the client's thread too
        self._since = time.monotonic()  # nothing before counts
        self.answers = Counter[Any]()  # fetches, by broker
        fetcher = consumer._fetcher
        self._handle = fetcher._handle_fetch_response
        fetcher._handle_fetch_response = self._answered

    def _answered(self, node: Any, offsets: dict[TopicPartition, int], sent: float, response: Any) -> None:
        self.answers[node] += 1
        self._heard.update(dict.fromkeys((tp.partition for tp in offsets), time.monotonic()))
        self._handle(node, offsets, sent, response)

    def over(self, partition: int | None = None) -> None:
        """Begin anew to count the time: of this partition, or of all."""
        now = time.monotonic()
        if partition is None:
            self._since = now
        else:
            self._heard[partition] = now

    def lasts(self, partition: int) -> bool:
        """Whether its leader has not answered for long."""
        return self._lasts_s(partition) > SILENT_S

    def _lasts_s(self, partition: int) -> float:
        now = time.monotonic()
        if self._consumer._fetcher._completed_fetches:  # while fetched records wait the client asks for none
            self._since = now
        return now - max(self._heard.get(partition, self._since), self._since)

    def words(self, partitions: Iterable[int]) -> str | None:
        """Return which brokers do not answer for these partitions and for how long; None where all do."""
        silent = {p: self._lasts_s(p) for p in partitions if self._fetches(p) and self.lasts(p)}
        if not silent:
            return None
        addresses = sorted({self._leader(p) for p in silent})
        return f"no answer from {', '.join(addresses)} for {max(silent.values()):.0f} s"

    def _fetches(self, partition: int) -> bool:
        """Whether it is asked for more: not while it rests, or there is something of it that was not handed out yet."""
        tp = TopicPartition(self._topic, partition)
        state = self._consumer._subscription.assignment.get(tp)
        at_end = state is not None and state.position is not None and state.highwater == state.position.offset
        return at_end and not state.paused

    def _leader(self, partition: int) -> str:
        cluster = self._consumer._cluster
        node = cluster.broker_metadata(cluster.leader_for_partition(TopicPartition(self._topic, partition)))
        return f"{node.host}:{node.port}" if node else "a leader that is not known"
