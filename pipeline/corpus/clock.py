"""When the events of a synthetic series come: a step between a minute and a day, and where in day and week each is."""

from typing import NamedTuple

import numpy as np

from pipeline.arrays import Floats, Ints

MINUTE_MS, DAY_MS = 60_000, 86_400_000
STEPS = {1: 0.05, 5: 0.10, 10: 0.08, 15: 0.10, 30: 0.12, 60: 0.40, 1440: 0.15}  # minutes -> share of the series
FIRST_MS, LAST_MS = 1_000_000_000_000, 1_800_000_000_000  # 2001 to 2027: where a series begins
THURSDAY = 3  # the weekday of the epoch, Monday being 0


class Series(NamedTuple):
    """One stream's events."""

    time_ms: Ints  # (n,) rising
    value: Floats  # (n,)


class Clock(NamedTuple):
    """Times of n events, and their usual distance."""

    time_ms: Ints  # (n,) rising
    step_ms: int

    @property
    def cycle_ms(self) -> int:
        """What repeats: a day, or a week where a step is a day."""
        return DAY_MS if self.step_ms < DAY_MS else 7 * DAY_MS

    @property
    def phase(self) -> Floats:
        """(n,) place within the cycle, from 0 to 1."""
        return np.asarray(self.time_ms % self.cycle_ms / self.cycle_ms)

    @property
    def cycle(self) -> Ints:
        """(n,) number of the cycle, from 0."""
        return np.asarray(self.time_ms // self.cycle_ms - self.time_ms[0] // self.cycle_ms)

    @property
    def weekday(self) -> Ints:
        """(n,) from Monday, 0, to Sunday, 6."""
        return np.asarray((self.time_ms // DAY_MS + THURSDAY) % 7)


def clock(rng: np.random.Generator, n: int) -> Clock:
    """Draw a step and a begin; events follow one another by the step."""
    step_ms = MINUTE_MS * int(rng.choice(list(STEPS), p=list(STEPS.values())))
    begin_ms = int(rng.integers(FIRST_MS, LAST_MS)) // step_ms * step_ms
    return Clock(begin_ms + step_ms * np.arange(n, dtype=np.int64), step_ms)
