"""`foldcast warm`: compile the kernels, so that no worker has to."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.settings.settings import Settings

EXAMPLE = "foldcast warm"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own arguments."""
    parser.add_argument("--check", action="store_true", help="fail where one was not found compiled")


def main(given: argparse.Namespace, settings: "Settings") -> int:
    """Compile, and print how many kernels were compiled and found. Returns the exit code. Raises Refusal."""
    from worker.kernels.warming import warm
    from worker.plan import Plan

    compiled, found = warm(Plan.of(settings))
    print(f"kernels compiled {compiled}, found compiled {found}")
    return 1 if given.check and compiled else 0
