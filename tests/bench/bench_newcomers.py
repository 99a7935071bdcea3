"""What a stream's first forecasts are worth in a shard that has learnt of strangers: errors by the last value's.

New York's weather, 1,500 events of each of 18 streams, comes first, and then two pieces of each series of the open data
that base weights are made of, from a midnight on. Squared errors of what is published and of the network alone, means
over the newcomers and the worst one of what is published. Half a minute.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from pipeline.backtest.backtest import Record, backtest
from pipeline.backtest.inline import InlineTrainer
from pipeline.backtest.scoring import Scoring
from pipeline.backtest.tally import FORECAST, LAST, PARTS
from pipeline.learning.fine_tune import Schedule
from pipeline.parts.experts import part_names
from pipeline.shard import Shard
from worker.backtest.files import records
from worker.demo import newyork, open_data
from worker.plan import Plan
from worker.settings.settings import Settings

AGES = ((0, 6), (0, 24), (24, 60))
KNOWN, NEW, PIECES = 1500, 60, 2  # events of each stranger, of each newcomer, and pieces of a series
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def strangers(plan: Plan) -> Iterator[Record]:
    """The first events of each of New York's streams."""
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "new-york.csv"
        newyork.write_csv(path)
        with path.open("rb") as file:
            for record in records(file, plan.decoder.form):
                seen[record.stream] += 1
                if seen[record.stream] <= KNOWN:
                    yield record


def newcomers(after_ms: int) -> list[Record]:
    """Pieces of other data, moved by whole days to after the strangers', in the order of time."""
    rng, events = np.random.default_rng(0), []
    for data in open_data.every():
        for number, series in enumerate(data.series):
            midnights = np.flatnonzero(series.time_ms[:-NEW] % DAY_MS < HOUR_MS)
            for piece, begins in enumerate(rng.choice(midnights, min(PIECES, len(midnights)), replace=False)):
                times, values = (column[begins : begins + NEW] for column in series)
                days = -((int(times[0]) - after_ms) // DAY_MS)
                name = f"{data.name}/{number}/{piece}"
                events += [(int(t) + days * DAY_MS, name, float(v)) for t, v in zip(times, values, strict=True)]
    return [
        Record(place, name, ms, json.dumps({"stream": name, "time": ms, "value": value}).encode())
        for place, (ms, name, value) in enumerate(sorted(events))
    ]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    plan = Plan.of(Settings())
    known = list(strangers(plan))
    shard = Shard(plan.method, plan.network(), 0, plan.settings, parts=True)
    scorings = {age: Scoring(plan.method, *age) for age in AGES}
    log = known + newcomers(max(record.timestamp_ms for record in known))
    for part in backtest(log, [shard], plan.decoder, [InlineTrainer(shard, Schedule())]):
        for scoring in scorings.values():
            scoring.take(part.forecasts)
    alone = PARTS + part_names(plan.method).index("network")
    print(f"{'data':15} {'events':7} {'streams':>7}  horizons {plan.method.horizons}: published, network, worst")
    for (first, last), scoring in scorings.items():
        tallies = {name: tally.squared for name, tally in scoring.tallies.items() if "/" in name and tally.n.all()}
        kinds = sorted({name.split("/")[0] for name in tallies})
        for kind in [*kinds, "all"]:
            squared = np.array([found for name, found in tallies.items() if kind in ("all", name.split("/")[0])])
            mine, naive = squared[:, :, [FORECAST, alone]], squared[:, :, [LAST]]
            ratio = mine / np.where(naive > 0, naive, np.nan)  # a series whose last value never is has no ratio
            rows = [np.nanmean(ratio[:, :, 0], 0), np.nanmean(ratio[:, :, 1], 0), np.nanmax(ratio[:, :, 0], 0)]
            cells = " | ".join(" ".join(f"{figure:.3f}" for figure in row) for row in rows)
            print(f"{kind:15} {first:3}-{last:<3} {len(squared):7}  {cells}", flush=True)


if __name__ == "__main__":
    main()
