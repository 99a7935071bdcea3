"""`foldcast pretrain`: weights to begin with, learnt from history or from the built-in corpus."""

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from worker.commands.backtest import add_columns, check_output
from worker.refusal import Refusal, WrongUsage

if TYPE_CHECKING:
    from worker.plan import Plan
    from worker.pretrain.reading import Source
    from worker.settings.settings import Settings

EXAMPLE = "foldcast pretrain january.csv february.parquet --out base.safetensors --about CC0-1.0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own arguments."""
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="as backtest reads them, each by itself")
    parser.add_argument("--from-topic", action="store_true", help="learn from all that the input topic holds by now")
    parser.add_argument(
        "--corpus", action="store_true", help="learn from synthetic series and open data, which pip fetches; files too"
    )
    parser.add_argument(
        "--from", dest="base", metavar="BASE", help="begin with these weights, `base` or a file (with nothing)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="CHECKPOINT", help="the file to write")
    add_columns(parser)
    parser.add_argument(
        "--held-out", type=float, default=0.2, metavar="SHARE", help="the last part of each history, to judge by (0.2)"
    )
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="at most; fewer where more do not help (100, of the corpus 16)"
    )
    parser.add_argument("--about", default="", metavar="TEXT", help="source and licence of the data, kept in the file")


def main(given: argparse.Namespace, settings: "Settings") -> int:
    """Train and write the checkpoint. Returns the exit code. Raises Refusal, BrokerError."""
    if given.from_topic + (bool(given.files) or given.corpus) != 1:
        raise WrongUsage(
            "pretrain learns from files, from the built-in corpus, or from the input topic: give FILE..., --corpus or "
            "both, or --from-topic"
        )
    if not 0 < given.held_out < 1:
        raise WrongUsage(f"--held-out is {given.held_out:g}; it must be a share, such as 0.2")
    if given.epochs is not None and given.epochs < 1:
        raise WrongUsage(f"--epochs is {given.epochs}; it must be 1 or more")
    for file in given.files or [Path()]:
        check_output("--out", given.out, file)
    from pipeline.pretraining.training import Schedule
    from worker.kernels.warming import compiling_is_told
    from worker.plan import NO_BASE, Plan
    from worker.pretrain.run import run

    model = settings.model.model_copy(update={"checkpoint": given.base or NO_BASE})
    plan = Plan.of(settings.model_copy(update={"model": model}))
    if plan.checkpoint is None and given.base not in (None, NO_BASE):
        raise Refusal(f"--from {given.base} gives {plan.base}: set [model] as it was trained, or leave --from out")
    if plan.base:
        print(f"weights to begin with: {plan.base}", file=sys.stderr)
    schedule = Schedule(seed=settings.model.seed)
    if given.corpus:  # it is large
        schedule = replace(schedule, lanes=128, steps=64, piece=2048, learning_rate=6e-3)
        schedule = replace(schedule, epochs=16, cool_down=5, patience=16)
    if given.epochs is not None:
        schedule = replace(schedule, epochs=given.epochs)
    with compiling_is_told():
        sources, licences = _sources(given, settings, plan)
        return run(sources, plan, schedule, given.out, "; ".join(filter(None, [given.about, *licences])))


def _sources(given: argparse.Namespace, settings: "Settings", plan: "Plan") -> tuple[list["Source"], list[str]]:
    """What is learnt from, and the licences of open data."""
    if given.from_topic:
        from worker.pretrain.topic import from_topic
        from worker.registry.decoder import with_registry

        return [*from_topic(settings.kafka, with_registry(plan, settings, alone=True)[0], given.held_out)], []
    from worker.backtest.columns import Columns
    from worker.pretrain.reading import from_file

    sources, licences = list["Source"](), list[str]()
    if given.corpus:
        from worker.demo import open_data
        from worker.pretrain import corpus

        try:
            found = [*open_data.every(say=partial(print, file=sys.stderr))]
        except (RuntimeError, OSError) as error:
            raise Refusal(f"--corpus needs open data that could not be fetched: {error}") from error
        sources += corpus.synthetic(plan.method, settings.model.seed)
        sources += [corpus.of_data(data.name, data.series, plan.method) for data in found]
        licences += [f"{data.name}: {data.licence}" for data in found]
    columns = Columns(given.id, given.time, given.target)
    sources += [from_file(file, plan, columns, given.held_out) for file in given.files]
    return sources, licences
