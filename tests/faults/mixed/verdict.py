"""What is left when a storm is over: every record accounted for, and every state the same bits as without a fault."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from pipeline.shard import Shard
from tests.faults.mixed import nested
from tests.rigs.cluster import (
    AdoptionFollower,
    Cluster,
    Logged,
    State,
    by_partition,
    differences,
    fold,
    restored_shard,
)
from worker.broker.restore import TopicRecord, read_all
from worker.demo.auditor import Report, Rules, audit


def verdict(cluster: Cluster, follower: AdoptionFollower) -> tuple[Report, list[str]]:
    """The audit, and everything that is not as it should be, in words. All workers must have ended."""
    topics, connection = cluster.topics, cluster.connection
    inputs: Iterator[TopicRecord] = read_all(connection, topics.input)
    models: dict[int, dict[int, str]] = defaultdict(dict)
    outputs = noting_models(read_all(connection, topics.output), models)
    letters = read_all(connection, topics.dead_letters)
    if cluster.settings.events.target_fields:
        inputs, outputs, letters = nested.flat(inputs), nested.forecasts(outputs), nested.letters(letters)
    report = audit(inputs, outputs, letters, Rules(), topics.input)
    adoptions = follower.finish()
    wrong = [] if report.ok else list(report.lines())
    assert models, "forecasts name their weights"
    records, committed = by_partition(cluster.read(topics.input)), cluster.committed()
    changelog = by_partition(cluster.read(topics.changelog))
    states = [state for worker in cluster.workers for state in worker.states]
    for partition, rows in records.items():
        if committed[partition] != rows[-1].offset + 1:
            wrong.append(f"partition {partition} is committed to {committed[partition]}, not to its end")
        # One that was deleted and compacted while the follower had no broker cannot be folded with
        if unseen := follower.missed[partition] | models[partition].keys() - adoptions[partition].keys() - {0}:
            wrong.append(f"partition {partition} cannot be judged: nobody followed the weights from {sorted(unseen)}")
            continue
        mine = [state for state in states if state.partition == partition]
        straight = cluster.plan.shard(0)
        wrong += other_states(cluster, straight, rows, mine, adoptions[partition])
        rest = rows_in(rows, straight.position, committed[partition])
        fold(straight, cluster.plan, rest, [], adoptions[partition], committed[partition])
        restored = restored_shard(cluster.plan, changelog[partition], rows, committed[partition])
        wrong += [f"partition {partition}: {what}" for what in differences(restored, straight)]
    if wrong:  # what there is to look at once the broker is gone, beside the logs
        lines = [f"model {p} {at} {first}" for p, seen in models.items() for at, first in sorted(seen.items())]
        lines += [f"followed {p} {at} {seen[at].rolled_back}" for p, seen in adoptions.items() for at in sorted(seen)]
        lines += [
            f"changelog {p} {record.offset} {record.timestamp_ms} {record.key!r} {len(record.value or b'')}"
            for p, log in changelog.items()
            for record in log
        ]
        (cluster.home / "evidence.txt").write_text("\n".join(lines))
    return report, wrong


def noting_models(records: Iterable[TopicRecord], models: dict[int, dict[int, str]]) -> Iterator[TopicRecord]:
    """Hand records on, and note by partition from which offsets the weights hold that made them, and the first id."""
    for record in records:
        if model := re.search(rb'"model":"[^"]*-([0-9]+)"', record.value or b""):
            models[record.partition].setdefault(int(model[1]), dict(record.headers)["foldcast-id"].decode())
        yield record


def rows_in(rows: list[TopicRecord], low: int, high: int) -> list[TopicRecord]:
    """The records at offsets low to high."""
    return [row for row in rows if low <= row.offset < high]


def other_states(
    cluster: Cluster, shard: Shard, rows: list[TopicRecord], states: list[State], adoptions: Logged
) -> Iterator[str]:
    """Fold from offset 0 and compare with each state that a worker restored; yields those that are others."""
    for state in sorted(states, key=lambda state: (state.offset, state.adoption)):
        known = {at: adoption for at, adoption in adoptions.items() if at <= state.adoption}
        fold(shard, cluster.plan, rows_in(rows, shard.position, state.offset), [], known, state.offset)
        if (shard.weights_offset, shard.network.digest()) != (state.adoption, state.weights):
            yield f"{state}: the weights are those of {shard.weights_offset}"
        if shard.table.digest() != state.rows:
            yield f"{state}: the rows are others"
