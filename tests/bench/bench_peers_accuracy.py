"""foldcast's forecasts beside those of statsforecast, mlforecast with LightGBM, and river, on the same origins.

Origins are every `--stride`th of the last events of each series, at most `--origins` of them and none in its first
half, and of a set the first `--series` series. foldcast folds the whole file with the defaults, nothing else is told;
the peers are told their season. No covariates for anybody. Errors are means over series and origins by the last
value's: of the mean, squared (`mse`) and absolute (`mae`); `pinball` is the mean pinball loss of the quantiles .025,
.1, .5, .9 and .975, over all horizons, by the last value's absolute error (a peer's mean stands for its median too).
CPU is per origin, of all horizons; foldcast's is the command's, learning included, less that of a start with nothing to
do: noise, where a file has some hundred events. `tests/bench/peers/forecasters.py` says how each peer is fitted, from
the packages of its forecasting.lock.
"""

import argparse
import json
import os
import resource
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet
from bench_accuracy import COMMAND, HORIZONS
from histories import FAR, SETS, History
from report import Report, options

from pipeline.arrays import Floats

PEERS = Path(__file__).parent / "peers"
PYTHON = Path(__file__).parents[2] / ".cache/peers-forecasting/bin/python"
LEVELS = np.array([0.025, 0.1, 0.5, 0.9, 0.975])
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
OWN_SEASON = {"car-parks": [18], "prices": [5]}  # events, where the step does not tell


