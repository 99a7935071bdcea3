"""The four topics: made, verified, the changelog made anew. A mismatch is refused with the fix, never worked around."""

import json
from dataclasses import dataclass

from pipeline.shard import Shard
from worker import wiring
from worker.broker.admin import (
    TopicInfo,
    TopicSpec,
    bounds,
    create_topics,
    delete_topic,
    describe,
    group_offsets,
    members,
)
from worker.broker.produce import FastProducer
from worker.broker.producer import BATCH_BYTES
from worker.lives.life import cold_start
from worker.plan import Plan
from worker.publish import DEAD_LETTER_OVERHEAD_BYTES
from worker.refusal import Refusal
from worker.settings.settings import Settings

SEGMENT_BYTES = 16 << 20  # compaction leaves the newest segment alone: restores read it whole
FRAMING_BYTES = 1024  # of a record batch beyond its one record
FULL_BATCH = BATCH_BYTES + FRAMING_BYTES


@dataclass(frozen=True)
class Wanted:
    """Bytes that topics and client must let through. A topic's limit is on batches: a full one, or one large record."""

    changelog: int
    dead_letter: int
    output: int = FULL_BATCH

    @property
    def request(self) -> int:
        """The largest request, in bytes, that the producer must be able to send."""
        return max(self.changelog, self.dead_letter) + FRAMING_BYTES


def wanted(settings: Settings, input_topic: TopicInfo | None) -> Wanted:
    """Return the sizes that the settings and the largest input record ask for."""
    largest_input = int(input_topic.configs["max.message.bytes"]) if input_topic else 1_048_588
    largest = Plan.of(settings).changelog_record_bytes() + FRAMING_BYTES
    return Wanted(max(largest, FULL_BATCH), max(largest_input + DEAD_LETTER_OVERHEAD_BYTES, FULL_BATCH))


def create(settings: Settings, partitions: int | None, replication: int) -> list[str]:
    """Make those of the four topics that are not there. Returns a line for each. Raises Refusal, BrokerError."""
    connection, topics = wiring.connection(settings), wiring.topics(settings)
    there = describe(connection, [topics.input, topics.output, topics.dead_letters, topics.changelog])
    count = partitions or (there[topics.input].partitions if topics.input in there else 0)
    if not count:
        raise Refusal(f"there is no topic {topics.input} to take the number of partitions from: give --partitions N")
    sizes = wanted(settings, there.get(topics.input))
    specs = [
        TopicSpec(topics.input, count, replication),
        TopicSpec(topics.output, count, replication),
        TopicSpec(topics.dead_letters, count, replication, {"max.message.bytes": str(sizes.dead_letter)}),
        TopicSpec(topics.changelog, count, replication, _changelog_configs(settings, sizes)),
    ]
    missing = [spec for spec in specs if spec.name not in there]
    create_topics(connection, missing)
    return [f"made {spec.name} with {spec.partitions} partitions" for spec in missing] or ["all four topics are there"]


def _changelog_configs(settings: Settings, sizes: Wanted) -> dict[str, str]:
    return {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": str(settings.worker.changelog_history_s * 1000),
        "min.cleanable.dirty.ratio": "0.1",
        "segment.bytes": str(SEGMENT_BYTES),
        "max.message.bytes": str(sizes.changelog),
    }


def check(settings: Settings) -> tuple[list[str], Wanted]:
    """Return a line per topic and the record sizes to let through. Raises Refusal with the fix, BrokerError."""
    connection, topics = wiring.connection(settings), wiring.topics(settings)
    names = [topics.input, topics.output, topics.dead_letters, topics.changelog]
    there = describe(connection, names)
    if missing := [name for name in names if name not in there]:
        raise Refusal(f"there is no topic {', '.join(missing)}: make it, or run `foldcast topics create`")
    count = there[topics.input].partitions
    for name in names[1:]:
        if there[name].partitions != count:
            raise Refusal(
                f"{name} has {there[name].partitions} partitions and {topics.input} has {count}: they must be "
                f"the same; delete {name} and run `foldcast topics create`, or start under a new kafka.group_id"
            )
    sizes = wanted(settings, there[topics.input])
    limits = {topics.changelog: sizes.changelog, topics.dead_letters: sizes.dead_letter, topics.output: sizes.output}
    for name, needed in limits.items():
        has = int(there[name].configs["max.message.bytes"])
        if has < needed:
            raise Refusal(
                f"{name} takes batches of {has} bytes, {needed} are needed: set its max.message.bytes to that"
            )
    policy = there[topics.changelog].configs["cleanup.policy"]
    if policy != "compact":
        raise Refusal(f"{topics.changelog} has cleanup.policy {policy}, which would lose state: set it to compact")
    shown = ("cleanup.policy", "retention.ms", "max.message.bytes")
    lines = []
    for name in names:
        configs = " ".join(f"{key}={there[name].configs[key]}" for key in shown)
        lines.append(f"{name} partitions={count} replication={there[name].replication} {configs}")
    return lines, sizes


def reset(settings: Settings) -> list[str]:
    """Delete and remake the changelog; each partition starts cold from the group's offset. Raises Refusal, BrokerError.

    A cold start is written down as an empty image at C, so that no lost changelog looks like one.
    """
    connection, topics = wiring.connection(settings), wiring.topics(settings)
    group = settings.kafka.group_id
    if present := members(connection, group):
        ids = ", ".join(member.instance_id or member.client_id for member in present)
        raise Refusal(f"the group {group} has members ({ids}): stop them first, and wait until their sessions end")
    there = describe(connection, [topics.input])
    if topics.input not in there:
        raise Refusal(f"there is no topic {topics.input}: nothing to reset")
    offsets = group_offsets(connection, group, topics.input)
    plan, sizes = Plan.of(settings), wanted(settings, there[topics.input])  # before anything is deleted
    delete_topic(connection, topics.changelog)
    create(settings, there[topics.input].partitions, there[topics.input].replication)
    with FastProducer(connection, max_request_bytes=sizes.request) as producer:
        for partition, offset in sorted(offsets.items()):
            for key, value in cold_start(Shard(plan.method, plan.network(), offset, plan.settings)):
                producer.send(topics.changelog, partition, key, value)
        producer.flush()
    held = bounds(connection, topics.changelog)
    return [f"{topics.changelog} made anew with {len(held)} partitions; cold start at {json.dumps(offsets)}"]
