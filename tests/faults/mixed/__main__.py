"""`make faults`: so many faults or so many minutes, in an order that a seed decides, then the verdict."""

import argparse
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults.mixed.kinds import KINDS
from tests.faults.mixed.storm import storm
from tests.faults.mixed.verdict import verdict


def main() -> int:
    """Exit code 0 where nothing was lost, doubled, wrong or out of order, and no worker got stuck."""
    given = arguments()
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    began, done, slowest = time.monotonic(), Counter[str](), 0.0
    kinds = given.kind or list(KINDS)
    weights = [KINDS[kind][1] for kind in kinds]
    say(f"seed {given.seed}: up to {given.faults} faults in {given.minutes:g} minutes at {given.rate:g} events/s")
    with (
        tempfile.TemporaryDirectory() as home,
        storm(given.keep or Path(home), given.seed, given.rate, given.several) as (stage, feeder, follower),
    ):
        while done.total() < given.faults and time.monotonic() - began < given.minutes * 60:
            time.sleep(stage.rng.uniform(0.2, 3))
            kind = stage.rng.choices(kinds, weights)[0]
            what = KINDS[kind][0](stage)
            took = stage.recover()
            done[kind] += 1
            slowest = max(slowest, took)
            say(f"{done.total():>4} {kind:<26} {what}; answers after {took:.1f} s")
        stage.finish(feeder)
        report, wrong = verdict(stage.cluster, follower)
        ended = stage.ended
    say(f"{done.total()} faults: {dict(done)}; longest recovery {slowest:.1f} s; seed {given.seed}")
    for line in (*report.lines(), *(f"ended by itself: {line}" for line in ended), *wrong):
        print(line)
    print(f"states: {'the same bits' if not wrong else 'FAILED'}")
    return bool(wrong or ended)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed, the same order of faults")
    parser.add_argument("--faults", type=int, default=150, metavar="N")
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--rate", type=float, default=300.0, help="events per second")
    parser.add_argument("--several", action="store_true", help="messages of several targets, their fields in others")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="only these")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the workers' logs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
