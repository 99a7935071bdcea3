"""What the input topic gave to learn from: each partition, from its oldest record to its end of now."""

from collections.abc import Iterator
from itertools import islice

from tqdm import tqdm

from pipeline.pretraining.sequences import Collector
from worker.backtest.run import QUIET_S
from worker.broker.admin import bounds
from worker.broker.contract import LogRecord
from worker.broker.restore import LogReader, whole
from worker.plan import Plan
from worker.pretrain.reading import Source
from worker.settings.kafka import Kafka

AT_ONCE = 5_000  # records


def from_topic(kafka: Kafka, plan: Plan, held_out: float) -> Iterator[Source]:
    """Fold each partition by a shard of its own; the group and its offsets are left alone. Raises BrokerError."""
    ends, logs = bounds(kafka, kafka.input_topic), LogReader(kafka)
    total = sum(end - first for first, end in ends.values())
    bar = tqdm(total=total, unit=" offsets", unit_scale=True, desc=kafka.input_topic, delay=QUIET_S, disable=None)
    try:
        with bar:
            for partition, (first, end) in sorted(ends.items()):
                shard, collector = plan.shard(first), Collector(plan.method)
                shard.wave.then(collector)
                records = whole(logs, kafka.input_topic, partition)
                while some := list(islice(records, AT_ONCE)):
                    before = shard.position
                    shard.advance(plan.decoder.decode(*_columns(some))[0])
                    bar.update(shard.position - before)
                if end > first:
                    name = f"{kafka.input_topic}-{partition}"
                    yield Source(name, len(shard.table.index), collector.sequences(held_out))
    finally:
        logs.close()


def _columns(records: list[LogRecord]) -> tuple[list[int], list[int], list[bytes | None], list[bytes | None]]:
    """As the decoder takes them: offsets, timestamps in ms, keys, values."""
    return (
        [one.offset for one in records],
        [one.timestamp_ms for one in records],
        [one.key for one in records],
        [one.value for one in records],
    )
