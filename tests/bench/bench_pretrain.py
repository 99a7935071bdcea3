"""What a base learnt from January to June in New York is worth in July, and for 27 car parks, beside other starts.

Each start folds the history as a worker would; errors are squared, by the last value's, means over the streams: in July
those of each one's first 500 events, of car parks those from event 20 on. It takes a few minutes. With `--run` a worker
forecasts the same events of July on a Kafka, from nothing and from the base, and its output is scored.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import orjson
from histories import car_parks

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.rigs.cluster import Cluster, event_bytes
from worker.broker.produce import FastProducer
from worker.demo import newyork
from worker.demo.local_kafka import local_kafka

FOLDCAST = [sys.executable, "-m", "worker"]
CHECKPOINT, RATE, LEARNS = (
    "FOLDCAST_MODEL__CHECKPOINT",
    "FOLDCAST_FINE_TUNE__LEARNING_RATE",
    "FOLDCAST_FINE_TUNE__ENABLED",
)
BASE = {CHECKPOINT: "./base"}
STARTS: dict[str, dict[str, str]] = {
    "nothing": {CHECKPOINT: "none"},
    "what is shipped": {},
    "from the base": BASE,
    **{f"from the base, rate {rate}": BASE | {RATE: rate} for rate in ("0.0005", "0.004", "0.008")},
    "from the base, learning off": BASE | {LEARNS: "false"},
}
EVENTS = 500  # of a stream in July
JULY_MS = 1_372_636_800_000
PER_S = 500.0  # that a worker is sent; its trainer keeps no such pace
SCORED = {"july": f"0:{EVENTS}", "car-parks": "20:"}  # history -> events of a stream


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


def run_errors(bootstrap: str, folder: Path, name: str, checkpoint: dict[str, object]) -> tuple[list[float], int]:
    """Of a worker's published forecasts by horizon, as `errors` has them, and how often weights were adopted."""
    july = [event for event in newyork.events() if event.time_ms >= JULY_MS]
    first = sorted(
        (event for stream in newyork.STREAMS for event in [e for e in july if e.stream == stream][:EVENTS]),
        key=lambda event: event.time_ms,
    )
    (folder / name).mkdir()
    with Cluster(bootstrap, name, folder / name, 1, model=checkpoint) as cluster:
        worker = cluster.worker("one")
        cluster.wait_until_live()
        with FastProducer(cluster.connection) as producer:
            began = time.monotonic()
            for number, event in enumerate(first):
                time.sleep(max(0.0, began + number / PER_S - time.monotonic()))
                producer.send(cluster.topics.input, 0, event.stream.encode(), event_bytes(*event))
            producer.flush()
        cluster.await_last()
        adopted = worker.metrics()['foldcast_fine_tunes_total{outcome="adopted"}']
        cluster.stop()
        published = [orjson.loads(record.value or b"") for record in cluster.read(cluster.topics.output)]
    values = {(event.stream, event.time_ms): event.value for event in first}
    squares: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for forecast in published:
        stream = forecast["stream"]
        for horizon, at, mean in zip(forecast["horizons"], forecast["times"] or (), forecast["mean"], strict=False):
            label = values.get((stream, at))
            if label is not None:
                pair = ((mean - label) ** 2, (forecast["value"] - label) ** 2)
                squares.setdefault(stream, {}).setdefault(horizon, []).append(pair)
    means = np.array([[np.mean(pairs, 0) for pairs in by_horizon.values()] for by_horizon in squares.values()])
    return (means[..., 0] / means[..., 1]).mean(0).tolist(), int(adopted)


def by_backtest(folder: Path) -> None:
    """Print what back-tests say from each start."""
    for history in SCORED:
        for words, settings in STARTS.items():
            for part, ratios in errors(folder, history, settings).items():
                print(f"{history:10} {words:28} {part:9}", *(f"{ratio:.3f}" for ratio in ratios), flush=True)


def by_run(folder: Path) -> None:
    """Print what a worker says from nothing and from the base."""
    with local_kafka() as kafka:
        for words, model in (("nothing", {"checkpoint": "none"}), ("from the base", {"checkpoint": folder / "base"})):
            ratios, adopted = run_errors(kafka.bootstrap_servers, folder, words.replace(" ", "-"), model)
            figures = " ".join(f"{ratio:.3f}" for ratio in ratios)
            print(f"july       {words:28} forecast  {figures}; weights adopted {adopted} times", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="score a worker on a Kafka instead of back-tests")
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        histories(folder)
        subprocess.run([*FOLDCAST, "pretrain", "january-june.csv", "--out", "base"], check=True, cwd=folder)
        (by_run if given.run else by_backtest)(folder)


if __name__ == "__main__":
    main()
