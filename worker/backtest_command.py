"""`foldcast backtest`: a file through the engine, a table of scores, the worst stream first."""

import argparse
import math
import re
import sys
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
from tqdm import tqdm

from pipeline.backtest import Refused, backtest
from pipeline.compiled import Floats
from pipeline.learner import Learner
from pipeline.method import Method
from pipeline.scoring import WHOLE, Scoring, Tallies, Trace, mean_skills, scores, worst_first
from pipeline.shard import Shard
from worker import assembly, plot
from worker.failures import Refusal, WrongUsage
from worker.history import HistoryError, records
from worker.life import Plan
from worker.settings import Settings

UPDATE_WORDS = {
    "updates": "updates",
    "clipped": "of them clipped",
    "adopted": "adopted",
    "rolled_back": "rolled back",
    "nonfinite": "not finite",
    "too_few_windows": "without windows",
}
DROPPED = ("late", "duplicate", "missing")
RECORD = 200  # bytes of one that was refused, on the terminal
SHOWN = 30  # streams in the table; the JSON has all
QUIET_S = 2.0  # no progress bar on what is done sooner
MEAN_WORDS = {
    WHOLE: "mean of all",
    "seasonal": "  seasonal naive",
    "linear": "  linear expert",
    "network": "  network",
    "stack": "  stacking",
    "without_network": "  without network",
}

Rows = tuple[int, int | None]  # event indices, the last one excluded; None: to the end


class BacktestError(Refusal):
    """The back-test cannot be run or written; one sentence."""


@dataclass
class Pass:
    """One time through a file."""

    tallies: Tallies = field(default_factory=dict)
    traces: dict[str, Trace] = field(default_factory=dict)
    updates: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    first: dict[str, Refused] = field(default_factory=dict)  # by reason


def main(given: argparse.Namespace, settings: Settings) -> int:
    """The command, with its arguments as the command line has them. Raises Refusal."""
    if given.partitions < 1:
        raise WrongUsage(f"--partitions is {given.partitions}; it must be 1 or more")
    if given.update_every is not None and given.update_every < 1:
        raise WrongUsage(f"--update-every is {given.update_every}; it must be 1 or more")
    if given.update_every is not None and not settings.fine_tune.enabled:
        raise WrongUsage("--update-every needs learning: leave it out, or set fine_tune.enabled = true")
    for option, path in (("--json", given.json), ("--plot", given.plot)):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise WrongUsage(f"{option} is {path}; it must be a file in a directory that there is")
    if given.plot is not None:
        plot.check(given.plot)
    plan, schedule, learns = assembly.plan(settings), assembly.schedule(settings), settings.fine_tune.enabled
    shards = [Shard(plan.method, plan.network(), 0, plan.settings, parts=True) for _ in range(given.partitions)]
    learners = [Learner(shard, schedule, given.update_every) for shard in shards if learns]
    without = silent(plan, given.partitions) if given.ablate else []
    return run(given.file, plan, shards, learners, score_rows(given.score_rows), without, given.json, given.plot)


def run(
    path: Path,
    plan: Plan,
    shards: Sequence[Shard],
    learners: Sequence[Learner],
    rows: Rows,
    silent: Sequence[Shard] = (),
    json_path: Path | None = None,
    plot_path: Path | None = None,
) -> int:
    """Fold the file, by `silent` shards too where there are some; print the table, write the JSON and the plot."""
    began = time.monotonic()
    whole = fold(path, plan, shards, learners, rows, keep=plot.EVENTS + plan.method.longest if plot_path else 0)
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
    if learners:
        print(", ".join(f"{whole.updates[name]:,} {words}" for name, words in UPDATE_WORDS.items()))
    state = shards[0].table.row_bytes
    print(f"{state:,} bytes of state per stream")
    if json_path is not None:
        told = scores(whole.tallies, plan.method, without)
        told |= {"refused": whole.refused, "dropped": dropped, "state_bytes": state}
        told["updates"] = {name: whole.updates[name] for name in UPDATE_WORDS}
        _write(json_path, told | {"seconds": round(time.monotonic() - began, 3)})
    if plot_path is not None:
        plot.write(plot_path, plot.figure(whole.tallies, whole.traces, plan.method, without), path.name, lines)
    return 0


