"""`foldcast backtest`: the same engine over a file, no Kafka."""

import argparse
import gc
import re
from pathlib import Path
from typing import TYPE_CHECKING

from worker.refusal import Refusal, WrongUsage

if TYPE_CHECKING:
    from worker.settings.settings import Settings

EXAMPLE = "foldcast backtest history.csv --score-rows 500: --ablate --plot scores.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own arguments."""
    parser.add_argument("file", type=Path, help="CSV or Parquet: stream,time,value, or time and one column a stream")
    parser.add_argument("--score-rows", metavar="A:B", help="score forecasts made at a stream's event A up to B")
    parser.add_argument("--partitions", type=int, default=1, metavar="P", help="shards to spread the streams over")
    parser.add_argument(
        "--update-every", type=int, metavar="N", help="events between two updates (default: the schedule's)"
    )
    parser.add_argument("--ablate", action="store_true", help="fold it again to score the method without network")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the scores")
    parser.add_argument("--plot", type=Path, metavar="OUT", help="draw the worst streams: OUT.html, .png or .svg")


def main(given: argparse.Namespace, settings: "Settings") -> int:
    """Fold the file and print its scores. Returns the exit code. Raises Refusal."""
    if given.partitions < 1:
        raise WrongUsage(f"--partitions is {given.partitions}; it must be 1 or more")
    if given.update_every is not None and given.update_every < 1:
        raise WrongUsage(f"--update-every is {given.update_every}; it must be 1 or more")
    if given.update_every is not None and not settings.fine_tune.enabled:
        raise WrongUsage("--update-every needs learning: leave it out, or set fine_tune.enabled = true")
    rows = score_rows(given.score_rows)
    for option, path in (("--json", given.json), ("--plot", given.plot)):
        if path is not None and not _could_be_a_file(path):
            raise WrongUsage(f"{option} is {path}; it must be a file in a directory that there is")
    gc.disable()  # while torch is imported, of which hardly anything is garbage
    try:
        from pipeline.backtest.inline import InlineTrainer
        from worker.backtest import plot
        from worker.backtest.run import run, silent
        from worker.plan import Plan, schedule_of
    finally:
        gc.enable()
    gc.freeze()  # its 200,000 objects, which every full collection would walk through
    if given.plot is not None:
        plot.check(given.plot)
    plan, schedule, learns = Plan.of(settings), schedule_of(settings), settings.fine_tune.enabled
    shards = [plan.shard(0, parts=True) for _ in range(given.partitions)]
    trainers = [InlineTrainer(shard, schedule, given.update_every) for shard in shards if learns]
    without = silent(plan, given.partitions) if given.ablate else []
    try:
        return run(given.file, plan, shards, trainers, rows, without, given.json, given.plot)
    except BrokenPipeError:  # nobody reads the table to its end
        return 1
    except OSError as error:  # of the table, where output is not buffered; those of files are refusals
        raise Refusal(str(error)) from error


def _could_be_a_file(path: Path) -> bool:
    try:
        return path.parent.is_dir() and not path.is_dir()
    except OSError:  # a name longer than the system allows
        return False


def score_rows(text: str | None) -> tuple[int, int | None]:
    """Event indices from `A:B`, either end left out; the last one is excluded, None goes to the end.

    >>> score_rows("500:"), score_rows(":9"), score_rows(None)
    ((500, None), (0, 9), (0, None))
    """
    if text is None:
        return 0, None
    found = re.fullmatch(r"(\d{0,18}):(\d{0,18})", text)
    if found is None:
        raise WrongUsage(f"--score-rows is {text!r}; it must be A:B, as in 500:1000 or 500:")
    first, last = int(found[1] or 0), int(found[2]) if found[2] else None
    if last is not None and first >= last:
        raise WrongUsage(f"--score-rows is {text!r}, which is none; it must be A:B with A less than B")
    return first, last
