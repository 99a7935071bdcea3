"""What the input topic gave to learn from: each partition, from its oldest record to its end of now."""

from collections.abc import Iterator
from itertools import islice

from tqdm import tqdm

from pipeline.backtest.backtest import Record, Refused
from pipeline.batch import Rejected
from pipeline.pretraining.sequences import Collector
from worker.backtest.run import QUIET_S, Pass, tell_refused
from worker.broker.admin import bounds
from worker.broker.contract import LogRecord
from worker.broker.restore import LogReader, whole
from worker.plan import Plan
from worker.pretrain.reading import Source
from worker.refusal import Refusal
from worker.room import PROCESS_BYTES, memory_there
from worker.settings.kafka import Kafka

AT_ONCE = 5_000  # records


def from_topic(kafka: Kafka, plan: Plan, held_out: float) -> Iterator[Source]:
    """Fold each partition by a shard of its own; the group and its offsets are left alone.

    Raises BrokerError, and Refusal where memory cannot hold what the topic has.
    """
    ends = bounds(kafka, kafka.input_topic)
    total = sum(end - first for first, end in ends.values())
    last = max((partition for partition, (first, end) in ends.items() if end > first), default=None)
    _check_room(kafka.input_topic, total, plan)
    logs = LogReader(kafka)
    bar = tqdm(total=total, unit=" offsets", unit_scale=True, desc=kafka.input_topic, delay=QUIET_S, disable=None)
    try:
        with bar:
            for partition, (first, end) in sorted(ends.items()):
                shard, collector, done = plan.shard(first), Collector(plan.method), Pass()
                shard.wave.then(collector)
                records = whole(logs, kafka.input_topic, partition)
                while some := list(islice(records, AT_ONCE)):
                    before = shard.position
                    events, rejected = plan.decoder.decode(*_columns(some))
                    shard.advance(events)
                    for one in rejected:
                        done.refuse(_refused(some[one.place], one))
                    bar.update(shard.position - before)
                if end > first:
                    done.doubt = plan.decoder.steps.doubt(plan.decoder.form.time_field, ended=partition == last)
                    name = f"{kafka.input_topic}-{partition}"
                    tell_refused(done, [shard], f"{name}, offset")
                    yield Source(name, len(shard.table.index), collector.sequences(held_out))
    finally:
        logs.close()


def _check_room(topic: str, records: int, plan: Plan) -> None:
    """Raise Refusal where memory cannot hold what so many records give to learn from."""
    most = records * max(1, len(plan.decoder.form.target_fields)) * Collector(plan.method).event_bytes
    memory, source = memory_there()
    if PROCESS_BYTES + most > memory:
        raise Refusal(
            f"--from-topic keeps up to {most >> 20:,} MiB for the {records:,} offsets of {topic}, beside "
            f"{PROCESS_BYTES >> 20}, and there are {memory >> 20:,} ({source}): give more memory, or files of a part"
        )


def _refused(record: LogRecord, rejected: Rejected) -> Refused:
    told = Record(record.offset, (record.key or b"").decode(errors="replace"), record.timestamp_ms, record.value or b"")
    return Refused(told, rejected.reason, rejected.message)


def _columns(records: list[LogRecord]) -> tuple[list[int], list[int], list[bytes | None], list[bytes | None]]:
    """As the decoder takes them: offsets, timestamps in ms, keys, values."""
    return (
        [one.offset for one in records],
        [one.timestamp_ms for one in records],
        [one.key for one in records],
        [one.value for one in records],
    )
