"""Whether a soak was passed: each promise with its figures, and a table of what grew how fast."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from tests.soak.faults import Fault
from tests.soak.samples import CHANGELOG, DESCRIPTORS, MEMORY, STATE, THREADS, Samples
from tests.soak.slopes import Point, Slope, lows, slope
from worker.topics import SEGMENT_BYTES

LOWS_S = 30.0  # of what is counted, the lowest figure of such a span
COMPACTED = 4  # times the live state that a changelog may take on disk


@dataclass(frozen=True)
class Verdict:
    """A promise, and whether it was kept."""

    promise: str
    kept: bool
    why: str


@dataclass
class Outcome:
    """All that a run found."""

    rate: float
    seconds: float
    partitions: int
    settle_s: float
    samples: Samples
    sent: int = 0
    streams: int = 0
    forecasts: int = 0
    wrong: Counter[str] = field(default_factory=Counter)  # by kind: forecasts lost, twice or unexpected, dead letters
    examples: Sequence[str] = ()
    faults: list[Fault] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)  # what went wrong beside the forecasts

    @property
    def slopes(self) -> dict[tuple[str, str], Slope | None]:
        """By subject and measure."""
        return {key: slope(self._segments(*key)) for key in self.samples}

    def _segments(self, subject: str, measure: str) -> list[list[Point]]:
        segments = self.samples.settled(subject, measure, self.settle_s)
        return [lows(one, LOWS_S) for one in segments] if measure in (DESCRIPTORS, THREADS) else segments

    def verdicts(self) -> Iterator[Verdict]:
        """All promises."""
        every = self.sent == self.forecasts and not self.wrong
        told = "; ".join([*(f"{n:,} {kind}" for kind, n in self.wrong.items()), *self.examples]) or "none wrong"
        yield Verdict("each event sent has one forecast", every, f"{self.forecasts:,} of {self.sent:,}, {told}")
        late = [f"{fault.kind} at {fault.at_s:.0f} s" for fault in self.faults if not fault.over]
        yield Verdict("each fault is recovered from", not late, "; ".join(late) or f"{len(self.faults)} faults")
        yield Verdict("nothing ends by itself", not self.trouble, "; ".join(self.trouble) or "nothing did")
        for (subject, measure), found in self.slopes.items():
            if subject != "soak" and measure in (MEMORY, DESCRIPTORS, THREADS):  # it remembers every stream
                yield _flat(subject, measure, found)
        yield self._compacted()

    def _compacted(self) -> Verdict:
        """Beside what compaction leaves alone: the newest segment of each partition."""
        pairs = [self.samples.settled("topics", measure, self.settle_s) for measure in (CHANGELOG, STATE)]
        disk, state = ([point.figure for segment in segments for point in segment] for segments in pairs)
        promise = f"a changelog is at most {COMPACTED} times the live state"
        if not disk:
            return Verdict(promise, False, "there is no sample of it: a longer run tells")
        newest = self.partitions * SEGMENT_BYTES / 1e6
        over = [a / (COMPACTED * b + newest) for a, b in zip(disk, state, strict=True)]
        worst = over.index(max(over))
        figures = f"at most {disk[worst]:.1f} MB for {state[worst]:.1f} MB, and {newest:.1f} MB of newest segments"
        return Verdict(promise, over[worst] <= 1, figures)

    def lines(self) -> Iterator[str]:
        """Yield the outcome as lines for people."""
        yield f"{self.seconds / 60:.1f} minutes at {self.rate:,.0f} events/s, {self.streams:,} streams"
        for fault in self.faults:
            yield f"  at {fault.at_s:6.0f} s  {fault.kind:<18} caught up after {fault.seconds:.1f} s"
        yield f"  {'subject':<14} {'measure':<14} {'mean':>9} {'per hour':>10} {'error':>9} {'segments':>8}  "
        for (subject, measure), found in self.slopes.items():
            yield f"  {subject:<14} {measure:<14} {_told(found)}"
        for verdict in self.verdicts():
            yield f"{'kept  ' if verdict.kept else 'BROKEN'}  {verdict.promise}: {verdict.why}"

    def as_json(self) -> dict[str, object]:
        """Return the outcome for a program."""
        return {
            "rate": self.rate,
            "seconds": self.seconds,
            "streams": self.streams,
            "sent": self.sent,
            "forecasts": self.forecasts,
            "faults": [asdict(fault) for fault in self.faults],
            "slopes": {f"{s}: {m}": found and asdict(found) for (s, m), found in self.slopes.items()},
            "samples": {f"{s}: {m}": self.samples.settled(s, m, 0) for s, m in self.samples},
            "verdicts": [asdict(verdict) for verdict in self.verdicts()],
        }


def _flat(subject: str, measure: str, found: Slope | None) -> Verdict:
    if found is None:
        return Verdict(f"{measure} of {subject} does not grow", False, "too few samples: a longer run tells")
    grows = found.grows if measure == MEMORY else found.counts_up
    figures = f"{found.per_hour:+.2f} ± {found.error:.2f} an hour ({found.share:+.1%}) at {found.mean:.1f}"
    return Verdict(f"{measure} of {subject} does not grow", not grows, figures)


def _told(found: Slope | None) -> str:
    if found is None:
        return "too few samples"
    flat = "grows" if found.grows else "flat"
    return f"{found.mean:>9.1f} {found.per_hour:>+10.2f} {found.error:>9.2f} {found.segments:>8}  {flat}"


def failed(verdicts: Sequence[Verdict] | Iterator[Verdict]) -> list[Verdict]:
    """Those that were not kept."""
    return [verdict for verdict in verdicts if not verdict.kept]
