"""A file through the engine: folded once or twice, then the table, the verdicts, the scores and the plot of it."""

import math
import sys
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import Any

import orjson
from tqdm import tqdm

from pipeline.backtest.backtest import Refused, backtest
from pipeline.backtest.inline import InlineTrainer
from pipeline.backtest.scores import overall_skill, scores
from pipeline.backtest.scoring import History, Scoring, Sink, Trace
from pipeline.backtest.tally import Tallies
from pipeline.batch import DROPS
from pipeline.decoding.steps import Steps
from pipeline.shard import Shard
from worker import __version__
from worker.backtest import export, plot
from worker.backtest.cleaned import without_outliers
from worker.backtest.columns import PLAIN, Columns, HistoryError
from worker.backtest.diagnosis import diagnose
from worker.backtest.files import records
from worker.backtest.table import Judged, table, verdicts
from worker.backtest.verdict import verdict
from worker.plan import BASE, Plan
from worker.refusal import Refusal, printable
from worker.settings.settings import Settings

UPDATE_WORDS = {
    "updates": "updates",
    "clipped": "of them clipped",
    "adopted": "adopted",
    "rolled_back": "rolled back",
    "nonfinite": "not finite",
    "too_few_windows": "without windows",
}
RECORD = 200  # bytes of one that was refused, on the terminal
CAPTION = 150  # characters of a line above a picture
QUIET_S = 2.0  # no progress bar on what is done sooner
ROW = "row"
HINTS = {  # for files
    "wrong_type": "; a number belongs there, such as 3.5 (not 3,5 or 1,000): empty, NA or nan is missing",
    "bad_time": "; times are ISO 8601 or epoch seconds to nanoseconds: --time names their column",
}


@dataclass(frozen=True)
class Asked:
    """What the command line asks for beside the file: rows to score, columns, and what to write."""

    rows: tuple[int, int | None] = (0, None)  # event indices, the last one excluded; None: to the end
    columns: Columns = PLAIN
    json: Path | None = None
    forecasts: Path | None = None
    plot: Path | None = None
    plot_streams: tuple[str, ...] = ()  # the worst where none is named
    require_skill: float | None = None


class BacktestError(Refusal):
    """The back-test cannot be run, or its scores cannot be written; the message is one sentence."""


@dataclass
class Pass:
    """The result of folding a file once: scores, traces, updates and refused records."""

    tallies: Tallies = field(default_factory=dict)
    traces: dict[str, Trace] = field(default_factory=dict)
    histories: dict[str, History] = field(default_factory=dict)
    updates: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    doubt: str | None = None  # about the unit of times
    first: dict[str, Refused] = field(default_factory=dict)  # by reason

    def refuse(self, record: Refused) -> None:
        """Count a record that is no event, and keep it where it is the first of its reason."""
        self.refused[record.reason] += 1
        self.first.setdefault(record.reason, record)


def run(
    path: Path,
    plan: Plan,
    shards: Sequence[Shard],
    trainers: Sequence[InlineTrainer],
    asked: Asked = Asked(),
    silent: Sequence[Shard] = (),
) -> int:
    """Fold the file, by `silent` shards too where there are some; print the table, write what is asked for.

    Returns the exit code: 1 where nothing is scored, or the skill is below what is required.
    """
    began = time.monotonic()
    keep = plot.EVENTS + plan.method.longest if asked.plot else 0
    with ExitStack() as stack:
        sink = stack.enter_context(export.writer(asked.forecasts, plan.method)) if asked.forecasts else None
        whole = fold(path, plan, shards, trainers, asked, keep=keep, sink=sink)
    without = fold(path, plan, silent, [], asked, "without network").tallies if silent else None
    tell_refused(whole, shards)
    judged = {}
    for name, seen in whole.histories.items():
        found = diagnose(seen.time_ms, seen.value, plan.method)
        cleaned = partial(without_outliers, seen, plan.method, asked.rows)
        judged[name] = found, verdict(whole.tallies[name], found, plan.method, cleaned)
    lines = [*table(whole.tallies, plan.method, without), *verdicts(judged, whole.tallies, plan.method)]
    print("\n".join(lines))
    if trainers:
        print(", ".join(f"{whole.updates[name]:,} {words}" for name, words in UPDATE_WORDS.items()))
    if plan.base:
        print(f"weights to begin with: {plan.base}")
    print(f"{shards[0].table.row_bytes:,} bytes of state per stream")
    if asked.json is not None:
        document = _document(whole, judged, plan, shards, without)
        _write(asked.json, document | {"seconds": round(time.monotonic() - began, 3)})
    if asked.plot is not None:
        told = f"{printable(path.name)}: {caption(plan)}"
        drawn = plot.figure(whole.tallies, whole.traces, plan.method, without, asked.plot_streams, told)
        plot.write(asked.plot, drawn, path.name, lines)
    return _exit_code(whole.tallies, asked)