class Origins(NamedTuple):
    """What is forecast."""

    history: History
    at: list[int]  # event indices
    horizons: tuple[int, ...]
    seasons: list[int]  # in events

    @classmethod
    def of(cls, name: str, series: int, count: int, stride: int) -> "Origins":
        times, values, names, _ = SETS[name].history()
        length = min(map(len, values))
        last = length - 1 - max(FAR)
        at = list(range(last, length // 2, -stride))[:count][::-1]
        cut = History(
            [t[:length] for t in times[:series]], [v[:length] for v in values[:series]], names[:series], False
        )
        return cls(cut, at, FAR, OWN_SEASON.get(name) or seasons(times[0]))

    def labels(self, series: int) -> Floats:
        """(origins, horizons)"""
        return np.asarray(self.history.values[series][np.add.outer(self.at, self.horizons)])

    def last_values(self, series: int) -> Floats:
        """(origins, 1)"""
        return np.asarray(self.history.values[series][self.at][:, None])


def seasons(times: np.ndarray) -> list[int]:
    """By the step: day and week, week, or year."""
    step = float(np.median(np.diff(times)))
    return [24, 168] if step <= HOUR_MS else [7] if step <= DAY_MS else [12]


def ours(origins: Origins) -> tuple[dict[str, Floats], float]:
    """By series (origins, horizons, mean and quantiles), and seconds of CPU per forecast."""
    idle, _ = folded(origins, slice(0, 30), "0:")
    used, table = folded(origins, slice(None), f"{origins.at[0]}:{origins.at[-1] + 1}")
    columns = [f"q{level:g}" for level in LEVELS]
    made: dict[tuple[str, int, int], list[float]] = {
        (row["unique_id"], int(row["cutoff"].timestamp() * 1000), row["horizon"]): [row["mean"], *map(row.get, columns)]
        for row in table
    }
    names, times = origins.history.names, origins.history.time_ms
    found = {
        name: np.array([[made[name, int(mine[at]), h] for h in origins.horizons] for at in origins.at])
        for name, mine in zip(names, times, strict=True)
    }
    return found, (used - idle) / sum(map(len, times))


def folded(origins: Origins, part: slice, rows: str) -> tuple[float, list[dict]]:
    """CPU of a back-test over part of the history, and the forecasts that it scored."""
    times, values, names, covariates = origins.history
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "history.csv", Path(folder) / "forecasts.parquet"
        History([t[part] for t in times], [v[part] for v in values], names, covariates).write(file)
        command = [*COMMAND, str(file), "--score-rows", rows, "--forecasts", str(out)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, env={HORIZONS: json.dumps(origins.horizons)} | os.environ
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return used, pyarrow.parquet.read_table(out).to_pylist()


def theirs(origins: Origins, window: int) -> dict[str, tuple[dict[str, Floats], float]]:
    """By method the same; of a peer without intervals the mean alone."""
    series = {n: v.tolist() for n, v in zip(origins.history.names, origins.history.values, strict=True)}
    asked = {
        "series": series,
        "origins": origins.at,
        "far": max(origins.horizons),
        "horizons": origins.horizons,
        "seasons": origins.seasons,
        "window": window,
    }
    found = answered(PYTHON, PEERS / "forecasters.py", asked)
    for made, _ in found.values():
        for name, forecast in made.items():
            if forecast.shape[2] > 1:  # the mean is the median too
                made[name] = forecast[..., [0, 1, 2, 0, 3, 4]]
    return found


def answered(python: Path, script: Path, asked: dict) -> dict[str, tuple[dict[str, Floats], float]]:
    """By method: what a script says by series in another virtual environment, and seconds of CPU per forecast."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [str(python), str(script)]
    done = subprocess.run(
        command, input=json.dumps(asked), stdout=subprocess.PIPE, check=True, text=True, env=environment
    )
    found: dict[str, tuple[dict[str, Floats], list[float]]] = {}
    for answer in map(json.loads, done.stdout.splitlines()):
        made, cost = found.setdefault(answer["method"], ({}, []))
        made[answer["series"]] = np.array(answer["made"])
        cost.append(answer["cpu_s"])
    return {method: (made, float(np.mean(cost))) for method, (made, cost) in found.items()}


def pinball_losses(label: Floats, quantiles: Floats) -> Floats:
    """(...,) means over LEVELS, the last axis of the quantiles."""
    miss = label[..., None] - quantiles
    return np.asarray(np.maximum(LEVELS * miss, (LEVELS - 1) * miss).mean(-1))


def figures(origins: Origins, made: dict[str, Floats], cpu_s: float) -> dict[str, float]:
    """A line of the table."""
    names = origins.history.names
    label = np.array([origins.labels(k) for k in range(len(names))])  # (series, origins, horizons)
    last = np.array([origins.last_values(k) for k in range(len(names))])
    forecast = np.array([made[name] for name in names])  # (series, origins, horizons, mean and quantiles)
    error, reference = label - forecast[..., 0], label - last
    found: dict[str, float] = {}
    for measure, power in (("mse", 2), ("mae", 1)):
        for h, ours, base in zip(origins.horizons, of(error, power), of(reference, power), strict=True):
            found[f"{measure} h={h}"] = ours / base
    if forecast.shape[-1] > 1:
        quantiles = forecast[..., 1:]
        found["pinball"] = pinball_losses(label, quantiles).mean() / np.abs(reference).mean()
        for band, low, high in ((80, 1, 3), (95, 0, 4)):
            inside = (quantiles[..., low] <= label) & (label <= quantiles[..., high])
            found[f"inside {band} %"] = 100 * float(inside.mean())
    return found | {"CPU ms": cpu_s * 1000}


def of(error: Floats, power: int) -> list[float]:
    """Mean by horizon."""
    return [float(mean) for mean in (np.abs(error) ** power).mean((0, 1))]


def main() -> None:
    parser = options(__doc__, runs=1)
    parser.add_argument("sets", nargs="*", default=[n for n in SETS if n != "airline"], help="which (all but airline)")
    parser.add_argument("--series", type=int, default=4, help="of a set (%(default)s)")
    parser.add_argument("--origins", type=int, default=40, help="of a series (%(default)s)")
    parser.add_argument("--stride", type=int, default=17, help="events from an origin to the next (%(default)s)")
    parser.add_argument("--window", type=int, default=1000, help="events that statistical models see (%(default)s)")
    given: argparse.Namespace = parser.parse_args()
    if not PYTHON.exists():
        raise SystemExit(f"{PYTHON} is not there: `make bench PEERS=1` installs the peers.")
    for name in given.sets:
        origins = Origins.of(name, given.series, given.origins, given.stride)
        report = Report(f"{name}: {len(origins.history.names)} series, {len(origins.at)} origins of each")
        report.add("foldcast", figures(origins, *ours(origins)))
        for method, (made, cost) in theirs(origins, given.window).items():
            report.add(method, figures(origins, made, cost))
        report.show(given.json)


if __name__ == "__main__":
    main()
