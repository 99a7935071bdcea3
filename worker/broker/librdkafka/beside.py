"""What librdkafka has no answer to, asked through a consumer of kafka-python that joins nothing."""

import math
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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

ANSWER_S = 0.5  # without any progress the loop stands still so long
LIMIT_S = 10.0  # without an answer, however often it was asked
POLL_MS = 10  # it goes on for its whole time where only markers come (kafka-python 3.0.12)
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
        self._since: dict[int, float] = {}  # by partition: when it was looked at first without an answer

    def lost(self, gaps: Mapping[int, Gap]) -> dict[int, int]:
        """Return from how many offsets in the gap of each partition the log has lost the record.

        A partition without an answer is missing: look again. Raises BrokerError where that lasts, and where there is a
        record that has not come: librdkafka has passed it by.
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

    def forget(self, partitions: Iterable[int]) -> None:
        """Begin anew to count for how long looks at these partitions have no answer."""
        for partition in partitions:
            self._since.pop(partition, None)

    def _read(self, gaps: dict[int, Gap]) -> dict[int, int]:
        lost, read = dict[int, int](), Counter[int]()
        until = time.monotonic() + ANSWER_S
        while gaps and time.monotonic() < until:
            before = read.total()
            for tp, rows in self._consumer.poll(timeout_ms=POLL_MS).items():
                if tp.partition in gaps:
                    read[tp.partition] += sum(row.offset < gaps[tp.partition].high for row in rows)
            ended = {p: gap for p, gap in gaps.items() if self._position(p) >= gap.high}
            for partition, gap in ended.items():
                self._consumer.pause(TopicPartition(self._kafka.input_topic, partition))
                del gaps[partition]
                lost[partition] = self._judged(partition, gap, read[partition])
            if ended or read.total() > before:
                until = time.monotonic() + ANSWER_S
        self.forget(lost)
        first = min((self._since.setdefault(p, time.monotonic()) for p in gaps), default=math.inf)
        if time.monotonic() - first > LIMIT_S:
            raise NotYet(f"gaps of {self._kafka.input_topic} {gaps}: no answer yet", fix=no_answer(self._kafka))
        return lost

    def _position(self, partition: int) -> int:
        tp = TopicPartition(self._kafka.input_topic, partition)
        position: int = self._consumer.position(tp, timeout_ms=0)
        return position

    def _judged(self, partition: int, gap: Gap, read: int) -> int:
        if read != gap.records:
            has = f"{self._kafka.input_topic}-{partition} has {read} records from {gap.low} to {gap.high}"
            fix = "if that comes back, set kafka.client to kafka-python"
            raise BrokerError(f"{has}, {gap.records} came", fix=fix)
        return self._holes.passed(partition, read, gap.high)