def _exit_code(tallies: Tallies, asked: Asked) -> int:
    if not any(tally.n.any() for tally in tallies.values()):
        print("nothing is scored: no forecast among the rows to score has its label in the file", file=sys.stderr)
        return 1
    skill, required = overall_skill(tallies), asked.require_skill
    if required is not None and math.isnan(skill):
        never = "the last value was never wrong, so that there is no skill to tell"
        print(f"{never}, and --require-skill {required:g} is not met", file=sys.stderr)
        return 1
    if required is not None and skill < required:
        print(f"the mean skill over streams and horizons is {skill:.3f}, --require-skill {required:g}", file=sys.stderr)
        return 1
    return 0


def caption(plan: Plan) -> str:
    """Return what made a picture: version, date and the settings that are not the defaults."""
    usual = Settings().meaning()
    changed = [f"{name} = {value}" for name, value in plan.settings.items() if usual.get(name) != value]
    base = [] if plan.base == BASE else [f"from {plan.base or 'nothing'}"]
    settings = ", ".join([*changed, *base]) or "default settings"
    return "\n".join(wrap(f"foldcast {__version__}, {datetime.now(UTC):%Y-%m-%d}, {settings}", CAPTION))


def _document(
    whole: Pass, judged: Judged, plan: Plan, shards: Sequence[Shard], without: Tallies | None
) -> dict[str, Any]:
    """The scores as JSON has them, with what was found of each stream."""
    document = scores(whole.tallies, plan.method, without)
    for name, (found, said) in judged.items():
        document["streams"][name] |= {
            "step_ms": found.step_ms,
            "season": found.season or None,
            "sentinels": {f"{value:g}": times for value, times in found.sentinels.items()},
            "spikes": found.spikes,
            "verdict": said.words,
            "why": said.why or None,
            "better": said.better,
        }
    document |= {"refused": whole.refused, "dropped": _dropped(shards), "state_bytes": shards[0].table.row_bytes}
    return document | {"updates": {name: whole.updates[name] for name in UPDATE_WORDS}}


def tell_refused(whole: Pass, shards: Sequence[Shard], place: str = ROW) -> None:
    """Print, on standard error, what was refused and what was dropped; `place` is what a record's place counts."""
    for reason, number in whole.refused.items():
        print(f"{number:,} refused ({reason}), the first in {_told(whole.first[reason], place)}", file=sys.stderr)
    if whole.doubt is not None:
        print(whole.doubt, file=sys.stderr)
    dropped = _dropped(shards)
    if any(dropped.values()):
        late = "; rows must be in time order" if dropped["late"] else ""
        print(f"{_words(dropped)} events were dropped{late}", file=sys.stderr)


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
    asked: Asked,
    what: str = "",
    keep: int = 0,
    sink: Sink | None = None,
) -> Pass:
    """Fold the file once; `keep` and `sink` as `Scoring` has them. Raises BacktestError and HistoryError."""
    scoring = Scoring(plan.method, *asked.rows, keep, sink)
    done = Pass()
    plan.decoder.steps = steps = Steps()  # of this file
    name = f"{path.name} {what}".strip()
    try:
        total = path.stat().st_size
        bar = tqdm(total=total, unit="B", unit_scale=True, desc=name, delay=QUIET_S, disable=None)  # but on a terminal
        with path.open("rb") as raw, bar as progress:
            for part in backtest(records(raw, plan.decoder.form, asked.columns), shards, plan.decoder, trainers):
                scoring.take(part.forecasts)
                for r in part.refused:
                    done.refuse(r)
                progress.update(raw.tell() - progress.n)
    except (OSError, EOFError, zlib.error) as error:  # EOFError, zlib.error: what gzip says of a damaged file
        raise BacktestError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    except HistoryError as error:
        raise HistoryError(f"{path}: {error}") from error
    done.tallies, done.traces, done.histories = scoring.tallies, scoring.traces, scoring.histories
    done.doubt = steps.doubt(plan.decoder.form.time_field, ended=True)
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


def _told(refused: Refused, place: str = ROW) -> str:
    record = refused.record
    body, hint = record.value[:RECORD].decode(errors="replace"), HINTS.get(refused.reason, "") if place == ROW else ""
    return printable(f"{place} {record.place}: {refused.message}; it is {body}{hint}")


def _write(path: Path, whole: dict[str, object]) -> None:
    try:
        path.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise BacktestError(f"the scores cannot be written: {error}") from error
