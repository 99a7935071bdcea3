"""foldcast beside what else one would write or use: a loop by hand, quixstreams, faust, all exactly once.

The same events and fields for all: 24 horizons, 3 quantiles; foldcast also with its default of 5 horizons and 5
quantiles. Nobody learns; `--variant NAME SETTING=VALUE` adds another worker as it is set up. The peers are
`tests/bench/peers`, from the packages of its streaming.lock, and step a GRU of 64 with the torch of this virtual
environment. The loop by hand saves no state; the echo is kafka-python's, and forecasts nothing.

First drains, as in bench_drain.py, of `--events`, or of a part of these where it takes long; then windows at each of
`--rates`, as in bench_latency.py. Peers that commit by the clock do so twice a second in drains, and as often as they
bear it in windows. All variants take their turns in every round.
"""

import argparse
import sys
import sysconfig
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench_drain import COST, Echo, drain, record_bytes
from bench_latency import Window
from report import Report, options
from stand import Sections, Stand, Subject, Worker, add_options, say, stand, variants

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".cache/peers-streaming/bin/python"
OFF: Sections = {"fine_tune": {"enabled": "false"}}
FAR: Sections = {"model": {"horizons": str([*range(1, 25)]), "quantiles": "[0.1, 0.5, 0.9]"}}
OURS: dict[str, Sections] = {"foldcast 5x5": OFF, "foldcast 24x3": OFF | FAR}
DRAIN_COMMIT_S = 0.5
Start = Callable[[], Subject]


class Peer(Worker):
    """A peer in a worker's place; its option is how often it commits."""

    script = ""

    @property
    def program(self) -> list[str]:
        return [str(PYTHON), "-u", str(ROOT / "tests/bench/peers" / self.script)]


class ByHand(Peer):
    script = "by_hand.py"


class Quixstreams(Peer):
    script = "with_quixstreams.py"


class Faust(Peer):
    script = "with_faust.py"


# By name: what it is, which part of the events it drains, and how often it commits in windows: faust commits a
# transaction per partition, and with 20 ms it does nothing else
PEERS: dict[str, tuple[type[Peer], int, float]] = {
    "by hand": (ByHand, 2, 0.0),
    "quixstreams": (Quixstreams, 4, 0.02),
    "faust": (Faust, 20, 0.25),
}
PEER_WARM = 2  # events of each stream: their cost does not depend on what came before


def peer(on: Stand, kind: type[Peer], commit_s: float) -> Subject:
    cluster = on.cluster({})
    cluster.environment |= {"PARTITIONS": str(on.partitions), "TORCH_PATH": sysconfig.get_path("purelib")}
    return Subject(cluster, on.streams, kind, str(commit_s))


def drains(on: Stand, given: argparse.Namespace, ours: dict[str, Sections]) -> Report:
    report = Report(f"drains, {on.streams:,} streams, {on.partitions} partitions, one process")
    weight = 0
    for _ in range(given.runs):
        turns: dict[str, tuple[Start, int, int]] = {
            name: (partial(on.worker, tables), given.warm, given.events) for name, tables in ours.items()
        }
        for name, (kind, part, _) in PEERS.items():
            turns[name] = partial(peer, on, kind, DRAIN_COMMIT_S), PEER_WARM, given.events // part
        for name, (start, warm, count) in turns.items():
            with start() as subject:
                add(report, name, drain(subject, warm, count))
                weight = weight or record_bytes(subject)
        with Subject(on.cluster({}), on.streams, Echo, str(weight)) as subject:
            add(report, "echo", drain(subject, PEER_WARM, given.events))
    return report


def add(report: Report, name: str, figures: dict[str, float]) -> None:
    report.add(name, {measure: figures[measure] for measure in ("events/s", COST)})


def windows(on: Stand, given: argparse.Namespace, ours: dict[str, Sections]) -> list[Report]:
    """A report for each rate."""
    with ExitStack() as stack:
        subjects = {name: stack.enter_context(on.worker(tables)) for name, tables in ours.items()}
        for name, (kind, _, commit_s) in PEERS.items():
            subjects[name] = stack.enter_context(peer(on, kind, commit_s))
        for name, subject in subjects.items():
            say(f"warming up {name}")
            subject.warm(given.warm if name in ours else PEER_WARM)
        reports = {
            rate: Report(f"latency at {rate:g} events/s, windows of {given.seconds:g} s") for rate in given.rates
        }
        for _ in range(given.runs):
            for rate, report in reports.items():
                for name, subject in subjects.items():
                    figures = Window(subject, rate, given.seconds).run(given.settle)
                    report.add(name, {measure: figures[measure] for measure in ("p50 ms", "p95 ms", "cores")})
    return list(reports.values())


def draw(path: Path, drained: Report, waited: list[Report]) -> None:
    """A panel each of events/s, CPU, and latency at each rate."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "foldcast", "font.sans-serif": ["DejaVu Sans"]}):
        rows = 1 + (len(waited) + 1) // 2
        figure = Figure(figsize=(10, 2.4 * rows), layout="constrained")
        panels = list(figure.subplots(rows, 2, squeeze=False).flat)
        for measure, panel in zip(("events/s", COST), panels, strict=False):
            medians = drained.medians(measure)
            bars = panel.barh(list(medians), list(medians.values()))
            panel.bar_label(bars, [f"{median:,.0f}" for median in medians.values()], padding=3)
            panel.set(title=measure, xlim=(0, 1.2 * max(medians.values())))
        for report, panel in zip(waited, panels[2:], strict=False):
            for measure, alpha in (("p95 ms", 0.4), ("p50 ms", 1.0)):
                medians = report.medians(measure)
                panel.barh(list(medians), list(medians.values()), color="C0", alpha=alpha, label=measure)
            panel.set(title=report.title.split(",")[0], xlabel="ms")
        if waited:
            panels[1 + len(waited)].legend()
        for panel in panels:
            panel.invert_yaxis()
        figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    parser = options(__doc__, runs=3)
    add_options(parser, streams=2000, partitions=8, warm=60)
    parser.add_argument("--events", type=int, default=100_000, help="of a drain by a worker (%(default)s)")
    parser.add_argument("--rates", type=float, nargs="*", default=[10, 100], help="events/s (%(default)s)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a window (%(default)s)")
    parser.add_argument("--settle", type=float, default=3.0, help="of these that do not count (%(default)s)")
    parser.add_argument("--plot", type=Path, metavar="OUT.svg", help="draw the medians")
    given = parser.parse_args()
    if not PYTHON.exists():
        raise SystemExit(f"{PYTHON} is not there: `make bench PEERS=1` installs the peers.")
    ours = OURS | (variants(given.variant) if given.variant else {})
    sys.setswitchinterval(0.001)  # sending and reading share this process
    with stand(given.streams, given.partitions) as on:
        drained = drains(on, given, ours)
        drained.show(given.json)
        waited = windows(on, given, ours) if given.rates else []
    for report in waited:
        report.show(given.json)
    if given.plot:
        draw(given.plot, drained, waited)


if __name__ == "__main__":
    main()
