"""What a base learnt from January to June in New York is worth in July, beside a cold start.

Each start folds July as a worker would, and learns while it does; errors are those of each stream's first 500 events,
squared, by the last value's, means over the 18 streams.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from worker.demo import newyork

FOLDCAST = [sys.executable, "-m", "worker"]
STARTS = (
    ("cold", None, None),
    ("from the base", "base", None),
    ("from the base, a quarter of the rate", "base", "5e-4"),
)


def histories(folder: Path) -> None:
    """Write january-june.csv and july.csv."""
    whole = folder / "whole.csv"
    newyork.write_csv(whole)
    head, *rows = whole.read_text().splitlines(keepends=True)
    for name, first, end in (("january-june", "2013-01", "2013-07"), ("july", "2013-07", "2013-08")):
        mine = [row for row in rows if first <= row.split(",")[1] < end]
        (folder / f"{name}.csv").write_text("".join([head, *mine]))


def errors(folder: Path, rows: str, checkpoint: str | None, rate: str | None) -> dict[str, list[float]]:
    """Of the forecast and of the network, by horizon."""
    settings = {"FOLDCAST_MODEL__CHECKPOINT": checkpoint, "FOLDCAST_FINE_TUNE__LEARNING_RATE": rate}
    environment = {**os.environ, **{name: value for name, value in settings.items() if value is not None}}
    command = [*FOLDCAST, "backtest", "july.csv", "--score-rows", rows, "--json", "scores.json"]
    subprocess.run(command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    streams = [s["horizons"].values() for s in json.loads((folder / "scores.json").read_text())["streams"].values()]
    last = np.array([[h["last_value"]["mse"] for h in stream] for stream in streams])
    forecast = np.array([[h["mse"] for h in stream] for stream in streams])
    network = np.array([[h["experts"]["network"]["mse"] for h in stream] for stream in streams])
    return {"forecast": (forecast / last).mean(0).tolist(), "network": (network / last).mean(0).tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="0:500", help="a stream's events to score, A:B")
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        histories(folder)
        subprocess.run([*FOLDCAST, "pretrain", "january-june.csv", "--out", "base"], check=True, cwd=folder)
        for words, checkpoint, rate in STARTS:
            for part, ratios in errors(folder, given.rows, checkpoint, rate).items():
                print(f"{words:36} {part:9}", *(f"{ratio:.3f}" for ratio in ratios), flush=True)


if __name__ == "__main__":
    main()
