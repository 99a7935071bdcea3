"""Workers killed over and over, and a reader of the topics that finds nothing missing, twice or different."""

import faulthandler
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.shard import Shard
from tests.rigs.client import chosen_client
from tests.rigs.cluster import (
    AdoptionFollower,
    Cluster,
    Feeder,
    Logged,
    Source,
    State,
    Worker,
    by_partition,
    differences,
    fold,
    image_of,
    random_weights,
    restored_shard,
    uninterrupted_shard,
)
from worker.broker.restore import TopicRecord
from worker.demo.auditor import Rules, audit
from worker.observe.metrics import FINE_TUNE_OUTCOMES
from worker.settings.sources import load

pytestmark = pytest.mark.kafka

PARTITIONS = 8
RATE = 1000.0


@dataclass
class Figures:
    """What a run took."""

    recoveries_s: list[float] = field(default_factory=list)
    longest_snapshot_s: list[float] = field(default_factory=list)
    in_restore: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)  # of fine-tunes, as far as scraped before a kill

    def scrape(self, worker: Worker) -> None:
        self.longest_snapshot_s.append(worker.metric("foldcast_snapshot_longest_seconds"))
        self.outcomes["updates"] += int(worker.metric("foldcast_fine_tune_updates_total"))
        for outcome in FINE_TUNE_OUTCOMES:
            self.outcomes[outcome] += int(worker.metric(f'foldcast_fine_tunes_total{{outcome="{outcome}"}}'))


def kill_over_and_over(cluster: Cluster, kills: int, rng: random.Random, figures: Figures) -> None:
    """One of the workers at a time; now and then a second time, before it is live again."""
    while kills:
        time.sleep(rng.uniform(0.2, 2.0))  # the moment must not depend on what the workers do
        victim = rng.choice(cluster.workers)
        figures.scrape(victim)
        victim.kill()
        began, kills = time.monotonic(), kills - 1
        victim.start()
        if kills and rng.random() < 0.25:
            cluster.wait_for(lambda: bool(victim.life.states) or victim.life.ended, "restoring")  # noqa: B023
            victim.kill()
            kills, figures.in_restore = kills - 1, figures.in_restore + 1
            victim.start()
        cluster.wait_until_live()
        figures.recoveries_s.append(time.monotonic() - began)


