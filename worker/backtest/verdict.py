"""Whether to use the forecasts of a stream, in words: the rules that docs/forecasting.md argues."""

import math
from typing import NamedTuple

from pipeline.backtest.scores import mean_of
from pipeline.backtest.tally import FORECAST, LAST, SEASONAL, Tally
from pipeline.method import Method
from pipeline.parts.pending import WARM
from worker.backtest.diagnosis import Diagnosis

GOOD, BAD = 0.03, -0.05  # mean skill over horizons: from where it is used, below which it is worse
SHORT = 300  # events: the stacking and the bands need some hundred labels
FEW = 5  # different values
MANY = 0.1  # share of gaps, or twice as many uneven steps
HELD = 0.05  # by so much a band may miss its level
SPANS_MS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1))


class Verdict(NamedTuple):
    """What to do with the forecasts of one stream."""

    words: str
    why: str  # the likely reason, empty where the verdict needs none
    better: list[str]  # what would be, in sentences


def verdict(tally: Tally, found: Diagnosis, method: Method) -> Verdict:
    """Judge a stream by its scores and by what it is like."""
    skill = mean_of(tally.skill)
    seasonal = mean_of(tally.skills(SEASONAL)[:, FORECAST]) if found.season else math.nan
    better = _better(tally, found, method)
    if not tally.n.any():
        return Verdict("nothing is scored", "no forecast among the rows to score has its label in the file", better)
    if math.isnan(skill):
        why = "the last value was never wrong" + (", but for outliers" if tally.squared[:, LAST].any() else "")
        return Verdict("no skill to tell", "too short" if tally.events <= WARM else why, better)
    if skill < BAD:
        return Verdict("worse: use the last value", _reason(tally, found), better)
    if seasonal < BAD:
        return Verdict("worse: use the value one season before", _reason(tally, found), better)
    if skill < GOOD:
        return Verdict("the last value is as good: use the band", _reason(tally, found), better)
    return Verdict("use it", "", better)


def _reason(tally: Tally, found: Diagnosis) -> str:
    """The first that applies: what spoils the data comes before what they are like."""
    if found.sentinels or found.spikes:
        return "outliers"
    if tally.events < SHORT:
        return f"too short: {tally.events:,} events, it needs some {SHORT}"
    if found.levels <= FEW:
        return f"few levels: {found.levels} different values, a forecast in between is none of them"
    if found.gaps > MANY:
        return f"gaps: {found.gaps:.0%} of the steps are longer than they should be"
    if found.uneven > 2 * MANY:
        return f"irregular steps: {found.uneven:.0%} differ from the median, and horizons count events"
    if found.walk:
        return "a random walk: no change says anything about the next one"
    return "no pattern that the method knows"


def _better(tally: Tally, found: Diagnosis, method: Method) -> list[str]:
    """What would be better, a sentence each."""
    some = [f"{value:g} ({times:,} times)" for value, times in found.sentinels.items()]
    lines = [f"{' and '.join(some)} looks like a sentinel for no reading: leave such cells empty"] if some else []
    if found.spikes:
        more = "more " if some else ""
        lines.append(f"{found.spikes:,} {more}values are far outside the rest: empty those that are wrong")
    if found.multiplicative and method.transform == "none":
        lines.append('its spread grows with its level: try events.transform = "log"')
    if _other_season(found):
        lines.append(
            f'its changes repeat every {found.repeats} events: try model.season = "events" and '
            f"model.season_slots = {found.repeats}"
        )
    inside, level = tally.inside.sum(0) / max(tally.n.sum(), 1), method.band_levels
    if tally.events >= SHORT and tally.n.any() and len(level) and abs(inside[0] - level[0]) > HELD:
        lines.append(f"the band of {level[0]:.0%} holds {inside[0]:.0%}")
    return lines


def _other_season(found: Diagnosis) -> bool:
    """Whether changes repeat with a season that the method does not have: no part of its own, nor its week."""
    m, mine = found.repeats, found.season
    if m < 2 or mine == 0:
        return m >= 2
    return all(abs(m - share) > max(1, mine // 50) for share in (7 * mine, mine, mine / 2, mine / 3, mine / 4))


def step_words(step_ms: int) -> str:
    """Return a step in its largest whole unit.

    >>> step_words(3_600_000), step_words(90_000), step_words(0)
    ('1 h', '90 s', 'none')
    """
    return next((f"{step_ms // ms:,} {unit}" for unit, ms in SPANS_MS if step_ms and step_ms % ms == 0), "none")
