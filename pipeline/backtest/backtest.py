"""The same engine over records that are already there: shards advanced in file order, forecasts come out.

A stream goes to partition crc32(name) mod P. Records pass the worker's own decoder, so the same events give the same
bits as they do there.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple
from zlib import crc32

from pipeline.backtest.inline import InlineTrainer
from pipeline.batch import Rejected
from pipeline.events import Decoder
from pipeline.forecasts import Forecasts
from pipeline.shard import Shard

BATCH = 20_000  # records read before the shards are advanced


class Record(NamedTuple):
    """An input record as Kafka would have it, and where it came from."""

    place: int  # in the source; a line of a file
    stream: str
    timestamp_ms: int
    value: bytes


class Refused(NamedTuple):
    """A record that is no event."""

    record: Record
    reason: str
    message: str


class Part(NamedTuple):
    """What one partition made of the records read last."""

    partition: int
    forecasts: Forecasts
    refused: list[Refused]


def partition_of(stream: str, partitions: int) -> int:
    """Return the partition that a stream lives in."""
    return crc32(stream.encode()) % partitions


def backtest(
    records: Iterable[Record],
    shards: Sequence[Shard],
    decoder: Decoder,
    trainers: Sequence[InlineTrainer] = (),
    batch: int = BATCH,
) -> Iterator[Part]:
    """Advance one shard per partition through records in time order, fine-tuned by its trainer where it has one.

    The bits do not depend on `batch`.
    """
    waiting = iter(records)
    while some := list(islice(waiting, batch)):
        by_partition: list[list[Record]] = [[] for _ in shards]
        for record in some:
            by_partition[partition_of(record.stream, len(shards))].append(record)
        for partition, mine in enumerate(by_partition):
            low = 0
            while low < len(mine):
                high = low + trainers[partition].missing() if trainers else len(mine)
                yield _advance(partition, shards[partition], mine[low:high], decoder)
                low = high
                if trainers:
                    trainers[partition].turn()


def _advance(partition: int, shard: Shard, records: list[Record], decoder: Decoder) -> Part:
    events, rejected = decoder.decode(
        range(shard.position, shard.position + len(records)),
        [r.timestamp_ms for r in records],
        [r.stream.encode() for r in records],
        [r.value for r in records],
    )
    refused = [_refused(records, r) for r in rejected]
    return Part(partition, shard.advance(events), refused)


def _refused(records: list[Record], rejected: Rejected) -> Refused:
    return Refused(records[rejected.place], rejected.reason, rejected.message)
