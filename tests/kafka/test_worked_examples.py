"""The worked examples of docs as they stand there, on small files of the form that theirs have."""

import csv
import math
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest

from tests.rigs.documented import PAGES, blocks, command, environment, programs, run
from worker.broker.restore import TopicReader
from worker.settings.sources import load

pytestmark = pytest.mark.kafka

SENSORS, PRICES = "docs/sensors.md", "docs/prices.md"
PARKS = ("Bull Ring", "NIA North", "Shopping", "Broad Street")
SHARES = ("AAPL", "AMZN", "IBM")
DAYS, A_DAY = 50, 18  # of the car parks: until after 14 November, where the page parts its history
LIMIT_S = 120.0


def shell(page: str, start: str) -> str:
    """The one line of a page's blocks that starts so, be it a program of ours or not."""
    [found] = [line for block in blocks(PAGES[page], "") for line in block.splitlines() if line.startswith(start)]
    return found


class Example:
    """A folder in which a page's commands can be run, with its settings for this Kafka and topics of its own."""

    def __init__(self, page: str, folder: Path, bootstrap: str, unique: str, config: str, name: str) -> None:
        self.folder, self.programs, self.config = folder, programs(folder / "bin"), folder / config
        [shown] = blocks(PAGES[page], "toml")
        self.config.write_text(shown.replace("localhost:9092", bootstrap).replace(f'"{name}', f'"{unique}'))
        [sender] = blocks(PAGES[SENSORS], "python")
        assert "sleep(0.005)" in sender
        sender = sender.replace("localhost:9092", bootstrap).replace("sleep(0.005)", "sleep(0)")
        (folder / "send.py").write_text(sender)

    def run(self, line: str) -> str:
        """What a command prints."""
        return run(line, self.folder, self.programs)

    @contextmanager
    def worker(self, line: str) -> Iterator[None]:
        """A worker that `line` starts, and that stops at the end as it does when it is asked to."""
        given = {**environment(self.programs), "FOLDCAST_HTTP__PORT": "0", "FOLDCAST_HTTP__HOST": "127.0.0.1"}
        with subprocess.Popen(["bash", "-c", f"exec {line}"], cwd=self.folder, env=given) as worker:
            try:
                yield
            finally:
                worker.send_signal(signal.SIGTERM)
        assert worker.returncode == 0

    def forecasts(self, number: int) -> list[tuple[int, int, str]]:
        """Partition, offset and stream of the first so many forecasts, once they are there."""
        settings, found = load(self.config, {}), list[tuple[int, int, str]]()
        deadline = time.monotonic() + LIMIT_S
        with TopicReader(settings.kafka, settings.kafka.output_topic) as reader:
            while len(found) < number:
                assert time.monotonic() < deadline, f"{len(found)} of {number} forecasts came"
                for record in reader.poll(0.2):
                    one = orjson.loads(record.value or b"{}")
                    found.append((record.partition, int(one["id"].rpartition("-")[2]), one["stream"]))
        return found


def write_car_parks(path: Path) -> int:
    """Car park by car park, by day, with a row that comes twice and a count below 0; how many are to be forecast."""
    chance, first, number = random.Random(3), datetime(2016, 10, 4, 8), 0
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["SystemCodeNumber", "Capacity", "Occupancy", "LastUpdated"])
        for park in PARKS:
            for i in range(DAYS * A_DAY):
                moment = first + timedelta(days=i // A_DAY, minutes=27 * (i % A_DAY))
                count = round(600 + 500 * math.sin(math.pi * (i % A_DAY) / A_DAY) + chance.gauss(0, 20))
                broken = park == "NIA North" and i == 100
                rows.writerow(row := [park, 1200, -8 if broken else count, f"{moment:%Y-%m-%d %H:%M:%S}"])
                if park == "Shopping" and i == 50:
                    rows.writerow(row)
                number += not broken
    return number


def write_returns(path: Path) -> int:
    """Days of shares, in per cent, with the column of tomorrow; how many prices they make."""
    chance, first, days = random.Random(5), datetime(2013, 2, 11), 400
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["date", *SHARES, "next_day_return"])
        for day in range(days):
            returns = [round(chance.gauss(0, 1), 6) for _ in (*SHARES, "next_day_return")]
            rows.writerow([f"{first + timedelta(days=day + 2 * (day // 5)):%Y-%m-%d}", *returns])
    return days * len(SHARES)


