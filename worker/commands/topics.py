"""`foldcast topics`: the topics made, verified, or the changelog begun anew."""

import argparse
import sys
from typing import TYPE_CHECKING

from worker.refusal import WrongUsage

if TYPE_CHECKING:
    from worker.settings.settings import Settings

MOST_PARTITIONS, MOST_REPLICAS = 100_000, 32_767  # of one topic: what a cluster bears, what its protocol can say
EXAMPLE = "foldcast topics create --partitions 8 --replication 3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own arguments."""
    parser.add_argument("action", choices=("create", "check", "reset"))
    parser.add_argument("--partitions", type=int, metavar="N", help="of topics to make (default: the input's)")
    parser.add_argument("--replication", type=int, metavar="N", default=-1, help="default: the cluster's")
    parser.add_argument("--yes", action="store_true", help="do not ask before a reset")


def main(given: argparse.Namespace, settings: "Settings") -> int:
    """Make, check or reset the topics and print the result. Returns the exit code. Raises Refusal, BrokerError."""
    from worker import topics  # it loads the Kafka client

    if given.action == "create":
        _check("--partitions", given.partitions, MOST_PARTITIONS)
        _check("--replication", None if given.replication == -1 else given.replication, MOST_REPLICAS)
        lines = topics.create(settings, given.partitions, given.replication)
    elif given.action == "check":
        checked, _ = topics.check(settings)
        lines = [" ".join(f"{key}={fact}" for key, fact in topic.items()).removeprefix("name=") for topic in checked]
    else:
        print("This deletes the state of every stream; forecasts go on cold from the group's offsets.")
        if not given.yes and not _agreed():
            return 1
        from worker.reset import reset  # it makes empty shards, and so loads numba

        lines = reset(settings)
    print("\n".join(lines))
    return 0


def _check(option: str, number: int | None, most: int) -> None:
    if number is not None and not 1 <= number <= most:
        raise WrongUsage(f"{option} is {number}; it must be 1 to {most:,}")


def _agreed() -> bool:
    try:
        return input("Type yes to go on: ") == "yes"
    except EOFError:  # nobody to ask
        print("foldcast: nobody answers here: say --yes", file=sys.stderr)
        return False
