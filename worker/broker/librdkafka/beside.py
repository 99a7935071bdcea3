"""What librdkafka has no answer to, asked through a consumer of kafka-python that joins nothing."""

import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from worker.broker.contract import BrokerError, NotYet
from worker.broker.fixes import fix_for, no_answer
from worker.broker.holes import Holes
from worker.broker.limits import asking
from worker.broker.security import open_consumer
from worker.settings.kafka import Kafka

LIMIT_S = 10.0  # the loop stands still meanwhile
POLL_MS = 200
FETCH_BYTES = 256 << 10


def open_beside(kafka: Kafka) -> KafkaConsumer:
    """Open the consumer: it has a sentence for whatever is wrong on the way to the brokers, too.

    Raises BrokerError, Refusal.
    """
    try:
        return open_consumer(
            kafka,
            group_id=kafka.group_id,
            isolation_level="read_committed",
            auto_offset_reset="none",
            fetch_max_wait_ms=1,  # the fetch that follows a look is for nothing, and the next look waits for its end
            max_partition_fetch_bytes=FETCH_BYTES,
        )
    except KafkaError as error:
        raise BrokerError(f"no consumer: {error!r}", fix=fix_for(error, kafka)) from error


class Gap(NamedTuple):
    """A stretch of a partition in which offsets are missing."""

    low: int
    high: int
    records: int  # that have come from there


def gap(low: int, high: int, offsets: Sequence[int]) -> Gap | None:
    """Return the shortest stretch of `low` to `high` outside of which these offsets are all there are."""
    if high - low == len(offsets):
        return None
    places = range(len(offsets))  # before each as many are missing as its offset, less the place, is above low
    first = bisect_right(places, low, key=lambda place: offsets[place] - place)
    last = bisect_left(places, high - len(offsets), key=lambda place: offsets[place] - place)
    begin, end = offsets[first - 1] + 1 if first else low, offsets[last] if last < len(offsets) else high
    return Gap(begin, end, last - first)


class Gaps:
    """Records that a log has lost from its middle, told from markers and aborted records.

    What lies between two records is read once more; only inputs that are written in transactions, or were compacted,
    have anything there.
    """

    def __init__(self, kafka: Kafka, consumer: KafkaConsumer) -> None:
        self._kafka, self._consumer, self._holes = kafka, consumer, Holes(consumer)

    def lost(self, gaps: Mapping[int, Gap]) -> dict[int, int]:
        """Return from how many offsets in the gap of each partition the log has lost the record.

        Raises BrokerError, also where there is a record that has not come: librdkafka has passed it by.
        """
        topic, consumer = self._kafka.input_topic, self._consumer
        with asking(self._kafka, f"gaps of {topic}"):
            if missing := {TopicPartition(topic, p) for p in gaps} - consumer.assignment():
                consumer.assign([*consumer.assignment(), *missing])
                consumer.pause(*missing)
            for partition, (low, _, _) in gaps.items():
                self._holes.start(partition, low)
                consumer.seek(TopicPartition(topic, partition), low)
                consumer.resume(TopicPartition(topic, partition))
            try:
                return self._read(dict(gaps))
            finally:
                consumer.pause(*consumer.assignment())

    def _read(self, gaps: dict[int, Gap]) -> dict[int, int]:
        topic, lost, read = self._kafka.input_topic, dict[int, int](), Counter[int]()
        deadline = time.monotonic() + LIMIT_S
        while gaps:
            if time.monotonic() > deadline:
                raise NotYet(f"gaps of {topic} {gaps}: no answer yet", fix=no_answer(self._kafka))
            for tp, rows in self._consumer.poll(timeout_ms=POLL_MS).items():
                if tp.partition in gaps:
                    read[tp.partition] += sum(row.offset < gaps[tp.partition].high for row in rows)
            for partition, (low, high, records) in [*gaps.items()]:
                tp = TopicPartition(topic, partition)
                if self._consumer.position(tp, timeout_ms=0) >= high:
                    self._consumer.pause(tp)
                    del gaps[partition]
                    if read[partition] != records:
                        what = f"{topic}-{partition} has {read[partition]} records from {low} to {high}, {records} came"
                        raise BrokerError(what, fix="if that comes back, set kafka.client to kafka-python")
                    lost[partition] = self._holes.passed(partition, read[partition], high)
        return lost
