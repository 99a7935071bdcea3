"""Committed offsets that a transaction holds: the client waits for its end, and does not say that it does."""

import time
from collections.abc import Iterable
from typing import Any

from kafka import KafkaConsumer
from kafka.errors import UnstableOffsetCommitError


class Holds:
    """For how long a coordinator, whenever it was asked for a partition's offset, answered that a transaction holds it.

    kafka-python 3.0.12 asks again until its time is up, whatever the answer; so its coordinator is listened to.
    """

    def __init__(self, consumer: KafkaConsumer, gap_s: float) -> None:
        """`gap_s`: of two answers further apart nobody knows what was in between."""
        self._gap_s = gap_s
        self._told = 0.0  # when it last answered so, of the monotonic clock; written by the client's thread
        self._spans: dict[int, tuple[float, float]] = {}  # by partition
        coordinator = consumer._coordinator
        self._handle = coordinator._handle_offset_fetch_response
        coordinator._handle_offset_fetch_response = self._answered

    def _answered(self, response: Any) -> Any:
        try:
            return self._handle(response)
        except UnstableOffsetCommitError:
            self._told = time.monotonic()
            raise

    def unanswered(self, partition: int, began: float) -> float:
        """An ask that began then has brought no offset; return for how many seconds a transaction holds it by now."""
        if self._told < began:
            return 0.0
        first, last = self._spans.get(partition, (began, began))
        if began - last > self._gap_s:
            first = began
        self._spans[partition] = first, self._told
        return self._told - first

    def forget(self, partitions: Iterable[int]) -> None:
        """Begin anew to count the time of these partitions."""
        for partition in partitions:
            self._spans.pop(partition, None)
