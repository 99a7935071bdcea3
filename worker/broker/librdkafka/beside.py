"""What librdkafka has no answer to, asked through a consumer of kafka-python that joins nothing."""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from worker.broker.contract import BrokerError, NotYet
from worker.broker.fixes import fix_for, no_answer
from worker.broker.holes import Holes
from worker.broker.limits import asking
from worker.broker.security import open_consumer
from worker.settings.kafka import Kafka

LIMIT_S = 5.0
POLL_MS = 200


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
            fetch_max_wait_ms=50,
        )
    except KafkaError as error:
        raise BrokerError(f"no consumer: {error!r}", fix=fix_for(error, kafka)) from error


class Gaps:
    """Records that a log has lost from its middle, told from markers and aborted records.

    What lies between two records is read once more; only inputs that are written in transactions, or were compacted,
    have anything there.
    """

    def __init__(self, kafka: Kafka, consumer: KafkaConsumer) -> None:
        self._kafka, self._consumer, self._holes = kafka, consumer, Holes(consumer)

    def lost(self, partition: int, low: int, high: int, offsets: Sequence[int]) -> int:
        """Return from how many offsets of `low` to `high`, of which these have come, the log has lost the record.

        Raises BrokerError.
        """
        if high - low == len(offsets):
            return 0
        places = range(
            len(offsets)
        )  # each with as many offsets missing before it as the difference is greater than low
        first = bisect_right(places, low, key=lambda place: offsets[place] - place)
        last = bisect_left(places, high - len(offsets), key=lambda place: offsets[place] - place)
        begin = offsets[first - 1] + 1 if first else low
        return self._look(partition, begin, offsets[last] if last < len(offsets) else high)

    def _look(self, partition: int, low: int, high: int) -> int:
        tp, consumer = TopicPartition(self._kafka.input_topic, partition), self._consumer
        what, read, deadline = f"gap of {tp.topic}-{partition} before {high}", 0, time.monotonic() + LIMIT_S
        with asking(self._kafka, what):
            consumer.assign([tp])
            consumer.seek(tp, low)
            self._holes.start(partition, low)
            while consumer.position(tp, timeout_ms=0) < high:
                if time.monotonic() > deadline:
                    raise NotYet(f"{what}: no answer yet", fix=no_answer(self._kafka))
                read += sum(row.offset < high for row in consumer.poll(timeout_ms=POLL_MS).get(tp, ()))
            consumer.assign([])
        return self._holes.passed(partition, read, high)
