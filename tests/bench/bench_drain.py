"""How much CPU an event costs: the worker beside a bare exactly-once echo, and with learning off and on.

Each round drains the same number of events with every variant in turn (A B A B ...), each a process of its own on
topics of its own, all on one Kafka. A process is started, fed `--warm` events per stream (and, where it learns, waited
for until it has made an update), held (SIGSTOP) while `--events` are produced, and let go. Figures are from that moment
to the commit of the last event, so no start-up is in them, and no snapshot unless `--events` reach one
(worker.snapshot_events). Children are the worker's trainer, where it has one; their CPU is told apart. Not many more
than a million events: a process must not be held for longer than its own time limits (fine_tune.hang_s).

"events per CPU-second / echo's" is the echo's CPU per event divided by the variant's, round by round.
"""

import argparse
import signal
import statistics

from report import Report, options
from stand import Stand, Subject, Worker, add_options, stand, variants

from worker.broker.restore import TopicReader

COST = "CPU us/event"
RATIO = "events per CPU-second / echo's"


class Echo(Worker):
    """The echo in a worker's place."""

    module = "tests.bench.echo"


def drain(subject: Subject, warm: int, count: int) -> dict[str, float]:
    """Figures of one drain by a subject that was just started."""
    subject.warm(warm)
    updates = subject.updates()
    subject.worker.tell(signal.SIGSTOP)
    subject.feed(count)
    before = subject.account(updates)
    subject.worker.tell(signal.SIGCONT)
    subject.wait_until_committed()
    used = subject.account(subject.updates()).since(before)
    return {
        COST: used.cpu_s / count * 1e6,
        "CPU us/event, children": used.children_cpu_s / count * 1e6,
        "events/s": count / used.seconds,
        "updates/s": used.updates / used.seconds,
    }


def record_bytes(subject: Subject) -> int:
    """What a forecast weighs: key, value and headers."""
    connection, output = subject.cluster.connection, subject.cluster.topics.output
    with TopicReader(connection, output) as reader:
        lasts = {partition: max(end - 100, 0) for partition, end in reader.ends().items()}
    with TopicReader(connection, output, lasts) as reader:
        while not (records := reader.poll(0.5)):
            pass
    weights = [len(r.key or b"") + len(r.value or b"") + sum(len(n) + len(v) for n, v in r.headers) for r in records]
    return int(statistics.median(weights))


def measure(on: Stand, given: argparse.Namespace, report: Report) -> None:
    weight = 0
    for _ in range(given.runs):
        for name, tables in variants(given.variant).items():
            with on.worker(tables) as subject:
                report.add(name, drain(subject, given.warm, given.events))
                weight = weight or record_bytes(subject)
        with Subject(on.cluster({}), on.streams, Echo, str(weight)) as subject:
            figures = drain(subject, given.warm, given.events)
            report.add("echo", {measure: figures[measure] for measure in (COST, "events/s")})
    report.add_ratios(RATIO, of=COST, to="echo")


def main() -> None:
    parser = options(__doc__, runs=5)
    add_options(parser, streams=2000, partitions=8, warm=60)
    parser.add_argument("--events", type=int, default=100_000, help="of one drain (%(default)s)")
    given = parser.parse_args()
    report = Report(
        f"drain of {given.events:,} events, {given.streams:,} streams, {given.partitions} partitions, one worker"
    )
    with stand(given.streams, given.partitions) as on:
        measure(on, given, report)
    report.show(given.json)


if __name__ == "__main__":
    main()
