"""`foldcast run`: the worker, until SIGTERM or Ctrl-C."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.settings.settings import Settings

EXAMPLE = "foldcast run --config configs/sensors.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own arguments."""
    parser.add_argument(
        "--leave", action="store_true", help="leave the group at the end, so that others take over at once"
    )
    parser.add_argument(
        "--from-group",
        metavar="OLD",
        help="go on where this group ended, under another kafka.group_id: fold the input silently up to its offsets, "
        "then publish; waits while OLD has members, does nothing once the new group has begun",
    )


def main(given: argparse.Namespace, settings: "Settings") -> int:
    """Run until `given.stop` is set. Returns the exit code. Raises Refusal."""
    from worker.run import run  # imports numba and more, for a second: after signals have their handlers

    return run(settings, given.leave, given.stop, given.from_group)
