"""`foldcast backtest`: a CSV file through the engine, a table of scores, the worst stream first."""

import argparse
import csv
import gzip
import io
import math
import re
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import orjson
from tqdm import tqdm

from pipeline.backtest import Record, Refused, Scoring, Tally, backtest, scores
from pipeline.compiled import Floats
from pipeline.events import NO_TIMESTAMP, Format, from_epoch, from_iso
from pipeline.learner import Learner
from pipeline.method import Method
from pipeline.shard import Shard
from worker import assembly
from worker.failures import Refusal
from worker.life import Plan
from worker.settings import Settings

MISSING = ("", "NA")
UPDATE_WORDS = {
    "updates": "updates",
    "clipped": "of them clipped",
    "adopted": "adopted",
    "rolled_back": "rolled back",
    "nonfinite": "not finite",
    "too_few_windows": "without windows",
}
SHOWN = 30  # streams in the table; the JSON has all
QUIET_S = 2.0  # no progress bar on what is done sooner

GZIP = b"\x1f\x8b"
EPOCH_DIGITS = 19  # more would not fit what JSON decoders take as an integer

Rows = tuple[int, int | None]  # event indices, the last one excluded; None: to the end
Maker = Callable[[int, list[str]], Iterator[Record]]  # from a line's number and cells


class BacktestError(Refusal):
    """The file cannot be used; one sentence with line and column."""


def main(given: argparse.Namespace, settings: Settings) -> int:
    """The command, with its arguments as the command line has them."""
    if given.partitions < 1:
        raise BacktestError(f"--partitions is {given.partitions}; it must be 1 or more")
    if given.update_every is not None and given.update_every < 1:
        raise BacktestError(f"--update-every is {given.update_every}; it must be 1 or more")
    if given.update_every is not None and not settings.fine_tune.enabled:
        raise BacktestError("--update-every needs learning: leave it out, or set fine_tune.enabled = true")
    plan, schedule = assembly.plan(settings), assembly.schedule(settings)
    shards = [Shard(plan.method, plan.network(), 0, plan.settings) for _ in range(given.partitions)]
    learners = [Learner(shard, schedule, given.update_every) for shard in shards if settings.fine_tune.enabled]
    scoring = Scoring(plan.method, *score_rows(given.score_rows))
    return run(given.file, plan, shards, learners, scoring, given.json)


def run(
    path: Path,
    plan: Plan,
    shards: Sequence[Shard],
    learners: Sequence[Learner],
    scoring: Scoring,
    json_path: Path | None = None,
) -> int:
    """Fold the file, print the table and write the JSON. Raises BacktestError."""
    began = time.monotonic()
    refused: Counter[str] = Counter()
    first: dict[str, Refused] = {}
    try:
        with (
            path.open("rb") as raw,
            tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=path.name, delay=QUIET_S) as progress,
        ):
            for part in backtest(records(raw, plan.decoder.form), shards, plan.decoder, learners):
                scoring.take(part.forecasts)
                for r in part.refused:
                    refused[r.reason] += 1
                    first.setdefault(r.reason, r)
                progress.update(raw.tell() - progress.n)
    except (OSError, EOFError, zlib.error) as error:  # EOFError, zlib.error: what gzip says of a damaged file
        raise BacktestError(f"{path} cannot be read: {error}") from error
    except BacktestError as error:
        raise BacktestError(f"{path}: {error}") from error
    for reason, number in refused.items():
        r = first[reason]
        print(f"{number} refused ({reason}), the first in line {r.record.place}: {r.message}", file=sys.stderr)
    if not scoring.tallies:
        raise BacktestError(f"{path} has no event to forecast")
    print("\n".join(table(scoring.tallies, plan.method)))
    updates = sum((learner.counts for learner in learners), Counter())
    if learners:
        print(", ".join(f"{updates[name]:,} {words}" for name, words in UPDATE_WORDS.items()))
    if json_path is not None:
        whole = scores(scoring.tallies, plan.method) | {"refused": refused}
        whole["updates"] = {name: updates[name] for name in UPDATE_WORDS}
        _write(json_path, whole | {"seconds": round(time.monotonic() - began, 3)})
    return 0


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
        raise BacktestError(f"--score-rows is {text!r}; it must be A:B, as in 500:1000 or 500:")
    return int(found[1] or 0), int(found[2]) if found[2] else None


# ---- the file


