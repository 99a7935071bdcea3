"""Whether to use the forecasts of a stream, in words: the rules that docs/forecasting.md argues."""

import math
from collections.abc import Callable
from typing import NamedTuple

from pipeline.backtest.tally import LAST, SEASONAL, Tally
from pipeline.method import Method
from pipeline.parts.pending import WARM
from worker.backtest.diagnosis import Diagnosis

GOOD, BAD = 0.03, -0.05  # mean skill over horizons: from where it is used, below which it is worse
SURE_GOOD, SURE_BAD = 1.0, 2.0  # standard errors that skill must be away from 0 then
SHORT = 300  # events: the stacking and the bands need some hundred labels
FEW = 5  # different values
MANY = 0.1  # share of gaps, or twice as many uneven steps
HELD = 0.05  # by so much a band may miss its level
USE, BAND = "use it", "the last value is as good: use the band"
NEITHER = "the last value is as good, and the band misses its level: use neither"
WORSE, WORSE_THAN_SEASON = "worse: use the last value", "worse: use the value one season before"
NONE = "no skill to tell"
SPANS_MS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1))


class Verdict(NamedTuple):
    """What to do with the forecasts of one stream."""

    words: str
    why: str  # the likely reason, empty where the verdict needs none
    better: list[str]  # what would be, in sentences


def verdict(tally: Tally, found: Diagnosis, method: Method, cleaned: Callable[[], Tally]) -> Verdict:
    """Judge a stream by its scores and by what it is like; `cleaned` returns its scores without its outliers."""
    missed = _missed(tally, method)
    better = _better(found, method) + missed
    if not tally.n.any():
        return Verdict("nothing is scored", "no forecast among the rows to score has its label in the file", better)
    words = _words(tally, found)
    if words == NONE:
        why = "the last value was never wrong" + (", but for outliers" if tally.squared[:, LAST].any() else "")
        return Verdict(words, "too short" if tally.events <= WARM else why, better)
    if words == USE:
        return Verdict(words, "", better)
    spoilt = (found.sentinels or found.spikes) and _words(cleaned(), found) == USE
    why = "outliers: without them its forecasts are of use" if spoilt else _reason(tally, found, words)
    return Verdict(NEITHER if words == BAND and missed else words, why, better)


def _words(tally: Tally, found: Diagnosis) -> str:
    skill, error = tally.mean_skill()
    if math.isnan(skill):
        return NONE
    if skill < BAD and skill < -SURE_BAD * error:
        return WORSE
    if found.season:
        seasonal, doubt = tally.mean_skill(SEASONAL)
        if seasonal < BAD and seasonal < -SURE_BAD * doubt:
            return WORSE_THAN_SEASON
    return USE if skill >= GOOD and skill > SURE_GOOD * error else BAND


def _reason(tally: Tally, found: Diagnosis, words: str) -> str:
    """The first that applies: what spoils the data comes before what they are like."""
    skill, error = tally.mean_skill()
    if tally.events < SHORT:
        return f"too short: {tally.events:,} events, it needs some {SHORT}"
    if found.levels <= FEW:
        return f"few levels: {found.levels} different values, a forecast in between is none of them"
    if found.gaps > MANY:
        return f"gaps: {found.gaps:.0%} of the steps are longer than they should be"
    if found.uneven > 2 * MANY:
        return f"irregular steps: {found.uneven:.0%} differ from the median, and horizons count events"
    if words == WORSE_THAN_SEASON:
        return "its season repeats more closely than the method has learnt"
    if skill >= GOOD:
        return f"chance may explain its skill of {skill:.2f}, whose standard error is {error:.2f}: score more events"
    if found.walk:
        return "a random walk: no change says anything about the next one"
    return "no pattern that the method knows"


def _better(found: Diagnosis, method: Method) -> list[str]:
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
    return lines


def _missed(tally: Tally, method: Method) -> list[str]:
    """The widest band where it misses its level, in words; a short stream says little about it."""
    if tally.events < SHORT or not tally.n.any() or not method.bands:
        return []
    inside, level = tally.inside[:, 0].sum() / tally.n.sum(), method.band_levels[0]
    return [f"the band of {level:.0%} holds {inside:.0%}"] if abs(inside - level) > HELD else []


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


def season_words(found: Diagnosis, method: Method) -> str:
    """Return the season that scores are beside; assumed where neither times, settings nor the values tell of it."""
    if not found.season:
        return "no season"
    told = method.season != "events" or method.season_slots != Method().season_slots or found.repeats == found.season
    return f"{'a' if told else 'an assumed'} season of {found.season:,} events"
