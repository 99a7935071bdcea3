"""How good the forecasts are on real data: `foldcast backtest --ablate` over each history, one setting for all.

Errors are means over a set's series, those after `by last value` relative to the last value's at the same horizon. Any
setting can be tried by its variable, as in FOLDCAST_MODEL__CELL=lstm.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from histories import SETS, Set

COMMAND = [sys.executable, "-m", "worker", "backtest"]
ROWS = ("forecast", "last_value", "seasonal", "season_slots", "linear", "network", "stack", "without_network")
HORIZONS = "FOLDCAST_MODEL__HORIZONS"
SHOWN = (1, 2, 3, 4, 6, 12, 18, 24)  # horizons


def scored(chosen: Set, folder: Path) -> dict[str, Any]:
    """The command's JSON, with the covariates' number beside."""
    history, file, out = chosen.history(), folder / "history.csv", folder / "scores.json"
    history.write(file)
    covariates = [f"c{i}" for i in range(len(history.names) - 1)] if history.covariates else []
    settings = {HORIZONS: json.dumps(chosen.horizons), "FOLDCAST_EVENTS__COVARIATES": json.dumps(covariates)}
    rows = chosen.score_rows(len(history.values[0]))
    command = [*COMMAND, str(file), "--ablate", "--score-rows", rows, "--json", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=settings | dict(chosen.settings) | os.environ)
    return dict(json.loads(out.read_text()))


def errors(horizon: dict[str, Any], measure: str) -> dict[str, float]:
    """Of every row of the table that there is."""
    parts = {"forecast": horizon, "last_value": horizon["last_value"], "seasonal": horizon["seasonal"]}
    parts |= horizon["experts"]
    return {name: part[measure] for name, part in parts.items()}


def lines(name: str, chosen: Set, whole: dict[str, Any]) -> list[str]:
    """A table of one set."""
    streams = [stream["horizons"] for stream in whole["streams"].values()]
    mean = {}  # (row, horizon) -> mean over series
    for h in chosen.horizons:
        each = [errors(stream[str(h)], chosen.measure) for stream in streams]
        mean |= {(row, h): sum(e[row] for e in each) / len(each) for row in ROWS if row in each[0]}
    shown = [h for h in SHOWN if h in chosen.horizons]
    heads = [f"{chosen.measure} h={chosen.horizons[0]}", "mean h", *(f"h={h}" for h in shown)]
    events, updates = whole["overall"]["events"], whole["updates"]
    made = [
        f"\n{name}: {len(streams)} series, {events:,} events, {updates['updates']:,} updates, {updates['rolled_back']} "
        f"rolled back, {whole['state_bytes']:,} bytes per stream",
        f"{'':16} {heads[0]:>10} {heads[1]:>10}   by last value: {' '.join(f'{head:>6}' for head in heads[2:])}",
    ]
    for row in ROWS:
        if (row, chosen.horizons[0]) in mean:
            first, over = mean[row, chosen.horizons[0]], sum(mean[row, h] for h in chosen.horizons)
            ratios = [mean[row, h] / mean["last_value", h] for h in shown]
            made.append(
                f"{row:16} {first:10.4f} {over / len(chosen.horizons):10.4f}   {'':14} "
                + " ".join(f"{ratio:6.3f}" for ratio in ratios)
            )
    return [*made, *coverage(whole, streams, chosen)]


def coverage(whole: dict[str, Any], streams: list[dict[str, Any]], chosen: Set) -> list[str]:
    """Over all horizons and series, and the series that is farthest from its level over all horizons."""
    made = []
    for level in next(iter(whole["overall"]["horizons"].values()))["coverage"]:
        each = [sum(s[str(h)]["coverage"][level] for h in chosen.horizons) / len(chosen.horizons) for s in streams]
        worst = max(each, key=lambda share: abs(share - float(level)))
        made.append(f"inside {float(level):.0%}: {sum(each) / len(each):.2%} of all, {worst:.2%} in the worst series")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=list(SETS), help=f"which (all: {', '.join(SETS)})")
    given = parser.parse_args()
    for name in given.sets:
        if name not in SETS:
            parser.error(f"{name} is none of {', '.join(SETS)}")
    print(f"command {shlex.join(['python', *sys.orig_argv[1:]])}")
    for name in given.sets:
        chosen = SETS[name]
        if asked := os.environ.get(HORIZONS):
            chosen = chosen._replace(horizons=tuple(json.loads(asked)))
        with tempfile.TemporaryDirectory() as folder:
            print("\n".join(lines(name, chosen, scored(chosen, Path(folder)))), flush=True)


if __name__ == "__main__":
    main()