def test_the_sensors_go_from_a_raw_file_to_forecasts_as_the_page_says(
    bootstrap: str, unique: str, tmp_path: Path
) -> None:
    example = Example(SENSORS, tmp_path, bootstrap, unique, "car-parks.toml", "car-parks")
    number = write_car_parks(tmp_path / "raw.csv")
    example.run(shell(SENSORS, "(head"))
    assert "Bull Ring: use it" in example.run(command(SENSORS, "foldcast backtest parking.csv"))
    assert (tmp_path / "backtest.svg").read_text().count("<svg") == 1
    for cut in ("'NR == 1 || $4 <", "'NR == 1 || $4 >="):
        example.run(shell(SENSORS, f"awk -F, {cut} "))
    example.run(command(SENSORS, "foldcast pretrain before.csv"))
    begun = example.run(command(SENSORS, "FOLDCAST_MODEL__CHECKPOINT=base.safetensors foldcast backtest after.csv"))
    assert "weights to begin with: base.safetensors" in begun
    example.run(shell(SENSORS, "echo"))
    assert load(example.config, {}).model.checkpoint == "base.safetensors"
    example.run(command(SENSORS, "foldcast topics create"))
    assert "NO" not in example.run(command(SENSORS, "foldcast check"))
    with example.worker(command(SENSORS, "foldcast run")):
        example.run(command(SENSORS, "python send.py").replace("car-parks", unique))
        example.forecasts(number)
    listed = example.run(command(SENSORS, "foldcast dead-letters list"))
    [letter] = re.findall(r"^(\d+:\d+) ", listed, re.MULTILINE)
    shown = example.run(command(SENSORS, "foldcast dead-letters show 0:6").replace("0:6", letter))
    assert "key: NIA North" in shown
    assert f"{DAYS * A_DAY} events" in example.run(command(SENSORS, "foldcast inspect"))


def test_the_prices_go_from_a_raw_file_to_a_forecast_that_is_explained(
    bootstrap: str, unique: str, tmp_path: Path
) -> None:
    example = Example(PRICES, tmp_path, bootstrap, unique, "shares.toml", "prices")
    example.config.write_text(example.config.read_text().replace('"shares"', f'"{unique}"'))
    number = write_returns(tmp_path / "raw.csv")
    [made] = blocks(PAGES[PRICES], "python")
    (tmp_path / "prices.py").write_text(made)
    example.run(command(PRICES, "python prices.py"))
    printed = example.run(command(PRICES, "foldcast backtest prices.csv"))
    assert "next_day_return" not in printed
    assert printed.count("last value is as good") >= len(SHARES) - 1, "of walks one may look foreseen, as the page says"
    example.run(command(PRICES, "foldcast topics create"))
    assert "NO" not in example.run(command(PRICES, "foldcast check"))
    with example.worker(command(PRICES, "foldcast run")):
        example.run(command(PRICES, "python send.py").replace("prices symbol", f"{unique} symbol"))
        found = example.forecasts(number)
    partition, offset, _ = [one for one in found if one[2] == "AMZN"][-1]
    asked = command(PRICES, "foldcast replay --partition 1 --stream AMZN").replace(
        "--partition 1", f"--partition {partition}"
    )
    explained = example.run(asked.replace("7537", str(offset)).replace("7538", str(offset + 1)))
    assert "1 forecasts compared, 1 agree" in explained
    assert "experts: last_value" in explained
