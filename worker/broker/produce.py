"""A quick producer without transactions, for feeders, tests and auditors."""

from types import TracebackType
from typing import Any

from kafka.errors import KafkaError

from worker.broker.contract import BrokerError
from worker.broker.producer import close
from worker.broker.security import open_producer
from worker.settings.kafka import Kafka


class FastProducer:
    """Sends records in big idempotent batches; `flush` says whether all of them arrived."""

    def __init__(self, kafka: Kafka, limit_s: float = 30.0, max_request_bytes: int = 8 << 20) -> None:
        """Raises BrokerError when no broker answers."""
        self._limit_s = limit_s
        self._failed: list[BaseException] = []
        try:
            self._producer = open_producer(
                kafka,
                batch_size=1_000_000,
                linger_ms=20,
                max_request_size=max_request_bytes,
                max_block_ms=int(limit_s * 1000),
                delivery_timeout_ms=int(limit_s * 1000),
                request_timeout_ms=int(limit_s * 500),
            )
        except KafkaError as error:
            raise BrokerError(f"no producer: {error!r}") from error

    def send(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int | None = None,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> None:
        """Queue a record. Raises BrokerError when the topic or partition is not there."""
        try:
            future: Any = self._producer.send(topic, value, key, headers, partition, timestamp_ms)
        except (KafkaError, ValueError) as error:
            raise BrokerError(f"not sent to {topic}-{partition}: {error!r}") from error
        future.add_errback(self._failed.append)

    def flush(self) -> None:
        """Wait for everything sent. Raises BrokerError when a record did not arrive."""
        try:
            self._producer.flush(self._limit_s)
        except KafkaError as error:
            raise BrokerError(f"not flushed: {error!r}") from error
        if self._failed:
            first, count = self._failed[0], len(self._failed)
            self._failed.clear()
            raise BrokerError(f"{count} records did not arrive, the first because of {first!r}") from first

    def close(self) -> None:
        """Flush what can be flushed and close."""
        close(self._producer, self._limit_s)

    def __enter__(self) -> "FastProducer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
