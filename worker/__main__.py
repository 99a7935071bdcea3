"""The command line."""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from worker import ONE_THREAD, __version__
from worker.log import configure, life
from worker.signals import asked_to_stop

if TYPE_CHECKING:
    from worker.settings import Settings

EXAMPLES = {
    "run": "foldcast run --config configs/sensors.toml",
    "topics": "foldcast topics create --partitions 8 --replication 3",
    "backtest": "foldcast backtest history.csv --score-rows 500: --ablate --plot scores.html",
    "demo": "foldcast demo --no-keep",
    "warm": "foldcast warm",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Exit code 0 done, 1 failed, 2 wrong usage; errors are one sentence on stderr."""
    given = _parser().parse_args(arguments)
    running = given.command == "run"
    with asked_to_stop(lambda name: life("stopping", signal=name)) if running else nullcontext(Event()) as given.stop:
        return _called(given, running)


def _called(given: argparse.Namespace, running: bool) -> int:
    os.environ.update(ONE_THREAD)
    from worker.settings import SettingsError, load  # after signals have their handlers, as all that takes its time

    try:
        settings = load(given.config)
    except SettingsError as error:
        return _failed(error, 2)
    from worker.broker.contract import BrokerError  # after the settings: importing torch takes seconds
    from worker.failures import Refusal, WrongUsage

    if running:
        configure(settings.log.level, settings.log.format)
    try:
        code: int = given.call(given, settings)
    except (Refusal, BrokerError) as error:
        code = _failed(error, 2 if isinstance(error, WrongUsage) else 1)
    except KeyboardInterrupt:
        code = 130
    return code if running else _flushed(code)


def _flushed(code: int) -> int:
    """What was printed is out, or it is said that it is not; quietly where nobody reads on."""
    try:
        print(end="", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again at its end
        return _unsaid(error)
    return code


def _unsaid(error: OSError) -> int:
    return 1 if isinstance(error, BrokenPipeError) else _failed(error, 1)


def _failed(error: Exception, code: int) -> int:
    print(f"foldcast: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="foldcast", description="Forecasts many time series online: Kafka events in, forecasts out, exactly once."
    )
    parser.add_argument("--version", action="version", version=f"foldcast {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = _command(commands, "run", _run, "the worker, until SIGTERM or Ctrl-C")
    run.add_argument(
        "--leave", action="store_true", help="leave the group at the end, so that others take over at once"
    )

    topics = _command(commands, "topics", _topics, "make, verify, or start the changelog anew")
    topics.add_argument("action", choices=("create", "check", "reset"))
    topics.add_argument("--partitions", type=int, metavar="N", help="of topics to make (default: the input's)")
    topics.add_argument("--replication", type=int, metavar="N", default=-1, help="default: the cluster's")
    topics.add_argument("--yes", action="store_true", help="do not ask before a reset")

    backtest = _command(commands, "backtest", _backtest, "the same engine over a file, no Kafka")
    backtest.add_argument("file", type=Path, help="CSV or Parquet: stream,time,value, or time and one column a stream")
    backtest.add_argument("--score-rows", metavar="A:B", help="score forecasts made at a stream's event A up to B")
    backtest.add_argument("--partitions", type=int, default=1, metavar="P", help="shards to spread the streams over")
    backtest.add_argument(
        "--update-every", type=int, metavar="N", help="events between two updates (default: the schedule's)"
    )
    backtest.add_argument("--ablate", action="store_true", help="fold it again to score the method without network")
    backtest.add_argument("--json", type=Path, metavar="OUT", help="write the scores")
    backtest.add_argument("--plot", type=Path, metavar="OUT", help="draw the worst streams: OUT.html or OUT.png")

    demo = _command(commands, "demo", _demo, "local Kafka, real data, two workers, a summary")
    demo.add_argument("--no-keep", action="store_true", help="end after the summary, on a terminal too")
    demo.add_argument("--rate", type=float, default=1500.0, metavar="N", help="events per second")

    warm = _command(commands, "warm", _warm, "compile the kernels, so that no worker has to")
    warm.add_argument("--check", action="store_true", help="fail where one was not found compiled")
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, call: object, text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text, epilog=f"example: {EXAMPLES[name]}")
    command.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML; FOLDCAST_SECTION__NAME variables win over it"
    )
    command.set_defaults(call=call)
    return command


def _run(given: argparse.Namespace, settings: "Settings") -> int:
    from worker.run import run

    return run(settings, given.leave, given.stop)


def _topics(given: argparse.Namespace, settings: "Settings") -> int:
    from worker import topics

    if given.action == "create":
        lines = topics.create(settings, given.partitions, given.replication)
    elif given.action == "check":
        lines, _ = topics.check(settings)
    else:
        print("This deletes the state of every stream; forecasts go on cold from the group's offsets.")
        if not given.yes and not _agreed():
            return 1
        lines = topics.reset(settings)
    print("\n".join(lines))
    return 0


def _agreed() -> bool:
    try:
        return input("Type yes to go on: ") == "yes"
    except EOFError:  # nobody to ask
        print("foldcast: nobody answers here: say --yes", file=sys.stderr)
        return False


def _backtest(given: argparse.Namespace, settings: "Settings") -> int:
    gc.disable()  # while torch is imported, of which hardly anything is garbage
    try:
        from worker import backtest_command
    finally:
        gc.enable()
    gc.freeze()  # its 200,000 objects, which every full collection would walk through
    try:
        return backtest_command.main(given, settings)
    except OSError as error:  # of its table, where output is not buffered; those of files are refusals
        return _unsaid(error)


def _demo(given: argparse.Namespace, _settings: "Settings") -> int:
    from worker import demo

    return demo.run(given.config, given.rate, keep=not given.no_keep and sys.stdout.isatty())


def _warm(given: argparse.Namespace, settings: "Settings") -> int:
    from worker import assembly
    from worker.warm import warm

    compiled, found = warm(assembly.plan(settings))
    print(f"kernels compiled {compiled}, found compiled {found}")
    return 1 if given.check and compiled else 0


if __name__ == "__main__":
    sys.exit(main())
