"""What spikes cost: skill of spoilt readings less that of the same readings as they were, by horizon.

Each series is cut to the length of a synthetic meter and spoilt several times; `foldcast backtest`, without learning,
scores all of it as streams of one file. Figures are means over draws and over a row's series. It takes a few minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from histories import SETS, History

sys.path.insert(0, str(Path(__file__).parents[2]))

from pipeline.arrays import Floats, Ints
from tests.rigs.meters import BEGIN_S, HOUR_MS, METERS, N, meters, spoilt

COMMAND = [sys.executable, "-m", "worker", "backtest", "history.csv", "--json", "scores.json"]
SETTINGS = {"FOLDCAST_FINE_TUNE__ENABLED": "false", "PYTHONPATH": str(Path(__file__).parents[2])}


def synthetic() -> list[tuple[Ints, Floats]]:
    """Six meters: time in ms and values of each."""
    times = BEGIN_S * 1000 + np.arange(N) * HOUR_MS
    return [(times, meters(seed)[0][:, k]) for seed in (1, 2) for k in range(METERS)]


def first_of(name: str) -> Callable[[], list[tuple[Ints, Floats]]]:
    """The first series of a history."""

    def series() -> list[tuple[Ints, Floats]]:
        history = SETS[name].history()
        return [(history.time_ms[0][:N], history.values[0][:N])]

    return series


ROWS = {  # name -> series, and draws of the spikes
    "meters": (synthetic, 2),
    "electricity": (first_of("electricity"), 4),
    "city-traffic": (first_of("city-traffic"), 2),
    "bicycles": (first_of("bicycles"), 4),
    "new-york": (first_of("new-york"), 2),
}


def costs(folder: Path, series: list[tuple[Ints, Floats]], draws: int) -> dict[str, float]:
    """By horizon: the mean difference of skill."""
    cases = [(f"{s} {draw}", times, spoilt(values, draw) if draw else values)
             for s, (times, values) in enumerate(series) for draw in range(draws + 1)]  # fmt: skip
    names, times, values = (list(column) for column in zip(*cases, strict=True))
    History(times, values, names, covariates=False).write(folder / "history.csv")
    subprocess.run(COMMAND, check=True, cwd=folder, env=os.environ | SETTINGS, stdout=subprocess.DEVNULL)
    streams = json.loads((folder / "scores.json").read_text())["streams"]
    horizons = streams[names[0]]["horizons"]
    skill = np.array([[streams[name]["horizons"][h]["skill"] for h in horizons] for name in names])
    skill = skill.reshape(len(series), draws + 1, len(horizons))
    return dict(zip(horizons, (skill[:, 1:] - skill[:, :1]).mean((0, 1)).tolist(), strict=True))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name, (series, draws) in ROWS.items():
        with tempfile.TemporaryDirectory() as folder:
            found = costs(Path(folder), series(), draws)
        worst = max(found, key=lambda h: abs(found[h]))
        print(f"{name:12} worst {found[worst]:+.4f} at {worst};", *(f"{c:+.4f}" for c in found.values()), flush=True)


if __name__ == "__main__":
    main()
