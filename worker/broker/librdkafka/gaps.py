"""Records that a log has lost from its middle, told from markers and aborted records, of which librdkafka says nothing.

Whatever lies between two records is read once more, by the client that can tell. Only inputs that are written in
transactions, or were compacted, have anything there.
"""

import time
from contextlib import suppress

from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from worker.broker.contract import NotYet
from worker.broker.fixes import no_answer
from worker.broker.holes import Holes
from worker.broker.limits import asking, within
from worker.broker.security import open_consumer
from worker.settings.kafka import Kafka

LIMIT_S = 5.0
POLL_MS = 200
CLOSE_LIMIT_S = 5.0
FETCH_BYTES = 1 << 20


class Gaps:
    """Looks at stretches of the input in which offsets are missing."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._consumer: KafkaConsumer | None = None
        self._holes: Holes

    def lost(self, partition: int, low: int, high: int) -> int:
        """Return from how many offsets of `low` to `high` the log has lost the record. Raises BrokerError, Refusal."""
        tp = TopicPartition(self._kafka.input_topic, partition)
        what, read, deadline = f"gap of {tp.topic}-{partition} before {high}", 0, time.monotonic() + LIMIT_S
        with asking(self._kafka, what):
            consumer = self._opened()
            consumer.assign([tp])
            consumer.seek(tp, low)
            self._holes.start(partition, low)
            while consumer.position(tp, timeout_ms=0) < high:
                if time.monotonic() > deadline:
                    raise NotYet(f"{what}: no answer yet", fix=no_answer(self._kafka))
                rows = consumer.poll(timeout_ms=POLL_MS).get(tp, ())
                read += sum(row.offset < high for row in rows)
        return self._holes.passed(partition, read, high)

    def _opened(self) -> KafkaConsumer:
        if self._consumer is None:
            self._consumer = open_consumer(
                self._kafka,
                isolation_level="read_committed",
                auto_offset_reset="none",
                max_partition_fetch_bytes=FETCH_BYTES,
                fetch_max_wait_ms=50,
            )
            self._holes = Holes(self._consumer)
        return self._consumer

    def close(self) -> None:
        """Close the client. Never raises."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with suppress(KafkaError, RuntimeError, TimeoutError):
                within(CLOSE_LIMIT_S, lambda: consumer.close(timeout_ms=CLOSE_LIMIT_S * 1000))
