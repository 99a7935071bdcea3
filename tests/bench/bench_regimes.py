"""How good the forecasts are where the best ones are known: synthetic regimes, each beside its oracle; a minute or two.

Each regime is a shard of its own, folded by the back-test's engine, learning inline; its streams are the replicates.
Ratios are medians over replicates, shares are means. Windows are origins so many events after a change, or of such an
age; all other figures begin at event 500 (cold streams: at the first). Errors count where nothing came between origin
and label that the oracle did not foresee, bands always. `by last` is the error by the last value's, `by oracle` by the
oracle's; `below 0` is the share of lowest quantiles below 0, at the worst horizon, in streams that never were.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, as for the tests
sys.path.insert(0, str(Path(__file__).parents[2]))

from pipeline.arrays import Floats
from pipeline.backtest.backtest import Record, backtest
from pipeline.backtest.inline import InlineTrainer
from pipeline.method import Method
from tests.bench.regimes import REGIMES, Flags, Regime, Stream
from worker.plan import Plan, schedule_of
from worker.settings.settings import Settings
from worker.settings.sources import PREFIX, load

SHOWN = (1, 6, 12, 24)  # horizons
SHARES = ("inside", "below")
RATIO, SHARE = "{:5.2f}", "{:5.1%}"
COLUMNS = {  # of the table: a figure's name and form
    "squared by last": ("mse", RATIO),
    "the oracle's": ("oracle mse", RATIO),
    "absolute by last": ("mae", RATIO),
    "RMSE by oracle": ("rmse by oracle", RATIO),
    "in 80%": ("inside 80%", SHARE),
    "in 95%": ("inside 95%", SHARE),
}
WIDTHS = [len(SHOWN) * (len(form.format(1.0)) + 1) - 1 for _, form in COLUMNS.values()]
HEADS = "  ".join([" " * 20, *map(str.ljust, COLUMNS, WIDTHS), "below 0"])
Figures = dict[str, float]
Losses = dict[str, npt.NDArray[Any]]
Table = dict[str, dict[int, Figures]]  # by window, the empty one for all, and horizon


def records(streams: Sequence[Stream]) -> Iterator[Record]:
    """All events in the order of time; a stream's name is its place."""
    times = np.concatenate([stream.time_ms for stream in streams])
    names = np.repeat(np.arange(len(streams)), [len(stream.value) for stream in streams])
    values = np.concatenate([stream.value for stream in streams])
    for place in np.argsort(times, kind="stable").tolist():
        time_ms, value = int(times[place]), float(values[place])
        yield Record(place, str(names[place]), time_ms, b'{"time": %d, "value": %a}' % (time_ms, value))


def forecast(streams: Sequence[Stream], settings: Settings) -> list[tuple[Floats, Floats]]:
    """By stream, mean (T, Z) and quantiles (T, Z, Q) after each event."""
    plan = Plan.of(settings)
    shard = plan.shard(0)
    trainers = [InlineTrainer(shard, schedule_of(settings))] if settings.fine_tune.enabled else []
    made = [part.forecasts for part in backtest(records(streams), [shard], plan.decoder, trainers)]
    names = np.array([int(name) for some in made for name in some.name])
    means, quantiles = (np.concatenate([getattr(some, of) for some in made]) for of in ("mean", "quantiles"))
    assert len(names) == sum(len(stream.value) for stream in streams), "every event is forecast"
    return [(means[names == place], quantiles[names == place]) for place in range(len(streams))]


