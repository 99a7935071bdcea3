"""`foldcast demo`: local Kafka, real data, two workers, a summary."""

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.settings.settings import Settings

EXAMPLE = "foldcast demo --no-keep"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own arguments."""
    parser.add_argument("--no-keep", action="store_true", help="end after the summary, on a terminal too")
    parser.add_argument("--rate", type=float, default=1500.0, metavar="N", help="events per second")


def main(given: argparse.Namespace, _settings: "Settings") -> int:
    """Run the demo. Returns the exit code. Raises Refusal."""
    from worker.demo import demo

    return demo.run(given.config, given.rate, keep=not given.no_keep and sys.stdout.isatty())
