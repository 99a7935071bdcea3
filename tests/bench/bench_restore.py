"""What a restart costs: reading the image, per KiB of state, and folding the events after it, per event.

A worker takes in `--warm` events of each stream and stops cleanly, which leaves an image; started again, it takes in
`--events` more and is killed. Then, run after run, this process restores all partitions as a worker does (a group
member, lives, the changelog from its topic, the input from the image's offset to the committed one) and forgets them.
The first time does not count: it loads compiled kernels. CPU is this process's, all its threads; MiB/s and events/s
are by the clock. State is rows in use times a row's bytes. Replay is the consumer's reading, decoding and the fold.
"""

import gc
import time
from contextlib import suppress

from report import Report, options
from stand import Cluster, Sections, Stand, Subject, add_options, stand, variants

from worker import topics
from worker.broker.contract import NotYet
from worker.broker.kafka import KafkaBroker
from worker.lives.judge import Judge
from worker.lives.live import Live
from worker.lives.restoring import Restoring
from worker.lives.snapshot_clock import SnapshotPolicy

KEPT = {"snapshot_events": 10**9, "snapshot_interval_s": 86_400}  # the image stays where the clean stop put it
POLL_S = 0.1
JOIN_S = 60.0


def prepare(on: Stand, tables: Sections, warm: int, events: int) -> Cluster:
    """Topics that a killed worker has left, with an image and so many events after it."""
    cluster = on.cluster({**tables, "worker": {**KEPT, **tables.get("worker", {})}})
    with Subject(cluster, on.streams) as subject:
        subject.warm(warm)
        cluster.stop()
        subject.worker.start()
        subject.feed(events)
        subject.wait_until_committed()
        subject.worker.kill()
    return cluster


def member(cluster: Cluster) -> KafkaBroker:
    """In the killed worker's place, so that its partitions are ours at once."""
    kafka = cluster.settings.kafka.model_copy(update={"instance_id": "one"})
    return KafkaBroker(kafka, cluster.settings.worker, topics.wanted(cluster.settings, None).request)


def restore(cluster: Cluster, broker: KafkaBroker) -> dict[str, float]:
    """One restart, from the assignment of all partitions to all live."""
    restoring: dict[int, Restoring] = {}
    deadline = time.monotonic() + JOIN_S
    policy = SnapshotPolicy(None, 1e9)
    while len(restoring) < cluster.partitions:
        assert time.monotonic() < deadline, "the partitions are not assigned"
        began = broker.poll(POLL_S).began
        restoring |= {partition: Restoring(partition, 1, cluster.plan, cluster.topics, policy) for partition in began}
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # as a worker has it

    before = time.process_time(), time.monotonic()
    lives: dict[int, Live] = {}
    for partition, one in restoring.items():
        while partition not in lives:
            with suppress(NotYet):
                if (live := one.slice(broker)) is not None:
                    lives[partition] = live
    loaded = time.process_time(), time.monotonic()
    tables = [live.shard.table for live in lives.values()]
    state_kib = sum(len(table.index) * table.row_bytes for table in tables) / 1024
    tail = sum(live.pending for live in lives.values())
    while not all(live.at_c for live in lives.values()):
        for partition, records in broker.poll(POLL_S).records.items():
            lives[partition].advance(records, Judge(), lambda _: None)
    at_c = time.process_time(), time.monotonic()
    return {
        "image, CPU us/KiB": (loaded[0] - before[0]) / state_kib * 1e6,
        "image, MiB/s": state_kib / 1024 / (loaded[1] - before[1]),
        "replay, CPU us/event": (at_c[0] - loaded[0]) / tail * 1e6,
        "replay, events/s": tail / (at_c[1] - loaded[1]),
        "KiB/stream": state_kib / sum(len(table.index) for table in tables),
    }


def main() -> None:
    parser = options(__doc__, runs=5)
    add_options(parser, streams=8000, partitions=4, warm=3)
    parser.add_argument("--events", type=int, default=40_000, help="to fold again (%(default)s)")
    given = parser.parse_args()
    report = Report(
        f"restore of {given.streams:,} streams in {given.partitions} partitions, and replay of {given.events:,} events"
    )
    with stand(given.streams, given.partitions) as on:
        for name, tables in variants(given.variant).items():
            cluster = prepare(on, tables, given.warm, given.events)
            for run in range(given.runs + 1):
                broker = member(cluster)
                try:
                    figures = restore(cluster, broker)
                finally:
                    broker.close(leave=False)
                if run > 0:
                    report.add(name, figures)
    report.show(given.json)


if __name__ == "__main__":
    main()
