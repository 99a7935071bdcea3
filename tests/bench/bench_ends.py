"""How soon the end of a trend can be known: forecasts of the regime `trends` by one who is told all but the ends.

He is told when each trend begins, its slope, the level it starts from and how large the noise is, and believes that a
trend ends once in so many events; that it has ended he must see. His forecast, 24 events ahead, is the mean under that
belief, by Bayes' rule, and knows that the trend may also end before the label. Absolute errors by the last value's, in
the windows of `bench_regimes.py`, medians over its streams. Some seconds.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from pipeline.arrays import Floats
from tests.bench.regimes import REGIMES, Stream

AHEAD = 24
AFTER = 400  # events after an end that are forecast
EVERY = (500, 100, 24, 8)  # events from end to end, as he believes
WINDOWS = ("start, 24-400", "stop, 0-12", "stop, 12-24", "stop, 24-400")


def told(stream: Stream, every: float) -> Floats:
    """(T,) mean forecasts `AHEAD` events ahead, from each trend's begin on, else NaN; `stream.mean` is of 1, 2, ..."""
    begins = [*np.flatnonzero(stream.changed).tolist(), len(stream.value)]
    made = np.full(len(stream.value), np.nan)
    for first, stop, end in zip(begins[::2], begins[1::2], [*begins[2::2], begins[-1]], strict=False):
        last = min(end, stop + AFTER)
        level, slope = stream.mean[first, 0], stream.mean[first, 1] - stream.mean[first, 0]
        line = level + slope * (np.arange(last - first) - 1)  # if the trend goes on
        made[first:last] = _of_one_trend(stream.value[first:last], line, slope, every)
    return made


def _of_one_trend(values: Floats, line: Floats, slope: float, every: float) -> Floats:
    """(n,) means over the ends that are possible: at events so far, in the next ones, or later."""
    stay, future = line[:-1], np.arange(1, AHEAD + 1)  # what a path that ended at event 1, 2, ... keeps
    seen = np.arange(len(line))[:, None] >= np.arange(1, len(line))  # (now, end)
    gain = ((values - line) ** 2)[:, None] - (values[:, None] - stay) ** 2
    goes_on = np.log1p(-1 / every)
    so_far = np.cumsum(np.where(seen, gain / 2 - goes_on, 0), axis=0) - np.log(every)
    later = np.broadcast_to((future - 1) * goes_on - np.log(every), (len(line), AHEAD))
    odds = np.column_stack([np.where(seen, so_far, -np.inf), later, np.full(len(line), AHEAD * goes_on)])
    levels = np.column_stack([np.tile(stay, (len(line), 1)), line[:, None] + slope * np.arange(AHEAD + 1)])
    weights = np.exp(odds - odds.max(axis=1, keepdims=True))
    means: Floats = (weights * levels).sum(axis=1) / weights.sum(axis=1)
    return means


def by_last_value(stream: Stream, made: Floats, window: str) -> float:
    """Absolute error by the last value's, where nothing begins or ends between origin and label."""
    n, changes = len(made) - AHEAD, np.cumsum(stream.changed)
    chosen = stream.windows[window][:n] & (changes[AHEAD:] == changes[:n])
    labels, lasts = stream.value[AHEAD:][chosen], stream.value[:n][chosen]
    return float(np.abs(labels - made[:n][chosen]).mean() / np.abs(labels - lasts).mean())


def main() -> None:
    """Print a row for each belief."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=5, help="streams (%(default)s)")
    given = parser.parse_args()
    streams = REGIMES["trends"].sample("trends", given.replicates, np.arange(1, AHEAD + 1))
    print(f"{'ends once in':12} ", *(f"{window:>14}" for window in WINDOWS))
    for every in EVERY:
        made = [told(stream, every) for stream in streams]
        ratios = [[by_last_value(s, m, window) for s, m in zip(streams, made, strict=True)] for window in WINDOWS]
        print(f"{every:12} ", *(f"{np.median(each):14.2f}" for each in ratios), flush=True)


if __name__ == "__main__":
    main()
