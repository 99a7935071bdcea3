"""The changelog made anew: state is given up, and each partition starts cold from the group's offset."""

import json

from worker import topics
from worker.broker.admin import bounds, delete_topic, describe, group_offsets, members
from worker.broker.produce import FastProducer
from worker.lives.loading import cold_start
from worker.plan import Plan
from worker.refusal import Refusal
from worker.settings.settings import Settings


def reset(settings: Settings) -> list[str]:
    """Delete and remake the changelog; each partition starts cold from the group's offset. Raises Refusal, BrokerError.

    A cold start is written down: an empty image at C, so that it is told from a changelog that was lost.
    """
    connection, names = settings.kafka, topics.names_of(settings)
    group = settings.kafka.group_id
    if present := members(connection, group):
        ids = ", ".join(member.instance_id or member.client_id for member in present)
        raise Refusal(f"the group {group} has members ({ids}): stop them first, and wait until their sessions end")
    there = describe(connection, [names.input])
    if names.input not in there:
        raise Refusal(f"there is no topic {names.input}: nothing to reset")
    offsets = group_offsets(connection, group, names.input)
    plan, sizes = Plan.of(settings), topics.wanted(settings, there[names.input])  # before anything is deleted
    delete_topic(connection, names.changelog)
    topics.create(settings, there[names.input].partitions, there[names.input].replication)
    with FastProducer(connection, max_request_bytes=sizes.request) as producer:
        for partition, offset in sorted(offsets.items()):
            for key, value in cold_start(plan.shard(offset)):
                producer.send(names.changelog, partition, key, value)
        producer.flush()
    held = bounds(connection, names.changelog)
    return [f"{names.changelog} made anew with {len(held)} partitions; cold start at {json.dumps(offsets)}"]
