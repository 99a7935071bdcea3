"""The command line: picks a command, imports that one alone, and turns refusals into exit codes."""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path

from worker import ONE_THREAD, __version__
from worker.commands import COMMANDS
from worker.observe.log import configure, event
from worker.refusal import Refusal, WrongUsage, printable
from worker.signals import Stop, asked_to_stop


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Exit code 0 done, 1 failed, 2 wrong usage; errors are one sentence on stderr."""
    if isinstance(sys.stdout, TextIOWrapper):  # streams have any names, a terminal may not have their letters
        sys.stdout.reconfigure(errors="backslashreplace")
    given = _given(sys.argv[1:] if arguments is None else arguments)
    running = given.command == "run"
    signals = asked_to_stop(lambda name: event("stopping", signal=name), at_once=True)  # until there is what to finish
    with signals if running else nullcontext(Stop()) as given.stop:
        return _called(given, running)


def program() -> int:
    """What the shell calls: `main`, and no search for cycles after it among 200,000 objects that end all the same."""
    code = main()
    gc.disable()
    gc.freeze()
    return code


def _given(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="foldcast", description="Forecasts many time series online: Kafka events in, forecasts out, exactly once."
    )
    parser.add_argument("--version", action="version", version=f"foldcast {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == chosen:
            module = import_module(f"worker.commands.{name.replace('-', '_')}")
            command.epilog = f"example: {module.EXAMPLE}"
            command.add_argument(
                "--config", type=Path, metavar="FILE", help="TOML; FOLDCAST_SECTION__NAME variables win over it"
            )
            module.add_arguments(command)
            command.set_defaults(call=module.main)
    return parser.parse_args(arguments)


def _called(given: argparse.Namespace, running: bool) -> int:
    os.environ.update(ONE_THREAD)
    from worker.broker.contract import BrokerError  # these too after signals have their handlers
    from worker.settings.sentences import SettingsError
    from worker.settings.sources import load

    try:
        settings = load(given.config)
    except SettingsError as error:
        return _failed(error, 2)
    if running:
        configure(settings.log.level, settings.log.format)
    try:
        code: int = given.call(given, settings)
    except (Refusal, SettingsError) as error:
        code = _failed(error, 2 if isinstance(error, (WrongUsage, SettingsError)) else 1)
    except BrokerError as error:
        code = _failed(f"{error}; {error.fix}", 1)
    except KeyboardInterrupt:
        code = 130
    return code if running else _flushed(code)


def _flushed(code: int) -> int:
    """Flush the output and return the exit code: 1 where it cannot be written, quietly where nobody reads on."""
    try:
        print(end="", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again at its end
        return 1 if isinstance(error, BrokenPipeError) else _failed(error, 1)
    return code


def _failed(error: Exception | str, code: int) -> int:
    print(f"foldcast: {printable(str(error))}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(program())