def records(raw: BinaryIO, form: Format) -> Iterator[Record]:
    """The records of a CSV file, gzip or not, long or wide, as a producer would have made them; in file order.

    A record's timestamp is its event's time. Raises BacktestError where the file has not the form of a table; what is
    wrong with a single value is the decoder's to say.
    """
    packed = raw.read(len(GZIP)) == GZIP
    raw.seek(0)
    plain = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
    text = io.TextIOWrapper(plain, encoding="utf-8-sig", newline="")
    rows = csv.reader(text, strict=True)
    try:
        header = next(rows, None)
        if not header:
            raise BacktestError("line 1 has no columns: it must name them, as in stream,time,value")
        make = _maker(header, form)
        for row in rows:
            if len(row) == len(header):
                yield from make(rows.line_num, row)
            elif row:
                raise BacktestError(f"line {rows.line_num} {_misfit(row, header)}")
    except csv.Error as error:
        raise BacktestError(f"line {rows.line_num} is no CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise BacktestError(f"after line {rows.line_num} there is text that is not UTF-8: {error.reason}") from error
    finally:
        text.detach()  # else it closes the file, which is not ours


def _misfit(row: list[str], header: list[str]) -> str:
    if len(row) < len(header):
        return f"ends before column {header[len(row)]!r}"
    return f"goes on after the last column, {header[-1]!r}, with {row[len(header)]!r}"


def _maker(header: list[str], form: Format) -> Maker:
    """What makes a line's records; columns have the names in [events], else stream, time and value."""
    for place, name in enumerate(header):
        if name in header[:place]:
            raise BacktestError(f"line 1 has column {name!r} twice")
    time_at = _column(header, form.time_field, "time")
    stream_at = _column(header, form.stream_field, "stream")
    value_at = _column(header, form.target_field, "value")
    if time_at is None:
        raise BacktestError(f"line 1 has no column {form.time_field!r}")
    if stream_at is None:
        return partial(_wide, header, time_at, form)
    if value_at is None:
        raise BacktestError(f"line 1 has no column {form.target_field!r}")
    for name in form.covariates:
        if name not in header:
            raise BacktestError(f"line 1 has no column {name!r} (events.covariates)")
    return partial(_long, (stream_at, time_at, value_at), [(c, header.index(c)) for c in form.covariates], form)


def _column(header: list[str], name: str, otherwise: str) -> int | None:
    return next((header.index(n) for n in (name, otherwise) if n in header), None)


def _long(
    at: tuple[int, int, int], covariates: list[tuple[str, int]], form: Format, line: int, row: list[str]
) -> Iterator[Record]:
    stream, moment, value = (row[place] for place in at)
    more = {name: _number(row[place]) for name, place in covariates}
    yield _record(line, stream, moment, value, form, more)


def _wide(header: list[str], time_at: int, form: Format, line: int, row: list[str]) -> Iterator[Record]:
    for place, stream in enumerate(header):
        if place != time_at:
            yield _record(line, stream, row[time_at], row[place], form, {})


def _record(
    line: int, stream: str, moment: str, value: str, form: Format, covariates: dict[str, str | float | None]
) -> Record:
    when = _time(moment)
    time_ms = from_iso(when) if isinstance(when, str) else None if when is None else from_epoch(when)
    event = {form.stream_field: stream, form.time_field: when, form.target_field: _number(value)} | covariates
    return Record(line, stream, NO_TIMESTAMP if time_ms is None else time_ms, orjson.dumps(event))


def _time(text: str) -> str | int | float | None:
    """As JSON would have it; digits are epoch seconds, ms, us or ns."""
    if text in MISSING:
        return None
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) < EPOCH_DIGITS:
        return int(text)
    number = _number(text)
    return number if isinstance(number, float) else text


def _number(text: str) -> str | float | None:
    """As JSON would have it: a finite number, null where it is missing; the text where it is neither."""
    if text in MISSING:
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


# ---- the table


def table(tallies: dict[str, Tally], method: Method) -> list[str]:
    """Skill per horizon and coverage per level over all horizons, one line per stream, the worst first."""
    width = min(40, max([len("stream"), *map(len, tallies)]))
    heads = [f"skill@{h}" for h in method.horizons] + [f"in {level:.0%}" for level in method.band_levels]
    lines = [" ".join([f"{'stream':<{width}}", f"{'events':>9}", *(f"{head:>9}" for head in heads)])]
    order = sorted(tallies, key=lambda name: _worth(tallies[name]))
    for name in order[:SHOWN]:
        tally = tallies[name]
        numbers = [_cell(s, ".3f") for s in tally.skill]
        numbers += [_cell(c, ".1%") for c in _ratio(tally.inside.sum(0), tally.n.sum())]
        lines.append(" ".join([f"{name[:width]:<{width}}", f"{tally.events:>9,}", *numbers]))
    if len(order) > SHOWN:
        lines.append(f"and {len(order) - SHOWN:,} streams that are better; --json has all")
    return lines


def _worth(tally: Tally) -> float:
    """Mean skill; streams without one come last."""
    some = tally.skill[~np.isnan(tally.skill)]
    return float(some.mean()) if len(some) else math.inf


def _ratio(inside: Floats, n: float) -> Floats:
    return inside / n if n else np.full(len(inside), np.nan)


def _cell(number: float, how: str) -> str:
    return f"{'-':>9}" if math.isnan(number) else f"{number:>9{how}}"
