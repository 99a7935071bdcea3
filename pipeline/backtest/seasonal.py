"""The seasonal naive, the benchmark of textbooks: the value a season before the label, y[t - m].

Which season a stream has is settled as the method settles it (`parts/season.py`), by its first 20 steps; until then the
last value stands in. A season of a day or a week goes back by time, so that m is right where events are missing.
"""

from typing import NamedTuple

import numpy as np

from pipeline.arrays import Floats, Ints
from pipeline.method import Method
from pipeline.parts.season import DAY_MS, DAY_STEP_MS, FIRST, WEEK_STEP_MS


class Season(NamedTuple):
    """What a stream's season is: a period, or a number of events; neither for none."""

    period_ms: int = 0
    events: int = 0
    step_ms: int = 0  # the median of the first steps

    @property
    def none(self) -> bool:
        """Whether the stream has no season."""
        return self.period_ms == 0 and self.events == 0


def season_of(time_ms: Ints, method: Method) -> Season | None:
    """Return the season of a stream with these event times (n,), the same however many more come; None: not yet."""
    if method.season == "none":
        return Season()
    if method.season == "events":
        return Season(events=method.season_slots) if method.season_slots > 1 else Season()
    if len(time_ms) <= FIRST:
        return None
    step = np.diff(time_ms[: FIRST + 1])
    period = {"day": DAY_MS, "week": 7 * DAY_MS}.get(method.season, _voted(step))
    median = int(np.median(step))
    return Season(period, 0, median) if 2 * median <= period else Season()


def _voted(step: Ints) -> int:
    """The period that most of the steps look for, 0 for none."""
    step = step[step > 0]
    days, weeks = (int((step < limit).sum()) for limit in (DAY_STEP_MS, WEEK_STEP_MS))
    weeks, others = weeks - days, len(step) - weeks
    return 0 if others > max(days, weeks) else 7 * DAY_MS if weeks > days else DAY_MS


def season_events(time_ms: Ints, season: Season | None) -> int:
    """Return m, the median number of events in a season; 0 where there is none, or less than two seasons of events."""
    if season is None or season.none:
        return 0
    if season.events:
        return season.events
    ends = time_ms + season.period_ms - season.step_ms // 2
    whole = int((ends <= time_ms[-1]).sum())
    return int(np.median(np.searchsorted(time_ms, ends[:whole]) - np.arange(whole))) if whole else 0


def seasonal_naive(value: Floats, time_ms: Ints, origins: Ints, horizon: int, season: Season | None) -> Floats:
    """Return the value (n,) a season before each label, of the last season whose values the origins had seen.

    `value` and `time_ms` are all events of the stream; where there is none so long ago, the last value stands in.
    """
    if season is None or season.none:
        return value[origins]
    if season.events:
        before = origins + horizon - season.events * -(-horizon // season.events)
    else:
        ahead = time_ms[origins + horizon] - time_ms[origins]
        back = np.maximum(-(-ahead // season.period_ms), 1) * season.period_ms
        due = time_ms[origins + horizon] - back + season.step_ms // 2
        before = np.minimum(np.searchsorted(time_ms, due, side="right") - 1, origins)
    return value[np.where((origins >= FIRST) & (before >= 0), before, origins)]
