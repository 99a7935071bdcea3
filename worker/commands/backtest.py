"""`foldcast backtest`: the same engine over a file, no Kafka."""

import argparse
import gc
import re
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from worker.refusal import Refusal, WrongUsage

if TYPE_CHECKING:
    from worker.settings.settings import Settings

EXAMPLE = "foldcast backtest history.csv --id unique_id --time ds --target y --score-rows 500: --forecasts out.parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own arguments."""
    parser.add_argument("file", type=Path, help="CSV or Parquet: stream,time,value, or time and one column a stream")
    add_columns(parser)
    parser.add_argument("--score-rows", metavar="A:B", help="score forecasts made at a stream's event A up to B")
    parser.add_argument("--partitions", type=int, default=1, metavar="P", help="shards to spread the streams over")
    parser.add_argument(
        "--update-every", type=int, metavar="N", help="events between two updates (default: the schedule's)"
    )
    parser.add_argument("--ablate", action="store_true", help="fold it again to score the method without network")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the scores and the verdicts")
    parser.add_argument(
        "--forecasts", type=Path, metavar="OUT", help="write every scored forecast: OUT.parquet or OUT.csv"
    )
    parser.add_argument("--plot", type=Path, metavar="OUT", help="draw the worst streams: OUT.html, .png or .svg")
    parser.add_argument(
        "--plot-stream", action="append", metavar="STREAM", help="draw this one instead of the worst; may come again"
    )
    parser.add_argument(
        "--require-skill",
        type=float,
        metavar="X",
        help="exit with 1 where the mean skill over streams and horizons is below X, as in a pipeline",
    )


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Declare what columns of a history are called."""
    for option, meaning in (("id", "stream's name"), ("time", "time"), ("target", "value to forecast")):
        words = f"the column of the {meaning} (default: as in [events])"
        parser.add_argument(f"--{option}", metavar="COLUMN", help=words)


def main(given: argparse.Namespace, settings: "Settings") -> int:
    """Fold the file and print its scores. Returns the exit code. Raises Refusal."""
    if given.partitions < 1:
        raise WrongUsage(f"--partitions is {given.partitions}; it must be 1 or more")
    if given.update_every is not None and given.update_every < 1:
        raise WrongUsage(f"--update-every is {given.update_every}; it must be 1 or more")
    if given.update_every is not None and not settings.fine_tune.enabled:
        raise WrongUsage("--update-every needs learning: leave it out, or set fine_tune.enabled = true")
    if given.plot_stream is not None and given.plot is None:
        raise WrongUsage("--plot-stream needs a picture to be in: give --plot OUT.html too")
    if given.require_skill is not None and not isfinite(given.require_skill):
        raise WrongUsage(f"--require-skill is {given.require_skill}; it must be a number, such as 0.1")
    rows = score_rows(given.score_rows)
    for option, path in (("--json", given.json), ("--forecasts", given.forecasts), ("--plot", given.plot)):
        if path is not None:
            check_output(option, path, given.file)
    gc.disable()  # while packages are imported, of which hardly anything is garbage
    try:
        from pipeline.backtest.inline import InlineTrainer
        from worker.backtest import export, plot
        from worker.backtest.columns import Columns
        from worker.backtest.run import Asked, run, silent
        from worker.kernels.warming import compiling_is_told
        from worker.plan import Plan, schedule_of

        plan, schedule, learns = Plan.of(settings), schedule_of(settings), settings.fine_tune.enabled
        shards = [plan.shard(0, parts=True) for _ in range(given.partitions)]  # loads torch where they need it
    finally:
        gc.enable()
    gc.freeze()  # 100,000 objects and more, which every full collection would walk through
    if given.plot is not None:
        plot.check(given.plot)
    if given.forecasts is not None:
        export.check(given.forecasts)
    trainers = [InlineTrainer(shard, schedule, given.update_every) for shard in shards if learns]
    without = silent(plan, given.partitions) if given.ablate else []
    asked = Asked(
        rows, Columns(given.id, given.time, given.target), given.json, given.forecasts, given.plot,
        tuple(given.plot_stream or ()), given.require_skill,
    )  # fmt: skip
    try:
        with compiling_is_told():
            return run(given.file, plan, shards, trainers, asked, without)
    except BrokenPipeError:  # nobody reads the table to its end
        return 1
    except OSError as error:  # of the table, where output is not buffered; those of files are refusals
        raise Refusal(str(error)) from error


def check_output(option: str, path: Path, history: Path) -> None:
    """Raise WrongUsage where a file cannot be written there, or must not be."""
    if not _could_be_a_file(path):
        raise WrongUsage(f"{option} is {path}; it must be a file in a directory that there is")
    if path.exists() and history.exists() and path.samefile(history):
        raise WrongUsage(f"{option} is {path}, which is the history itself: name another file")


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
