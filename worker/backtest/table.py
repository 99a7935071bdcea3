"""The table of a back-test: skill, coverage and width, one line per stream, the worst first, and verdicts in words."""

import math

import numpy as np

from pipeline.backtest.scores import WHOLE, mean_of, mean_skills, worst_first
from pipeline.backtest.tally import FORECAST, SEASONAL, Tallies
from pipeline.forecasts import LARGEST
from pipeline.method import Method
from worker.backtest.diagnosis import Diagnosis
from worker.backtest.plot import PARTS, shown
from worker.backtest.verdict import Verdict, season_words, step_words

SHOWN = 30  # streams in the table; the JSON has all
MEAN_WORDS = {WHOLE: "mean of all"} | {name: f"  {words}" for name, words in PARTS.items()}
WHAT = (
    "skill: 1 - squared error / that of the last value: 0 is as good, 1 perfect; errors count up to "
    f"{LARGEST:g} scales of the stream, outliers not at all",
    "on season: the same beside the value one season before, mean over horizons; width: of the widest band, likewise",
)

Judged = dict[str, tuple[Diagnosis, Verdict]]  # by stream


def table(tallies: Tallies, method: Method, without: Tallies | None = None) -> list[str]:
    """Return lines: skill per horizon, coverage per level and width over all horizons, a line per stream.

    Below are the means over streams: of the forecast, of its single parts, and of the forecast without the network.
    """
    width = min(40, max(len(word) for word in ["stream", *MEAN_WORDS.values(), *tallies]))
    levels = method.band_levels
    heads = ["events", *(f"skill@{h}" for h in method.horizons), "on season"]
    heads += [*(f"in {level:.0%}" for level in levels), *["width"][: len(levels)]]
    lines = [" ".join([f"{'stream':<{width}}", *(f"{head:>9}" for head in heads)])]
    order = worst_first(tallies)
    for name in order[:SHOWN]:
        tally = tallies[name]
        n = tally.n.sum() or math.nan
        numbers = [_cell(s, ".3f") for s in [*tally.skill, mean_of(tally.skills(SEASONAL)[:, FORECAST])]]
        numbers += [_cell(c, ".1%") for c in tally.inside.sum(0) / n]
        numbers += [_cell(w, ".4g") for w in tally.mean_width[:, :1].mean(0)]
        lines.append(" ".join([f"{shown(name, width):<{width}}", f"{tally.events:>9,}", *numbers]))
    if len(order) > SHOWN:
        lines.append(f"and {len(order) - SHOWN:,} streams that are better; --json has all")
    for name, skill in mean_skills(tallies, method, without).items():
        numbers = [_cell(s, ".3f") for s in skill]
        lines.append(" ".join([f"{MEAN_WORDS[name]:<{width}}", f"{'':>9}", *numbers]))
    return [*lines, *WHAT]


def verdicts(judged: Judged, tallies: Tallies, method: Method) -> list[str]:
    """Return a line per stream, the worst first, with step and season; below it, outliers and what would be better."""
    lines = []
    for name in worst_first(tallies)[:SHOWN]:
        found, verdict = judged[name]
        why = f"; {verdict.why}" if verdict.why else ""
        step, season = step_words(found.step_ms), season_words(found, method)
        lines.append(f"{shown(name, 40)}: {verdict.words}{why} (step {step}, {season})")
        if outliers := tallies[name].outliers:
            lines.append(f"  {outliers:,} of {tallies[name].events:,} values are outliers, which skill leaves out")
        lines += [f"  {line}" for line in verdict.better]
    return lines


def _cell(number: float, how: str) -> str:
    return f"{'-':>9}" if np.isnan(number) else f"{number:>9{how}}"
