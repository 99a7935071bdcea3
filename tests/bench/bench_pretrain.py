"""What a base learnt from January to June in New York is worth in July, and for 27 car parks, beside a cold start.

Each start folds the history as a worker would; errors are squared, by the last value's, means over the streams: in July
those of each one's first 500 events, of car parks those from event 20 on. It takes a few minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from histories import car_parks

from worker.demo import newyork

FOLDCAST = [sys.executable, "-m", "worker"]
CHECKPOINT, RATE, LEARNS = (
    "FOLDCAST_MODEL__CHECKPOINT",
    "FOLDCAST_FINE_TUNE__LEARNING_RATE",
    "FOLDCAST_FINE_TUNE__ENABLED",
)
BASE = {CHECKPOINT: "base"}
STARTS: dict[str, dict[str, str]] = {
    "cold": {},
    "from the base": BASE,
    **{f"from the base, rate {rate}": BASE | {RATE: rate} for rate in ("0.0005", "0.004", "0.008")},
    "from the base, learning off": BASE | {LEARNS: "false"},
}
SCORED = {"july": "0:500", "car-parks": "20:"}  # history -> events of a stream


def histories(folder: Path) -> None:
    """Write january-june.csv, july.csv and car-parks.csv."""
    whole = folder / "whole.csv"
    newyork.write_csv(whole)
    head, *rows = whole.read_text().splitlines(keepends=True)
    for name, first, end in (("january-june", "2013-01", "2013-07"), ("july", "2013-07", "2013-08")):
        mine = [row for row in rows if first <= row.split(",")[1] < end]
        (folder / f"{name}.csv").write_text("".join([head, *mine]))
    car_parks().write(folder / "car-parks.csv")


def errors(folder: Path, history: str, settings: dict[str, str]) -> dict[str, list[float]]:
    """Of the forecast and of the network, by horizon."""
    command = [*FOLDCAST, "backtest", f"{history}.csv", "--score-rows", SCORED[history], "--json", "scores.json"]
    subprocess.run(command, check=True, cwd=folder, env=os.environ | settings, stdout=subprocess.DEVNULL)
    streams = [s["horizons"].values() for s in json.loads((folder / "scores.json").read_text())["streams"].values()]
    last = np.array([[h["last_value"]["mse"] for h in stream] for stream in streams])
    forecast = np.array([[h["mse"] for h in stream] for stream in streams])
    network = np.array([[h["experts"]["network"]["mse"] for h in stream] for stream in streams])
    return {"forecast": (forecast / last).mean(0).tolist(), "network": (network / last).mean(0).tolist()}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        histories(folder)
        subprocess.run([*FOLDCAST, "pretrain", "january-june.csv", "--out", "base"], check=True, cwd=folder)
        for history in SCORED:
            for words, settings in STARTS.items():
                for part, ratios in errors(folder, history, settings).items():
                    print(f"{history:10} {words:28} {part:9}", *(f"{ratio:.3f}" for ratio in ratios), flush=True)


if __name__ == "__main__":
    main()
