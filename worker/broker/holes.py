"""Records that a log has lost from its middle, told from markers and aborted records, which nobody hands out either.

The offsets of a log have no holes as it is written; only compaction makes some.
"""

from functools import partial
from typing import Any

from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher


class Holes:
    """Counts, for a `read_committed` consumer, the offsets that it passed by and that nothing accounts for."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._next: dict[int, int] = {}  # by partition: all below it is accounted for
        self._hidden: dict[int, dict[int, int]] = {}  # by partition: ends of batches that hold no records, by first
        # No interface tells of what is not handed out (kafka-python 3.0.12)
        consumer._fetcher.PartitionRecords = partial(_Watched, self._hidden)

    def start(self, partition: int, offset: int) -> None:
        """Count from `offset` on, from which the consumer reads next."""
        self._next[partition] = offset

    def passed(self, partition: int, records: int, end: int) -> int:
        """How many offsets up to `end` are missing, where so many records came since the last call or the start."""
        low, self._next[partition] = self._next[partition], end
        if low == end:  # as with most of hundreds that are quiet
            return 0
        hidden = self._hidden.get(partition, {})
        spans = [(first, after) for first, after in hidden.items() if first < end]
        accounted = sum(max(0, min(after, end) - max(first, low)) for first, after in spans)
        for first, after in spans:
            if after <= end:
                del hidden[first]
        return end - low - records - accounted


class _Watched(Fetcher.PartitionRecords):  # type: ignore[misc]
    """A fetched run of batches; the client calls these methods for each of a producer with an id, in order."""

    def __init__(
        self, hidden: dict[int, dict[int, int]], fetch_offset: int, tp: Any, *rest: Any, **options: Any
    ) -> None:
        self._hidden_spans = hidden.setdefault(tp.partition, {})
        super().__init__(fetch_offset, tp, *rest, **options)

    def _contains_abort_marker(self, batch: Any) -> bool:
        if batch.is_control_batch:
            self._hidden_spans[batch.base_offset] = batch.next_offset
        return bool(super()._contains_abort_marker(batch))

    def _is_batch_aborted(self, batch: Any) -> bool:
        aborted = bool(super()._is_batch_aborted(batch))
        if aborted:
            self._hidden_spans[batch.base_offset] = batch.next_offset
        return aborted
