"""Committed offsets of a group without members, once no transaction holds them."""

import time
from collections.abc import Sequence
from contextlib import suppress

from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from worker.broker.admin import group_offsets
from worker.broker.contract import BrokerError, NotYet, OffsetHeld, longest_transaction_s
from worker.broker.fixes import fix_for
from worker.broker.holds import Holds
from worker.broker.limits import asking, within
from worker.broker.security import open_consumer
from worker.settings.kafka import Kafka

ASK_S = 0.2  # of one ask: many partitions may be held, and the worker's watchdog waits
ANSWER_LIMIT_S = 2.0
CLOSE_LIMIT_S = 5.0


def stable_offsets(kafka: Kafka, commit_timeout_s: float, partitions: Sequence[int]) -> dict[int, int]:
    """Return the committed next offsets of `kafka.group_id`; where a transaction holds one for ever, that before it.

    Joins nothing. Waits for as long as a transaction of the group can last. Raises NotYet, BrokerError, Refusal.
    """
    patience_s = longest_transaction_s(commit_timeout_s)
    held, offsets, until_s = set[int](), dict[int, int](), time.monotonic() + patience_s
    try:
        consumer = open_consumer(kafka, group_id=kafka.group_id, isolation_level="read_committed")
    except KafkaError as error:
        raise BrokerError(f"no consumer: {error!r}", fix=fix_for(error, kafka)) from error
    try:
        holds = Holds(consumer, 2 * patience_s)
        for partition in partitions:
            try:
                offset = _stable(kafka, consumer, holds, partition, until_s)
            except OffsetHeld:
                held.add(partition)
                continue
            if offset is not None:
                offsets[partition] = offset
    finally:
        with suppress(KafkaError, RuntimeError, TimeoutError):
            within(CLOSE_LIMIT_S, lambda: consumer.close(autocommit=False, timeout_ms=CLOSE_LIMIT_S * 1000))
    before = group_offsets(kafka, kafka.group_id, kafka.input_topic) if held else {}
    return {**{p: before[p] for p in held & before.keys()}, **offsets}


def _stable(kafka: Kafka, consumer: KafkaConsumer, holds: Holds, partition: int, until_s: float) -> int | None:
    """The offset, None where there is none. Raises OffsetHeld where a transaction holds it after all that time."""
    tp = TopicPartition(kafka.input_topic, partition)
    what = f"committed offset of {tp.topic}-{partition} of group {kafka.group_id}"
    since = max(time.monotonic(), until_s)  # what holds it from here on holds it for ever
    while True:
        try:
            with asking(kafka, what):
                offset: int | None = consumer.committed(tp, timeout_ms=ASK_S * 1000)
            return offset
        except NotYet:
            if holds.unanswered(partition, since):
                raise OffsetHeld(what, None) from None
            if time.monotonic() > since + ANSWER_LIMIT_S:
                raise
