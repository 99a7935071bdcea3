"""The forecasts that a group has published of a stretch of the input, in its order."""

from collections.abc import Generator, Iterator
from typing import Any

import orjson

from worker.broker.contract import LogRecord, Topics
from worker.broker.headers import texts
from worker.broker.restore import LogReader, whole
from worker.publish import GROUP, event_offset, published_offset
from worker.settings.kafka import Kafka

Body = dict[str, Any]
Key = tuple[int, str]  # offset of the event and name of the stream


class PublishedForecasts:
    """Read once, upwards. A transaction's last forecast says whose they all are: those before it wait for that."""

    def __init__(self, kafka: Kafka, topics: Topics, partition: int, first: int, end: int) -> None:
        self.input = topics.input
        self._logs = LogReader(kafka)
        self._topics, self._partition, self._first, self._end = topics, partition, first, end
        self._reading = self._ours(whole(self._logs, topics.output, partition))
        self._waiting: tuple[Key, Body] | None = next(self._reading, None)

    def up_to(self, offset: int) -> dict[Key, Body]:
        """Return those of events up to an offset that were not returned before. Raises NotYet, BrokerError."""
        found = {}
        while self._waiting is not None and self._waiting[0][0] <= offset:
            key, body = self._waiting
            found[key] = body
            self._waiting = next(self._reading, None)
        return found

    def _ours(self, records: Iterator[LogRecord]) -> Generator[tuple[Key, Body], None, None]:
        """Up to the first transaction that ends at `end` or beyond: a group's forecasts lie in the input's order."""
        run = list[tuple[int, LogRecord]]()
        for record in records:
            facts = texts(record.headers)
            offset = event_offset(facts, self._topics, self._partition)
            if offset is not None and self._first <= offset < self._end:
                run.append((offset, record))
            if GROUP in facts:
                last = published_offset(record.headers, self._topics, self._partition)
                for at, one in run if last is not None else ():
                    body = orjson.loads(one.value or b"{}")
                    yield (at, body["stream"]), body
                if last is not None and last >= self._end:
                    return
                run = []

    def close(self) -> None:
        """Close the clients. Never raises."""
        self._reading.close()
        self._logs.close()
