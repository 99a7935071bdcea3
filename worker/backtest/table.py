"""The table of a back-test: skill and coverage, one line per stream, the worst first."""

import math

import numpy as np

from pipeline.arrays import Floats
from pipeline.backtest.scoring import WHOLE, Tallies, mean_skills, worst_first
from pipeline.method import Method
from worker.backtest.plot import PARTS, shown

SHOWN = 30  # streams in the table; the JSON has all
MEAN_WORDS = {WHOLE: "mean of all"} | {name: f"  {words}" for name, words in PARTS.items()}


def table(tallies: Tallies, method: Method, without: Tallies | None = None) -> list[str]:
    """Return lines: skill per horizon and coverage per level over all horizons, a line per stream, the worst first.

    Below are the means over streams: of the forecast, of its single parts, and of the forecast without the network.
    """
    width = min(40, max(len(word) for word in ["stream", *MEAN_WORDS.values(), *tallies]))
    heads = [f"skill@{h}" for h in method.horizons] + [f"in {level:.0%}" for level in method.band_levels]
    lines = [" ".join([f"{'stream':<{width}}", f"{'events':>9}", *(f"{head:>9}" for head in heads)])]
    order = worst_first(tallies)
    for name in order[:SHOWN]:
        tally = tallies[name]
        numbers = [_cell(s, ".3f") for s in tally.skill]
        numbers += [_cell(c, ".1%") for c in _ratio(tally.inside.sum(0), tally.n.sum())]
        lines.append(" ".join([f"{shown(name, width):<{width}}", f"{tally.events:>9,}", *numbers]))
    if len(order) > SHOWN:
        lines.append(f"and {len(order) - SHOWN:,} streams that are better; --json has all")
    for name, skill in mean_skills(tallies, method, without).items():
        numbers = [_cell(s, ".3f") for s in skill]
        lines.append(" ".join([f"{MEAN_WORDS[name]:<{width}}", f"{'':>9}", *numbers]))
    return lines


def _ratio(inside: Floats, n: float) -> Floats:
    return inside / n if n else np.full(len(inside), np.nan)


def _cell(number: float, how: str) -> str:
    return f"{'-':>9}" if math.isnan(number) else f"{number:>9{how}}"