def check_states(cluster: Cluster, records: list[TopicRecord], states: list[State], adoptions: Logged) -> None:
    """One fold from offset 0 in this process passes through every state that a worker restored."""
    shard = Shard(cluster.plan.method, cluster.plan.network(), 0, cluster.plan.settings)
    for state in sorted(states, key=lambda state: (state.offset, state.adoption)):
        within = [r for r in records if shard.position <= r.offset < state.offset]
        known = {at: adoption for at, adoption in adoptions.items() if at <= state.adoption}
        fold(shard, cluster.plan, within, [], known, state.offset)
        assert (shard.weights_offset, shard.network.digest()) == (state.adoption, state.weights), state
        assert shard.table.digest() == state.rows, state


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    ("client", "snapshot_events", "kills", "streams", "window"),
    [
        (chosen_client(), 2000, 20, 500, 24),  # two pages per shard
        (chosen_client(), 500, 6, 4000, 8),  # sixteen pages, which a snapshot writes over several cycles
        ("librdkafka", 500, 6, 500, 8),
    ],
)
def test_nothing_is_lost_or_twice_or_different_whenever_a_worker_is_killed(
    bootstrap: str,
    unique: str,
    tmp_path: Path,
    client: str,
    snapshot_events: int,
    kills: int,
    streams: int,
    window: int,
) -> None:
    faulthandler.cancel_dump_traceback_later()  # set for tests that take seconds
    checkpoint = tmp_path / "weights"
    random_weights(load(None, {}), checkpoint)
    rng, figures, began = random.Random(snapshot_events), Figures(), time.monotonic()
    with Cluster(
        bootstrap,
        unique,
        tmp_path,
        PARTITIONS,
        kafka={"client": client},
        model={"checkpoint": checkpoint},
        worker={"snapshot_events": snapshot_events},
        fine_tune={"adopt_interval_s": 0.5, "window": window, "max_cpu_share": 0.3},
        log={"level": "debug"},
    ) as cluster:
        follower = AdoptionFollower(cluster)
        follower.start()
        for name in ("one", "two"):
            cluster.worker(name)
        cluster.wait_until_live()
        feeder = Feeder(cluster, Source(streams, PARTITIONS, seed=7), RATE)
        feeder.start()
        kill_over_and_over(cluster, kills, rng, figures)
        feeder.finish()
        cluster.await_last()

        for worker in cluster.workers:
            figures.scrape(worker)
            worker.kill()
        records = by_partition(inputs := cluster.read(cluster.topics.input))
        committed = cluster.committed()
        assert committed == {partition: rows[-1].offset + 1 for partition, rows in records.items()}
        adoptions = follower.finish()
        assert not any(follower.missed.values()), f"{follower.missed} were compacted before they were followed"
        straight = {
            partition: uninterrupted_shard(cluster.plan, rows, committed[partition], adoptions[partition], partition)
            for partition, rows in records.items()
        }
        changelog = by_partition(cluster.read(cluster.topics.changelog))
        for partition, shard in straight.items():
            restored = restored_shard(cluster.plan, changelog[partition], records[partition], committed[partition])
            assert list(differences(restored, shard)) == [], f"partition {partition}, after the last kill"

        states = [state for worker in cluster.workers for state in worker.states]
        assert len(states) >= kills - figures.in_restore
        for partition, rows in records.items():
            mine = [state for state in states if state.partition == partition]
            check_states(cluster, rows, mine, adoptions[partition])

        for worker in cluster.workers:
            worker.start()
        cluster.wait_until_live()
        cluster.stop()

        assert cluster.committed() == committed
        changelog = by_partition(raw := cluster.read(cluster.topics.changelog))
        for partition, shard in straight.items():
            marker = image_of(changelog[partition]).marker
            assert marker is not None
            assert (marker.clean, marker.offset) == (True, committed[partition])
            restored = restored_shard(cluster.plan, changelog[partition], [], committed[partition])
            assert list(differences(restored, shard)) == [], f"partition {partition}, after the clean stop"

        outputs, dead = cluster.read(cluster.topics.output), cluster.read(cluster.topics.dead_letters)
        audited = time.monotonic()
        report = audit(inputs, outputs, dead, Rules(), cluster.topics.input)
        audited = time.monotonic() - audited
        tails = [tail for worker in cluster.workers for tail in worker.tails]
        pages = sum((record.key or b"").startswith(b"page-") for record in raw)
        print(
            f"\n{time.monotonic() - began:.0f} s, {kills} kills ({figures.in_restore} while it restored), "
            f"live again after {statistics.median(figures.recoveries_s):.2f} s (median), "
            f"{max(figures.recoveries_s):.2f} s (longest)\n"
            f"{len(tails)} restores, longest replay {max(tails)} of {snapshot_events}; "
            f"page records per event {pages / len(inputs):.4f}; "
            f"{len(states)} states of workers found in a fold from offset 0; "
            f"{sum(map(len, adoptions.values()))} adoptions in {PARTITIONS} shards; {dict(figures.outcomes)}\n"
            f"longest snapshot in a cycle {max(figures.longest_snapshot_s) * 1000:.1f} ms; audit {audited:.1f} s"
        )
        print("\n".join(report.lines()))
        assert report.ok, "\n".join(report.lines())
        assert all(report.expected[verdict] for verdict in ("forecast", "late", "duplicate", "missing", "dead"))
        assert max(tails) <= snapshot_events
        assert pages / len(inputs) < 0.05
