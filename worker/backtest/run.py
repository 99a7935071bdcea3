"""A file through the engine: folded once or twice, then the table, the scores and the plot of it."""

import sys
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from tqdm import tqdm

from pipeline.backtest.backtest import Refused, backtest
from pipeline.backtest.inline import InlineTrainer
from pipeline.backtest.scoring import Scoring, Tallies, Trace, scores
from pipeline.batch import DROPS
from pipeline.shard import Shard
from worker.backtest import plot
from worker.backtest.dates import HistoryError
from worker.backtest.files import records
from worker.backtest.table import table
from worker.plan import Plan
from worker.refusal import Refusal, printable

UPDATE_WORDS = {
    "updates": "updates",
    "clipped": "of them clipped",
    "adopted": "adopted",
    "rolled_back": "rolled back",
    "nonfinite": "not finite",
    "too_few_windows": "without windows",
}
RECORD = 200  # bytes of one that was refused, on the terminal
QUIET_S = 2.0  # no progress bar on what is done sooner

Rows = tuple[int, int | None]  # event indices, the last one excluded; None: to the end


class BacktestError(Refusal):
    """The back-test cannot be run, or its scores cannot be written; the message is one sentence."""


@dataclass
class Pass:
    """The result of folding a file once: scores, traces, updates and refused records."""

    tallies: Tallies = field(default_factory=dict)
    traces: dict[str, Trace] = field(default_factory=dict)
    updates: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    first: dict[str, Refused] = field(default_factory=dict)  # by reason


def run(
    path: Path,
    plan: Plan,
    shards: Sequence[Shard],
    trainers: Sequence[InlineTrainer],
    rows: Rows,
    silent: Sequence[Shard] = (),
    json_path: Path | None = None,
    plot_path: Path | None = None,
) -> int:
    """Fold the file, by `silent` shards too where there are some; print the table, write the JSON and the plot."""
    began = time.monotonic()
    whole = fold(path, plan, shards, trainers, rows, keep=plot.EVENTS + plan.method.longest if plot_path else 0)
    without = fold(path, plan, silent, [], rows, "without network").tallies if silent else None
    for reason, number in whole.refused.items():
        r = whole.first[reason]
        print(f"{number:,} refused ({reason}), the first in {_told(r)}", file=sys.stderr)
    dropped = _dropped(shards)
    if any(dropped.values()):
        late = "; rows must be in time order" if dropped["late"] else ""
        print(f"{_words(dropped)} events were dropped{late}", file=sys.stderr)
    lines = table(whole.tallies, plan.method, without)
    print("\n".join(lines))
    if not any(tally.n.any() for tally in whole.tallies.values()):
        print("nothing is scored: no forecast among the rows to score has its label in the file", file=sys.stderr)
    if trainers:
        print(", ".join(f"{whole.updates[name]:,} {words}" for name, words in UPDATE_WORDS.items()))
    state = shards[0].table.row_bytes
    print(f"{state:,} bytes of state per stream")
    if json_path is not None:
        document = scores(whole.tallies, plan.method, without)
        document |= {"refused": whole.refused, "dropped": dropped, "state_bytes": state}
        document["updates"] = {name: whole.updates[name] for name in UPDATE_WORDS}
        _write(json_path, document | {"seconds": round(time.monotonic() - began, 3)})
    if plot_path is not None:
        plot.write(plot_path, plot.figure(whole.tallies, whole.traces, plan.method, without), path.name, lines)
    return 0


def silent(plan: Plan, partitions: int) -> list[Shard]:
    """Return shards whose network forecasts no change and never learns: the method without its network."""
    network = plan.network()
    network.take({name: weight * 0 for name, weight in network.weights.items()})
    return [Shard(plan.method, network, 0, plan.settings) for _ in range(partitions)]


def fold(
    path: Path,
    plan: Plan,
    shards: Sequence[Shard],
    trainers: Sequence[InlineTrainer],
    rows: Rows,
    what: str = "",
    keep: int = 0,
) -> Pass:
    """Fold the file once. Raises BacktestError and HistoryError."""
    scoring = Scoring(plan.method, *rows, keep)
    done = Pass()
    name = f"{path.name} {what}".strip()
    try:
        with (
            path.open("rb") as raw,
            tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=name, delay=QUIET_S) as progress,
        ):
            for part in backtest(records(raw, plan.decoder.form), shards, plan.decoder, trainers):
                scoring.take(part.forecasts)
                for r in part.refused:
                    done.refused[r.reason] += 1
                    done.first.setdefault(r.reason, r)
                progress.update(raw.tell() - progress.n)
    except (OSError, EOFError, zlib.error) as error:  # EOFError, zlib.error: what gzip says of a damaged file
        raise BacktestError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    except HistoryError as error:
        raise HistoryError(f"{path}: {error}") from error
    done.tallies, done.traces = scoring.tallies, scoring.traces
    done.updates = sum((trainer.counts for trainer in trainers), Counter())
    if not done.tallies:
        refused = next((f"; {sum(done.refused.values()):,} refused, {_told(r)}" for r in done.first.values()), "")
        raise BacktestError(f"{path} has no event to forecast: {_words(_dropped(shards))}{refused}")
    return done


def _dropped(shards: Sequence[Shard]) -> dict[str, int]:
    dropped = {name: sum(getattr(shard.counters, name) for shard in shards) for name in DROPS}
    return {name: number for name, number in dropped.items() if number or name in DROPS[:3]}


def _words(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items())


def _told(refused: Refused) -> str:
    record = refused.record
    return printable(f"row {record.place}: {refused.message}; it is {record.value[:RECORD].decode(errors='replace')}")


def _write(path: Path, whole: dict[str, object]) -> None:
    try:
        path.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise BacktestError(f"the scores cannot be written: {error}") from error
