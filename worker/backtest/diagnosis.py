"""What a stream is like, from its times and values alone: simple rules, argued in docs/forecasting.md.

Knows no forecast. All shares are of the stream's events or steps; thresholds are where the rules are.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Floats, Ints
from pipeline.backtest.seasonal import season_events, season_of
from pipeline.method import Method

RECENT = 20_000  # events that correlations and blocks are taken from, the last ones
NINES = (99, 99.9, 999, 999.9, 9999, 99999, 999999, 1e20, 1e30)
UNSIGNED = (65535, 4294967295, 32767, -32768, 2147483647, -2147483648)
KNOWN = np.array([*NINES, *(-x for x in NINES), *UNSIGNED])  # what loggers write where there is no reading
FENCE = 10.0  # quartile ranges outside the quartiles; Tukey (1977) calls 3 far out
OFTEN, RARE = 3, 0.01  # a value far out that comes back so often is no accident, where all far out are no larger share
GAP, UNEVEN = 1.5, 0.1  # steps of more than so many medians; other steps that differ by more than this share
CALENDAR = 0.7  # share of gaps that come at one distance
LAGS = 1_000  # events of the longest season looked for: what model.season_slots takes
REPEATS = 0.3  # correlation of changes one season apart
WALK = 0.1  # correlation of changes below which none is seen
BLOCKS = 20  # that spread and level are compared over


class Diagnosis(NamedTuple):
    """What is known of a stream beside its scores."""

    step_ms: int  # the median; 0 where there is none
    season: int  # events, 0 for none: what the seasonal naive goes back by
    sentinels: dict[float, int]  # how often each comes
    spikes: int  # values far out that are no sentinels
    levels: int  # different values, sentinels left aside
    gaps: float  # share of steps that are too long; 0 where the calendar makes them so
    uneven: float  # share of the others that differ from the median
    walk: bool  # changes are not correlated with those before
    repeats: int  # events of the season that changes repeat with; 0 for none
    multiplicative: bool  # spread grows in proportion to the level


def diagnose(time_ms: Ints, value: Floats, method: Method) -> Diagnosis:
    """Diagnose a stream from its events (n,), in time order."""
    sentinels, spikes, inside = _outside(value)
    clean = value[inside]
    step = np.diff(time_ms)
    median = float(np.median(step[step > 0])) if (step > 0).any() else 0.0
    long = step > GAP * median
    even = abs(step[~long] - median) <= UNEVEN * median
    correlation = _correlation(np.diff(clean[-RECENT:]))
    return Diagnosis(
        step_ms=round(median),
        season=season_events(time_ms, season_of(time_ms, method)),
        sentinels=sentinels,
        spikes=spikes,
        levels=len(np.unique(clean)),
        gaps=0.0 if _recur(long) else float(long.mean()) if len(step) else 0.0,
        uneven=1 - float(even.mean()) if len(even) else 0.0,
        walk=_walks(correlation, min(len(clean), RECENT)),
        repeats=_repeats(correlation),
        multiplicative=_multiplicative(clean[-RECENT:]),
    )


def _recur(long: npt.NDArray[np.bool_]) -> bool:
    """Whether most gaps come at the same distance in events, as nights and weekends do: the calendar's, not gaps."""
    apart = np.diff(np.flatnonzero(long))
    return len(apart) > 2 and float((apart == np.median(apart)).mean()) > CALENDAR


def ordinary(value: Floats) -> npt.NDArray[np.bool_]:
    """(n,) whether each value is neither a sentinel nor a spike."""
    return _outside(value)[2]


def _outside(value: Floats) -> tuple[dict[float, int], int, npt.NDArray[np.bool_]]:
    """Return sentinels and how often they come, how many other values are far out, and which values are neither."""
    rest, every = value[~np.isin(value, KNOWN)], np.ones(len(value), np.bool_)
    if len(rest) < 2:
        return {}, 0, every
    edges: Floats = np.quantile(rest, [0.01, 0.25, 0.75, 0.99])
    low, high = (edges[1], edges[2]) if edges[2] > edges[1] else (edges[0], edges[3])
    if high == low:
        return {}, 0, every
    far: npt.NDArray[np.bool_] = (value < low - FENCE * (high - low)) | (value > high + FENCE * (high - low))
    each = dict(zip(*(a.tolist() for a in np.unique(value[far], return_counts=True)), strict=True))
    sentinels = {x: n for x, n in each.items() if x in KNOWN}
    if far.sum() - sum(sentinels.values()) > RARE * len(value):  # so many are how the values are distributed
        return sentinels, 0, ~np.isin(value, list(sentinels))
    again = {x: n for x, n in each.items() if x not in sentinels and n > 1}
    if len(again) == 1 and max(again.values()) >= OFTEN:  # counts and rain come again too, but then more of them do
        sentinels |= again
    return sentinels, int(far.sum()) - sum(sentinels.values()), ~far


def _correlation(change: Floats) -> Floats:
    """Autocorrelation of changes at lags 0, 1, ..., of changes cut at their far quantiles; empty where none differ."""
    n, lags = len(change), min(LAGS, len(change) // 3)
    if lags < 2:
        return np.zeros(0)
    change = np.clip(change, *np.quantile(change, [0.005, 0.995]))
    change = change - change.mean()
    if not change.any():
        return np.zeros(0)
    power = np.abs(np.fft.rfft(change, 2 * n)) ** 2  # Wiener and Khinchin
    correlation: Floats = np.fft.irfft(power)[: lags + 1] / change.var() / n
    return correlation


def _walks(correlation: Floats, n: int) -> bool:
    """Whether no lag up to 48 is correlated: the largest of so many by chance is below 4 standard errors."""
    return len(correlation) > 2 and bool(np.abs(correlation[1:49]).max() < max(WALK, 4 / np.sqrt(n)))


def _repeats(correlation: Floats) -> int:
    """The first lag nearly as high as the highest, once the correlation has been negative: before, it is smoothness."""
    negative = np.flatnonzero(correlation < 0)
    if not len(negative):
        return 0
    after = correlation[negative[0] :]
    if len(after) < 3 or after.max() < REPEATS:
        return 0
    first = int(np.argmax(after > 0.9 * after.max()))
    while first + 1 < len(after) and after[first + 1] > after[first]:
        first += 1
    return int(negative[0]) + first


def _multiplicative(value: Floats) -> bool:
    """Whether the spread of changes follows the level: over blocks, log on log, with a slope near 1."""
    if len(value) < 10 * BLOCKS or value.min() <= 0:
        return False
    blocks = np.array_split(value, BLOCKS)
    level = np.array([block.mean() for block in blocks])
    spread = np.array([np.diff(block).std() for block in blocks])
    if level.max() < 3 * level.min() or spread.min() == 0:
        return False
    x, y = np.log(level), np.log(spread)
    slope = float(np.polyfit(x, y, 1)[0])
    return 0.6 < slope < 1.6 and float(np.corrcoef(x, y)[0, 1]) > 0.8
