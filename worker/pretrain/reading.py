"""What files of history gave to learn from, read as a back-test reads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.pretraining.sequences import Collector, Sequences
from worker.backtest.columns import Columns
from worker.backtest.run import Asked, fold, tell_refused
from worker.plan import Plan
from worker.refusal import Refusal


class Source(NamedTuple):
    """One history: its name, how many streams it has, and its sequences."""

    name: str
    streams: int
    sequences: Sequences

    @property
    def words(self) -> str:
        """For people, as the checkpoint keeps it."""
        return f"{self.name} ({self.streams:,} streams, {len(self.sequences.inputs):,} events)"


def from_file(path: Path, plan: Plan, columns: Columns, held_out: float) -> Source:
    """Fold a file by a shard of its own. Raises Refusal where it cannot be read or has no event."""
    shard, collector = plan.shard(0), Collector(plan.method)
    shard.wave.then(collector)
    done = fold(path, plan, [shard], [], Asked(columns=columns))
    tell_refused(done, [shard])
    return Source(path.name, len(done.tallies), collector.sequences(held_out))


def joined(sources: Sequence[Source]) -> Sequences:
    """The sequences of all. Raises Refusal where there is no event."""
    some = [source.sequences for source in sources if len(source.sequences.inputs)]
    if not some:
        raise Refusal("there is no event to learn from: look at what the history holds")
    return Sequences.joined(some)
