"""What a changelog holds is told, whatever else somebody has written to it."""

from collections.abc import Iterator

import pytest

from pipeline.method import Method
from tests.rigs.shard_rigs import shard_of
from worker import inspection
from worker.broker.contract import LogRecord
from worker.broker.restore import LogReader
from worker.inspection import Contents
from worker.lives.loading import cold_start
from worker.settings.kafka import Kafka


def test_a_null_key_is_counted_and_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [LogRecord(*record) for record in cold_start(shard_of(Method(hidden_size=8)))]
    null = LogRecord(None, b"four")

    def whole(*_: object) -> Iterator[LogRecord]:
        yield from (null, *records)

    monkeypatch.setattr(inspection, "whole", whole)
    one = Contents(0, 0, 0)
    inspection._read(one, LogReader(Kafka()), "changelog")
    assert one.marker is not None
    assert one.problems == []
    assert one.records == len(records) + 1
    assert one.bytes == 4 + sum(len(record.key) + len(record.value or b"") for record in records)
