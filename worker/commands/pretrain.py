"""`foldcast pretrain`: weights to begin with, learnt from history."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from worker.commands.backtest import add_columns, check_output
from worker.refusal import WrongUsage

if TYPE_CHECKING:
    from worker.settings.settings import Settings

EXAMPLE = "foldcast pretrain january.csv february.parquet --out base.safetensors --about CC0-1.0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own arguments."""
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="as backtest reads them, each by itself")
    parser.add_argument("--from-topic", action="store_true", help="learn from all that the input topic holds by now")
    parser.add_argument("--out", type=Path, required=True, metavar="CHECKPOINT", help="the file to write")
    add_columns(parser)
    parser.add_argument(
        "--held-out", type=float, default=0.2, metavar="SHARE", help="the last part of each history, to judge by (0.2)"
    )
    parser.add_argument(
        "--epochs", type=int, default=100, metavar="N", help="at most; fewer where more do not help (100)"
    )
    parser.add_argument("--about", default="", metavar="TEXT", help="source and licence of the data, kept in the file")


def main(given: argparse.Namespace, settings: "Settings") -> int:
    """Train and write the checkpoint. Returns the exit code. Raises Refusal, BrokerError."""
    if bool(given.files) == given.from_topic:
        raise WrongUsage("pretrain learns from files or from the input topic: give FILE... or --from-topic")
    if not 0 < given.held_out < 1:
        raise WrongUsage(f"--held-out is {given.held_out:g}; it must be a share, such as 0.2")
    if given.epochs < 1:
        raise WrongUsage(f"--epochs is {given.epochs}; it must be 1 or more")
    for file in given.files or [Path()]:
        check_output("--out", given.out, file)
    from pipeline.pretraining.training import Schedule
    from worker.backtest.columns import Columns
    from worker.kernels.warming import compiling_is_told
    from worker.plan import Plan
    from worker.pretrain.reading import from_file
    from worker.pretrain.run import run

    plan, columns = Plan.of(settings), Columns(given.id, given.time, given.target)
    with compiling_is_told():
        if given.from_topic:
            from worker.pretrain.topic import from_topic
            from worker.registry.decoder import with_registry

            sources = [*from_topic(settings.kafka, with_registry(plan, settings, alone=True)[0], given.held_out)]
        else:
            sources = [from_file(file, plan, columns, given.held_out) for file in given.files]
        return run(sources, plan, Schedule(epochs=given.epochs, seed=settings.model.seed), given.out, given.about)