def losses(stream: Stream, made: tuple[Floats, Floats], method: Method, j: int) -> Losses:
    """What each of the (n,) forecasts for horizon j lost that have a label; `counts` where errors count."""
    h, n = method.horizons[j], len(stream.value) - method.horizons[j]
    label, last = stream.value[h:], stream.value[:n]
    mean, quantiles = made[0][:n, j], made[1][:n, j]
    oracle, changes = stream.mean[:n, j], np.cumsum(stream.changed)
    best = oracle[:, None] + stream.spread[:n, j, None] * method.normal_quantiles
    by = {"forecast": mean, "last": last, "oracle": oracle, "median": quantiles[:, len(method.quantiles) // 2]}
    lost: Losses = {f"squared {name}": (label - what) ** 2 for name, what in by.items()}
    lost |= {f"absolute {name}": np.abs(label - what) for name, what in by.items()}
    for name, what in (("forecast", quantiles), ("oracle", best)):
        over = label[:, None] - what
        lost[f"pinball {name}"] = np.maximum(method.levels * over, (method.levels - 1) * over).mean(axis=1)
    for k, level in enumerate(method.band_levels):
        lost[f"inside {level:.0%}"] = (quantiles[:, k] <= label) & (label <= quantiles[:, -1 - k])
    lost["below 0"] = (quantiles[:, 0] < 0) & (stream.value.min() >= 0)
    return lost | {"counts": changes[h:] == changes[:n]}


def figures(lost: Sequence[Losses], chosen: Sequence[Flags]) -> Figures:
    """One replicate's, over the chosen origins (T,) of its streams."""
    made: dict[str, Floats] = {}
    for name in lost[0].keys() - {"counts"}:
        share = name.startswith(SHARES)
        some = [
            of[name][which[: len(of[name])] & (of["counts"] | share)] for of, which in zip(lost, chosen, strict=True)
        ]
        made[name] = np.concatenate(some)
    mean = {name: float(each.mean()) if len(each) else np.nan for name, each in made.items()}
    ratios = {
        "mse": mean["squared forecast"] / mean["squared last"],
        "oracle mse": mean["squared oracle"] / mean["squared last"],
        "mae": mean["absolute forecast"] / mean["absolute last"],
        "median mae": mean["absolute median"] / mean["absolute last"],
        "oracle mae": mean["absolute oracle"] / mean["absolute last"],
        "rmse by oracle": float(np.sqrt(mean["squared forecast"] / mean["squared oracle"])),
        "pinball by oracle": mean["pinball forecast"] / mean["pinball oracle"],
    }
    return ratios | {name: share for name, share in mean.items() if name.startswith(SHARES)}


def over(replicates: Sequence[Figures]) -> Figures:
    """Medians of ratios, means of shares, over those that have any."""
    made = {}
    for name in replicates[0]:
        each = [one[name] for one in replicates if not np.isnan(one[name])]
        middle = np.mean if name.startswith(SHARES) else np.median
        made[name] = float(middle(each)) if each else np.nan
    return made


def measured(name: str, regime: Regime, replicates: int, settings: Settings) -> Table:
    """Figures of one regime."""
    method = Plan.of(settings).method
    streams = regime.sample(name, replicates, method.horizon_array)
    made = forecast(streams, settings)
    table: Table = {}
    for j, h in enumerate(method.horizons):
        lost = [losses(stream, mine, method, j) for stream, mine in zip(streams, made, strict=True)]
        for window in ("", *streams[0].windows):
            chosen = [s.windows[window] if window else np.arange(len(s.value)) >= regime.first for s in streams]
            groups = [slice(low, low + regime.streams) for low in range(0, len(streams), regime.streams)]
            each = [figures(lost[group], chosen[group]) for group in groups]
            table.setdefault(window, {})[h] = over(each)
    return table


def lines(name: str, table: Table) -> list[str]:
    """A regime's rows: all of it, then its windows; HEADS are above them."""
    made = []
    for window, horizons in table.items():
        some = [horizons[h] for h in SHOWN if h in horizons] or list(horizons.values())
        cells = [" ".join(form.format(one[of]) for one in some) for of, form in COLUMNS.values()]
        below = max(one["below 0"] for one in horizons.values())
        made.append("  ".join([f"{'  ' + window if window else name:20}", *cells, f"{below:7.0%}"]))
    return made


def worst(tables: Mapping[str, Table]) -> Iterator[str]:
    """Sentences on what is worst over regimes and horizons, windows apart."""
    all_of = {f"{name}, {h} ahead": of for name, table in tables.items() for h, of in table[""].items()}
    for words, figure, aim in (
        ("absolute by last, the mean's", "mae", 0.0),
        ("the median's, which is the forecast for it", "median mae", 0.0),
        ("in 80%", "inside 80%", 0.8),
        ("in 95%", "inside 95%", 0.95),
    ):
        where = max(all_of, key=lambda which: abs(all_of[which][figure] - aim))
        yield f"{words}: {all_of[where][figure]:.3f} at the worst ({where})"


def settings_of(assignments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The environment's settings and `section.name=value` before them."""
    pairs = [assignment.partition("=") for assignment in assignments]
    return load(None, dict(environ) | {PREFIX + key.upper().replace(".", "__"): value for key, _, value in pairs})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(REGIMES)
    parser.add_argument("--regime", nargs="+", choices=REGIMES, default=list(REGIMES), metavar="NAME", help=names)
    parser.add_argument("--replicates", type=int, default=5, help="streams of each regime (%(default)s)")
    parser.add_argument("--set", nargs="+", default=[], metavar="SETTING=VALUE", help="such as model.season_slots=96")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures, at all horizons")
    given = parser.parse_args(arguments)
    settings = settings_of(given.set, os.environ)
    print(f"command {shlex.join(['python', *sys.orig_argv[1:]])}")
    print(f"\nat horizons {', '.join(map(str, SHOWN))}\n{HEADS}")
    began, cpu, tables = time.monotonic(), time.process_time(), {}
    for name in given.regime:
        tables[name] = measured(name, REGIMES[name], given.replicates, settings)
        print("\n".join(lines(name, tables[name])), flush=True)
    print("", *worst(tables), sep="\n")
    print(f"{time.monotonic() - began:.0f} s, {time.process_time() - cpu:.0f} s of CPU")
    if given.json:
        whole = {"replicates": given.replicates, "settings": settings.meaning(), "regimes": tables}
        given.json.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))


if __name__ == "__main__":
    main()
