"""Hours of traffic through two workers while they and their broker are killed, frozen and restarted: `make soak`.

A real Kafka from the jars, events at a steady rate, half of them of streams that stay and half of a population that
turns over (`worker.stream_ttl_s` forgets them), learning on. Every few seconds a sample is taken of what each process
holds; at the end slopes and verdicts are printed. Exit code 1 when a verdict is broken. Linux only: reads /proc.

A run lasts `--minutes`, and on until each kind of fault was done once.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, as for the tests
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.rigs.cluster import Cluster, Feeder
from tests.soak.faults import Fault, Faults
from tests.soak.ledger import Follower
from tests.soak.samples import Sampler
from tests.soak.traffic import Passing, Traffic
from tests.soak.verdicts import Outcome, failed
from worker.broker.produce import FastProducer
from worker.broker.restore import TopicReader
from worker.demo.local_kafka import LocalKafka, kafka_from_jars
from worker.refusal import Refusal

NAME = "soak"
STREAMS_AN_HOUR = 1_000_000
DRAIN_S = 10.0
START_S = 180.0
CAUGHT_UP_S = 90.0  # without a single forecast: then it never will be
DELIVERY_S = 120.0  # longer than any fault
KEPT = {  # of input and output: an hour of them does not fit on every disk
    "log.retention.bytes": str(256 << 20),
    "log.segment.bytes": str(32 << 20),
    "log.retention.check.interval.ms": "10000",
}


@dataclass(frozen=True)
class Given:
    """What a run was told."""

    minutes: float = 60.0
    rate: float | None = None
    streams: int | None = None
    fault_every_s: float = 60.0
    sample_every_s: float = 5.0
    settle_s: float = 60.0
    longest_freeze_s: float = 10.0
    ttl_s: int = 30
    staying: int = 2000
    partitions: int = 4
    seed: int = 0

    @property
    def passing(self) -> float:
        """How many streams come and go."""
        return self.streams or STREAMS_AN_HOUR * self.minutes / 60


def drained_rate(cluster: Cluster, follower: Follower, traffic: Traffic) -> float:
    """Events per second, where more are sent than can be taken in; all are taken in when it returns."""
    sent, began, first = 0, time.monotonic(), (0.0, 0)
    with FastProducer(cluster.connection) as producer:
        while (now := time.monotonic()) < began + DRAIN_S:
            for _ in range(100):
                producer.send(cluster.topics.input, *traffic.next())
            sent += 100
            if now < began + DRAIN_S / 3:
                first = now, follower.ledger.right
        producer.flush()
    assert follower.wait_for(sent), f"{follower.ledger.right:,} of {sent:,} forecasts\n{cluster.ends_of_logs()}"
    return (sent - first[1]) / (time.monotonic() - first[0])


def soak(kafka: LocalKafka, given: Given, home: Path, say: Callable[[str], None]) -> Outcome:
    """One run on a broker that is ours to kill. Raises Refusal where the rate is too low for the streams."""
    assert kafka.home is not None, "the broker is ours"
    with Cluster(
        kafka.bootstrap_servers, NAME, home, given.partitions, worker={"stream_ttl_s": given.ttl_s, "give_up_s": 120}
    ) as cluster:
        for name in ("one", "two"):
            cluster.worker(name)
        cluster.wait_until_live(START_S)
        follower = Follower(cluster)
        follower.start()
        traffic = Traffic(given.staying, given.partitions)
        rate = given.rate or drained_rate(cluster, follower, traffic) / 2
        traffic.passing = Passing.of(given.passing, rate, given.minutes * 60)
        say(f"{rate:,.0f} events/s for {given.minutes:g} minutes")
        before = follower.ledger.right
        feeder = Feeder(cluster, traffic, rate, transactions=False, limit_s=DELIVERY_S)
        sampler = Sampler(cluster, kafka.home / "data-1", given.sample_every_s)
        outcome = Outcome(rate, 0.0, given.partitions, given.settle_s, sampler.samples)
        sampler.start()
        feeder.start()
        faults = Faults(kafka, cluster, given.seed, given.longest_freeze_s)
        _disturb(given, faults, feeder, follower, sampler, cluster, outcome, before, say)
        feeder.finish()
        sampler.finish()
        outcome.seconds = time.monotonic() - sampler.began
        outcome.streams, outcome.sent = traffic.streams, feeder.sent + before
        _close(cluster, follower, outcome)
    return outcome


def _disturb(
    given: Given,
    faults: Faults,
    feeder: Feeder,
    follower: Follower,
    sampler: Sampler,
    cluster: Cluster,
    outcome: Outcome,
    before: int,
    say: Callable[[str], None],
) -> None:
    """One fault after the other until the time is over."""
    ends = sampler.began + given.minutes * 60
    due = sampler.began
    while True:
        due = max(due + given.fault_every_s, time.monotonic())
        done = {fault.kind for fault in outcome.faults} == set(faults.kinds)
        if done and due > ends:
            time.sleep(max(ends - time.monotonic(), 0.0))
            return
        time.sleep(max(due - time.monotonic(), 0.0))
        outcome.trouble += [f"{worker.name} ended" for worker in cluster.workers if worker.life.ended]
        began = time.monotonic()
        try:
            kind = faults.do()
            cluster.wait_until_live(START_S)  # each worker with its share: not one that does the work of both
            over = follower.wait_for(feeder.sent + before, CAUGHT_UP_S)
        except (AssertionError, TimeoutExpired) as error:
            outcome.trouble.append(str(error))
            return
        outcome.faults.append(Fault(began - sampler.began, kind, time.monotonic() - began, over))
        say(f"{outcome.faults[-1]}, {follower.ledger.right:,} forecasts")


def _close(cluster: Cluster, follower: Follower, outcome: Outcome) -> None:
    """Wait for the last forecasts, stop the workers in order, and count what is there."""
    follower.wait_for(outcome.sent, CAUGHT_UP_S)
    try:
        cluster.stop()
    except AssertionError as error:
        outcome.trouble.append(str(error))
    follower.finish()
    topics, connection = cluster.topics, cluster.connection
    with TopicReader(connection, topics.input) as reader:
        ends = reader.ends()
    with TopicReader(connection, topics.dead_letters) as reader:
        dead = sum(reader.ends().values())
    (ledger := follower.ledger).close(ends)
    outcome.forecasts, outcome.wrong, outcome.examples = ledger.right, ledger.faults, ledger.examples
    if dead:
        outcome.wrong["dead letters"] = dead
    if sum(ends.values()) != outcome.sent:
        outcome.trouble.append(f"{outcome.sent:,} events were sent, the input has {sum(ends.values()):,}")
    if cluster.committed() != ends:
        outcome.trouble.append(f"committed {cluster.committed()}, the input ends at {ends}")


def options(arguments: Sequence[str] | None = None) -> tuple[Given, bool]:
    """The run that a command line asks for, and whether it wants JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usual = Given()
    parser.add_argument("--minutes", type=float, default=usual.minutes, help="(%(default)s)")
    parser.add_argument("--rate", type=float, help="events/s; without it half of what is drained at first")
    parser.add_argument("--streams", type=int, help="that come and go over the run (a million an hour)")
    for name, text in (
        ("--fault-every-s", "from one fault's begin to the next"),
        ("--sample-every-s", "between two samples"),
        ("--settle-s", "of each process that do not count"),
        ("--longest-freeze-s", "that a worker or the broker is held"),
    ):
        usually = getattr(usual, name[2:].replace("-", "_"))
        parser.add_argument(name.removesuffix("-s"), dest=name[2:].replace("-", "_"), type=float, default=usually,
                            metavar="SECONDS", help=f"{text} (%(default)s)")  # fmt: skip
    for name, usually in (("--seed", usual.seed), ("--partitions", usual.partitions)):
        parser.add_argument(name, type=int, default=usually, help="(%(default)s)")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    found = vars(parser.parse_args(arguments))
    as_json = found.pop("json")
    return Given(**found), as_json


def main() -> int:
    given, as_json = options()
    sys.setswitchinterval(0.001)  # sending and reading share this process
    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    with tempfile.TemporaryDirectory(prefix="foldcast-soak-") as home:
        kafka = kafka_from_jars(extra_properties=KEPT, say=say)
        try:
            outcome = soak(kafka, given, Path(home), say)
        except Refusal as error:
            raise SystemExit(f"soak: {error}") from error
        finally:
            kafka.stop()
    print(json.dumps(outcome.as_json(), indent=1) if as_json else "\n".join(outcome.lines()))
    return 1 if failed(outcome.verdicts()) else 0


if __name__ == "__main__":
    sys.exit(main())
