"""The topics: made and verified. A mismatch is refused with the fix, never worked around."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from worker.broker.admin import (
    TopicInfo,
    TopicSpec,
    create_topics,
    describe,
)
from worker.broker.codecs import missing_library
from worker.broker.contract import Topics
from worker.broker.producer import BATCH_BYTES
from worker.refusal import Refusal
from worker.settings.method import method_of
from worker.settings.settings import Settings

log = logging.getLogger(__name__)

SEGMENT_BYTES = 16 << 20  # compaction leaves the newest segment alone: restores read it whole
DEAD_LETTER_OVERHEAD_BYTES = 4096  # headers and framing beyond the original record
ADOPTION_BYTES = 64 * 1024  # beside the weights themselves
FRAMING_BYTES = 1024  # of a record batch beyond its one record
FULL_BATCH = BATCH_BYTES + FRAMING_BYTES
KEPT = {"cleanup.policy": "delete"}  # whatever the cluster's default: one record of each key is not enough


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


def names_of(settings: Settings) -> Topics:
    """Where records come from and go to."""
    kafka = settings.kafka
    return Topics(
        input=kafka.input_topic,
        output=kafka.output_topic,
        dead_letters=kafka.dead_letter_topic,
        changelog=kafka.changelog_topic,
        group=kafka.group_id,
        rows=settings.output.rows_topic,
    )


def wanted(settings: Settings, input_topic: TopicInfo | None) -> Wanted:
    """Return the sizes that the settings and the largest input record ask for."""
    largest_input = int(input_topic.configs["max.message.bytes"]) if input_topic else 1_048_588
    adoption = 6 * 4 * method_of(settings).weights + ADOPTION_BYTES  # an optimiser of two chains has five more of each
    # A page with its names is always less than a full batch
    return Wanted(
        max(adoption + FRAMING_BYTES, FULL_BATCH), max(largest_input + DEAD_LETTER_OVERHEAD_BYTES, FULL_BATCH)
    )


def create(settings: Settings, partitions: int | None, replication: int) -> list[str]:
    """Make those of the topics that are not there. Returns a line for each. Raises Refusal, BrokerError."""
    connection, topics = settings.kafka, names_of(settings)
    there = describe(connection, topics.names)
    count = partitions or (there[topics.input].partitions if topics.input in there else 0)
    if not count:
        raise Refusal(f"there is no topic {topics.input} to take the number of partitions from: give --partitions N")
    sizes = wanted(settings, there.get(topics.input))
    configs = {
        topics.dead_letters: {**KEPT, "max.message.bytes": str(sizes.dead_letter)},
        topics.changelog: _changelog_configs(settings, sizes),
    }
    missing = [TopicSpec(n, count, replication, configs.get(n, KEPT)) for n in topics.names if n not in there]
    create_topics(connection, missing)
    return [f"made {spec.name} with {spec.partitions} partitions" for spec in missing] or ["all topics are there"]


def _changelog_configs(settings: Settings, sizes: Wanted) -> dict[str, str]:
    return {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": str(settings.worker.changelog_history_s * 1000),
        "min.cleanable.dirty.ratio": "0.1",
        "segment.bytes": str(SEGMENT_BYTES),
        "max.message.bytes": str(sizes.changelog),
    }


def check(settings: Settings) -> tuple[list[dict[str, object]], Wanted]:
    """Return what each topic is and the record sizes to let through. Raises Refusal with the fix, BrokerError."""
    connection, topics = settings.kafka, names_of(settings)
    there = describe(connection, topics.names)
    if missing := [name for name in topics.names if name not in there]:
        number = "" if topics.input in there else " --partitions N"
        raise Refusal(f"there is no topic {', '.join(missing)}: make it, or run `foldcast topics create{number}`")
    _check_partitions(topics, there)
    count = there[topics.input].partitions
    sizes = wanted(settings, there[topics.input])
    limits = {topics.changelog: sizes.changelog, topics.dead_letters: sizes.dead_letter}
    for name in topics.names[1:]:
        needed = limits.get(name, sizes.output)
        has = int(there[name].configs["max.message.bytes"])
        if has < needed:
            raise Refusal(
                f"{name} takes batches of {has} bytes, {needed} are needed: set its max.message.bytes to that"
            )
    _check_policies(topics, there, settings.worker.on_gap == "skip")
    _check_compression(topics, there)
    shown = ("cleanup.policy", "retention.ms", "max.message.bytes")
    facts: list[dict[str, object]] = []
    for name in topics.names:
        configs = {key: there[name].configs[key] for key in shown}
        facts.append({"name": name, "partitions": count, "replication": there[name].replication, **configs})
    return facts, sizes


def _check_partitions(topics: Topics, there: Mapping[str, TopicInfo]) -> None:
    """Raises Refusal where the topics do not go together partition by partition."""
    count = there[topics.input].partitions
    others = {name: there[name].partitions for name in topics.names[1:]}
    before = others[topics.output]
    ours = [name for name in (topics.output, topics.rows) if name is not None]
    if {*others.values()} == {before} and before < count:
        raise Refusal(
            f"{topics.input} has {count} partitions, {', '.join(others)} have {before}: some were added, and keys now "
            f"go where their state is not; add as many to {' and '.join(ours)}, set a new kafka.group_id, and run "
            f"`foldcast topics create` and `foldcast run --from-group {topics.group}`"
        )
    for name, has in others.items():
        if has != count:
            raise Refusal(
                f"{name} has {has} partitions and {topics.input} has {count}: they must be "
                f"the same; delete {name} and run `foldcast topics create`, or start under a new kafka.group_id"
            )


def _check_policies(topics: Topics, there: Mapping[str, TopicInfo], skip_gaps: bool) -> None:
    """Raises Refusal where the log cleaner would remove what has to stay; for the input a warning with `skip_gaps`."""
    policy = there[topics.changelog].configs["cleanup.policy"]
    if policy != "compact":
        raise Refusal(f"{topics.changelog} has cleanup.policy {policy}, which would lose state: set it to compact")
    for name, kind in ((topics.dead_letters, "dead letter"), (topics.rows, "row")):
        if name is not None and "compact" in (policy := there[name].configs["cleanup.policy"]):
            raise Refusal(f"{name} has cleanup.policy {policy}, which keeps one {kind} of each key: set it to delete")
    policy = there[topics.input].configs["cleanup.policy"]
    if "compact" in policy:
        fault = f"{topics.input} has cleanup.policy {policy}, which removes records that a restart has to read again"
        if not skip_gaps:
            raise Refusal(f"{fault}: set it to delete, or go on without what is gone (worker.on_gap = skip)")
        log.warning("%s: after one forecasts may differ, and nothing tells (worker.on_gap = skip)", fault)


def _check_compression(topics: Topics, there: Mapping[str, TopicInfo]) -> None:
    """Raises Refusal where brokers pack what the worker reads in a way that it cannot unpack here."""
    for name in (topics.input, topics.changelog):
        kind = there[name].configs["compression.type"]
        if library := missing_library(kind):
            raise Refusal(
                f"{name} has compression.type {kind}, which cannot be unpacked here: install {library}, or set it to "
                "producer, which leaves the choice to whoever sends"
            )