def silent(plan: Plan, partitions: int) -> list[Shard]:
    """Shards whose network says no change, and goes on saying so: the method without it."""
    network = plan.network()
    network.take({name: weight * 0 for name, weight in network.weights.items()})
    return [Shard(plan.method, network, 0, plan.settings) for _ in range(partitions)]


def fold(
    path: Path,
    plan: Plan,
    shards: Sequence[Shard],
    learners: Sequence[Learner],
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
            for part in backtest(records(raw, plan.decoder.form), shards, plan.decoder, learners):
                scoring.take(part.forecasts)
                for r in part.refused:
                    done.refused[r.reason] += 1
                    done.first.setdefault(r.reason, r)
                progress.update(raw.tell() - progress.n)
    except (OSError, EOFError, zlib.error) as error:  # EOFError, zlib.error: what gzip says of a damaged file
        raise BacktestError(f"{path} cannot be read: {error}") from error
    except HistoryError as error:
        raise HistoryError(f"{path}: {error}") from error
    done.tallies, done.traces = scoring.tallies, scoring.traces
    done.updates = sum((learner.counts for learner in learners), Counter())
    if not done.tallies:
        refused = next((f"; {sum(done.refused.values()):,} refused, {_told(r)}" for r in done.first.values()), "")
        raise BacktestError(f"{path} has no event to forecast: {_words(_dropped(shards))}{refused}")
    return done


def _dropped(shards: Sequence[Shard]) -> dict[str, int]:
    return {name: sum(getattr(shard.counters, name) for shard in shards) for name in DROPPED}


def _words(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items())


def _told(refused: Refused) -> str:
    record = refused.record
    return f"row {record.place}: {refused.message}; it is {record.value[:RECORD].decode(errors='replace')}"


def _write(path: Path, whole: dict[str, object]) -> None:
    try:
        path.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise BacktestError(f"the scores cannot be written: {error}") from error


def score_rows(text: str | None) -> Rows:
    """`A:B`, either end left out.

    >>> score_rows("500:"), score_rows(":9"), score_rows(None)
    ((500, None), (0, 9), (0, None))
    """
    if text is None:
        return 0, None
    found = re.fullmatch(r"(\d*):(\d*)", text)
    if found is None:
        raise WrongUsage(f"--score-rows is {text!r}; it must be A:B, as in 500:1000 or 500:")
    first, last = int(found[1] or 0), int(found[2]) if found[2] else None
    if last is not None and first >= last:
        raise WrongUsage(f"--score-rows is {text!r}, which is none; it must be A:B with A less than B")
    return first, last


# ---- the table


def table(tallies: Tallies, method: Method, without: Tallies | None = None) -> list[str]:
    """Skill per horizon and coverage per level over all horizons, one line per stream, the worst first.

    Below are the means over streams: of the forecast, of its single parts, and of what it is without the network.
    """
    width = min(40, max(len(word) for word in ["stream", *MEAN_WORDS.values(), *tallies]))
    heads = [f"skill@{h}" for h in method.horizons] + [f"in {level:.0%}" for level in method.band_levels]
    lines = [" ".join([f"{'stream':<{width}}", f"{'events':>9}", *(f"{head:>9}" for head in heads)])]
    order = worst_first(tallies)
    for name in order[:SHOWN]:
        tally = tallies[name]
        numbers = [_cell(s, ".3f") for s in tally.skill]
        numbers += [_cell(c, ".1%") for c in _ratio(tally.inside.sum(0), tally.n.sum())]
        lines.append(" ".join([f"{plot.shown(name, width):<{width}}", f"{tally.events:>9,}", *numbers]))
    if len(order) > SHOWN:
        lines.append(f"and {len(order) - SHOWN:,} streams that are better; --json has all")
    for name, skill in mean_skills(tallies, method, without).items():
        numbers = [_cell(s, ".3f") for s in skill]
        lines.append(" ".join([f"{MEAN_WORDS[name]:<{width}}", f"{'':>9}", *numbers]))
    return lines


def _ratio(inside: Floats, n: float) -> Floats:
    return inside / n if n else np.full(len(inside), np.nan)


def _cell(number: float, how: str) -> str:
    return f"{'-':>9}" if math.isnan(number) else f"{number:>9{how}}"
