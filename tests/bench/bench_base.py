"""What the base of `make base` is worth by the age of a stream, beside other starts: errors by the last value's.

Each set is folded as `foldcast backtest` folds it and learns inline. Figures are of horizons 1, 6 and 24, of forecasts
made at events 20 to 100, 100 to 500, and so on; squared errors by the last value's, means over the series; first of
what is published, then of the network alone. Some minutes.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from histories import beijing, car_parks, prices, traffic

sys.path.insert(0, str(Path(__file__).parents[2]))

from pipeline.backtest.backtest import Record, backtest
from pipeline.backtest.inline import InlineTrainer
from pipeline.backtest.scoring import Scoring
from pipeline.backtest.tally import FORECAST, LAST, PARTS
from pipeline.learning.fine_tune import Schedule
from pipeline.parts.experts import part_names
from pipeline.shard import Shard
from worker.backtest.files import records
from worker.demo import newyork
from worker.plan import NO_BASE, Plan, base_file
from worker.settings.settings import Settings

AGES = ((20, 100), (100, 500), (500, 2000), (2000, None))
HORIZONS, SHOWN = Settings().model.horizons, (1, 6, 24)
SETS: dict[str, Callable[[Path], None]] = {
    "new-york": newyork.write_csv,
    "traffic": lambda path: traffic().write(path),
    "car-parks": lambda path: car_parks().write(path),
    "beijing": lambda path: beijing().write(path),
    "prices": lambda path: prices().write(path),
}


class Start(NamedTuple):
    """From what weights, and how they learn."""

    base: bool
    slow: bool = False  # a slow chain beside the fast one, as a base has
    learns: bool = True


STARTS = {
    "nothing": Start(base=False),
    "base": Start(base=True, slow=True),
    "base, fast alone": Start(base=True),
    "base, frozen": Start(base=True, learns=False),
}


def first_events(path: Path, most: int) -> Iterator[Record]:
    """Yield those of each stream."""
    seen: Counter[str] = Counter()
    with path.open("rb") as file:
        for record in records(file, Plan.of(Settings()).decoder.form):
            seen[record.stream] += 1
            if seen[record.stream] <= most:
                yield record


def errors(path: Path, start: Start, base: Path, most: int) -> dict[tuple[int, int | None], np.ndarray]:
    """By age: (2, Z) what is published and the network alone, by the last value's."""
    plan = Plan.of(Settings(model={"checkpoint": str(base) if start.base else NO_BASE}))
    network = plan.network()
    network.updates = network.updates if start.slow else 0
    shard = Shard(plan.method, network, 0, plan.settings, parts=True)
    trainers = [InlineTrainer(shard, Schedule())] if start.learns else []
    scorings = {age: Scoring(plan.method, *age) for age in AGES}
    for part in backtest(first_events(path, most), [shard], plan.decoder, trainers):
        for scoring in scorings.values():
            scoring.take(part.forecasts)
    alone = PARTS + part_names(plan.method).index("network")
    found = {}
    for age, scoring in scorings.items():
        squared = [tally.squared for tally in scoring.tallies.values() if tally.n.all()]
        if squared:
            mine, last = (np.array(squared)[:, :, parts] for parts in ([FORECAST, alone], [LAST]))
            wrong = np.where(last > 0, last, np.nan)  # a series whose last value never is has no ratio
            found[age] = np.nanmean(mine / wrong, axis=0).T
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=list(SETS), help=f"which (all: {', '.join(SETS)})")
    parser.add_argument("--base", type=Path, default=base_file("gru"), help="another checkpoint")
    parser.add_argument("--most", type=int, default=5000, help="events of a stream")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in given.sets:
            path = Path(folder) / f"{name}.csv"
            SETS[name](path)
            for words, start in STARTS.items():
                began = time.process_time()
                for (first, last), ratios in errors(path, start, given.base, given.most).items():
                    cells = (" ".join(f"{row[HORIZONS.index(h)]:.3f}" for h in SHOWN) for row in ratios)
                    age = f"{first} on" if last is None else f"{first}-{last}"
                    print(f"{name:10} {age:9} {words:17}", " | ".join(cells), flush=True)
                print(f"{name:10} {words:17} {time.process_time() - began:.0f} s of CPU", file=sys.stderr)


if __name__ == "__main__":
    main()
