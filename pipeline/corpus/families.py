"""Families of synthetic series. Each is a function of a generator and a clock, with what defines it in its docstring.

None is after a data set. `FAMILIES` has them all; `series` draws some of one, the same from the same seed.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from zlib import crc32

import numpy as np

from pipeline.arrays import Floats
from pipeline.corpus.clock import Clock, Series, clock
from pipeline.corpus.shapes import Rng, arma, between, noise, profile, recursive, season, smooth, standard

LONGER = 4  # times as many events are made where some are left out
Family = Callable[[Rng, Clock], Series]


def seasons(rng: Rng, clock: Clock) -> Series:
    """A day repeats, with weekdays and holidays, or a week of daily values; and noise."""
    x = season(rng, clock)
    if rng.uniform() < 0.25:  # a cycle that is none of the clock's
        x = x + profile(rng)(np.arange(len(x)) / between(rng, 5, 200) % 1) * rng.uniform(0.1, 1)
    return Series(clock.time_ms, x + between(rng, 0.02, 1) * arma(rng, len(x)))


def trends(rng: Rng, clock: Clock) -> Series:
    """It goes one way for long: a smooth curve, straight stretches, or growth by a rate; and noise."""
    n, kind = len(clock.time_ms), rng.integers(3)
    if kind == 0:
        x = smooth(rng, n, between(rng, 50, n))
    elif kind == 1:
        slopes = np.repeat(rng.standard_normal(8), -(-n // 8))[:n]
        x = standard(np.cumsum(slopes))
    else:
        x = standard(np.exp(np.linspace(0, rng.uniform(-4, 4), n)))
    if rng.uniform() < 0.5:
        x = x + rng.uniform(0.05, 0.5) * season(rng, clock)
    return Series(clock.time_ms, x + between(rng, 0.005, 0.2) * arma(rng, n))


def autoregressions(rng: Rng, clock: Clock) -> Series:
    """Linear in its own past and in past noise: AR, MA, ARIMA, or a sum of two."""
    n = len(clock.time_ms)
    return Series(clock.time_ms, arma(rng, n) + (rng.uniform() < 0.5) * rng.uniform(0.1, 1) * arma(rng, n))


def regimes(rng: Rng, clock: Clock) -> Series:
    """What is in force switches: by chance, a Markov chain (Hamilton 1989), or by its own level (Tong 1978)."""
    n = len(clock.time_ms)
    if rng.uniform() < 0.5:
        x = _threshold(noise(rng, n), *rng.uniform(-0.9, 0.98, 2), *rng.normal(0, 0.5, 2))
    else:
        many = int(rng.integers(2, 5))
        switches = rng.uniform(size=n) < between(rng, 0.003, 0.2)
        state = rng.integers(0, many, n)[np.maximum.accumulate(np.where(switches, np.arange(n), 0))]
        wander = standard(recursive(rng.standard_normal(n), rng.uniform(0, 0.95)))
        x = rng.normal(0, 2, many)[state] + rng.uniform(0.02, 0.5, many)[state] * wander
    return Series(clock.time_ms, standard(x))


def _threshold(e: Floats, a: float, b: float, above: float, below: float) -> Floats:
    """Return x with x_t = e_t + a x_(t-1) + above from 0 on, and with b and `below` where x_(t-1) is below 0."""
    x, last = [], 0.0
    for value in e.tolist():
        last = value + (a * last + above if last >= 0 else b * last + below)
        x.append(last)
    return np.array(x)


def heteroscedastic(rng: Rng, clock: Clock) -> Series:
    """Noise whose size changes: with a season, or as it likes (stochastic volatility: Taylor 1986)."""
    n = len(clock.time_ms)
    seasonal = rng.uniform() < 0.5
    size = season(rng, clock) if seasonal else standard(recursive(rng.standard_normal(n), rng.uniform(0.95, 0.995)))
    x = arma(rng, n) if rng.uniform() < 0.5 else noise(rng, n)
    level = season(rng, clock) * rng.uniform(0, 1.5)
    return Series(clock.time_ms, level + x * np.exp(rng.uniform(0.5, 1.2) * size))


def counts(rng: Rng, clock: Clock) -> Series:
    """Poisson numbers of a rate with season and memory: whole and never below 0."""
    x = _plain(rng, clock)
    rate = np.exp(np.clip(x * rng.uniform(0.3, 1.2), -5, 4)) * between(rng, 1, 300)
    return Series(clock.time_ms, rng.poisson(np.minimum(rate, 1e6)).astype(np.float64))


def intermittent(rng: Rng, clock: Clock) -> Series:
    """Mostly zeros, with demands in between whose chance may have a season (Croston 1972)."""
    n = len(clock.time_ms)
    odds = np.exp(season(rng, clock) * rng.uniform(0, 1)) if rng.uniform() < 0.6 else np.ones(n)
    chance = np.minimum(odds / odds.mean() * rng.uniform(0.02, 0.3), 0.9)
    size = 1 + rng.poisson(between(rng, 0.2, 30), n) if rng.uniform() < 0.6 else rng.gamma(2, between(rng, 0.5, 10), n)
    return Series(clock.time_ms, np.where(rng.uniform(size=n) < chance, size, 0.0))


def level_shifts(rng: Rng, clock: Clock) -> Series:
    """Jumps to another level, which stay."""
    x = _plain(rng, clock)
    for at in rng.integers(1, len(x), rng.integers(2, 9)).tolist():
        x[at:] += rng.choice([-1, 1]) * rng.uniform(1, 4)
    return Series(clock.time_ms, x)


def spikes(rng: Rng, clock: Clock) -> Series:
    """Rare large values, gone at the next event or fading."""
    x = _plain(rng, clock)
    hit = rng.uniform(size=len(x)) < between(rng, 0.002, 0.03)
    size = np.where(hit, (2 + rng.exponential(3, len(x))) * rng.choice([-1, 1, 1]), 0.0)
    return Series(clock.time_ms, x + recursive(size, rng.choice([0, 0, 0.5, 0.8, 0.95])))


def censored(rng: Rng, clock: Clock) -> Series:
    """It ends at a floor or a ceiling, in few levels, or stands still for a while."""
    x, kind = _plain(rng, clock), rng.integers(4)
    if kind == 0:
        return Series(clock.time_ms, np.maximum(x, np.quantile(x, rng.uniform(0.1, 0.6))))
    if kind == 1:
        return Series(clock.time_ms, np.minimum(x, np.quantile(x, rng.uniform(0.6, 0.95))))
    if kind == 2:
        unit = between(rng, 0.1, 1)
        return Series(clock.time_ms, np.round(x / unit) * unit)
    for at in rng.integers(0, len(x), rng.integers(2, 9)).tolist():
        x[at : at + int(rng.integers(5, 80))] = x[at]
    return Series(clock.time_ms, x)


def opening_hours(rng: Rng, clock: Clock) -> Series:
    """Events of some hours of the day alone, on all days or on working days."""
    n = len(clock.time_ms)
    step_ms = min(clock.step_ms, 3_600_000)
    long = Clock(clock.time_ms[0] // step_ms * step_ms + step_ms * np.arange(LONGER * n, dtype=np.int64), step_ms)
    begin = rng.uniform(0.2, 0.5)
    within = (long.phase >= begin) & (long.phase < begin + rng.uniform(0.3, 0.5))
    if rng.uniform() < 0.5:
        within &= long.weekday < 5
    open_ = np.flatnonzero(within)[:n]
    x = _plain(rng, long) + rng.uniform(0, 1.5) * season(rng, long)
    return Series(long.time_ms[open_], x[open_])


def missing_events(rng: Rng, clock: Clock) -> Series:
    """Some events never come, singly and in runs, and some come late."""
    x, n = _plain(rng, clock), len(clock.time_ms)
    there = rng.uniform(size=n) > rng.uniform(0.01, 0.15)
    for at in rng.integers(1, n, rng.integers(0, 6)).tolist():
        there[at : at + int(rng.integers(2, 40))] = False
    time_ms = clock.time_ms
    if rng.uniform() < 0.3:
        time_ms = time_ms + (rng.uniform(0, 0.3, n) * clock.step_ms).astype(np.int64)
    return Series(time_ms[there], x[there])


def kernels(rng: Rng, clock: Clock) -> Series:
    """Sums and products of Gaussian processes, as KernelSynth draws them (Ansari et al. 2024)."""
    x = _kernel(rng, clock)
    for _ in range(rng.integers(0, 5)):
        x = x + _kernel(rng, clock) if rng.uniform() < 0.5 else x * _kernel(rng, clock)
    return Series(clock.time_ms, standard(x) + between(rng, 0.003, 0.5) * rng.standard_normal(len(x)))


def _kernel(rng: Rng, clock: Clock) -> Floats:
    n, kind = len(clock.time_ms), rng.integers(4)
    if kind == 0:
        cycle = clock.cycle_ms / clock.step_ms
        period = rng.choice([cycle, cycle * 7, cycle / 2, rng.uniform(5, 150), 12.0, 30.0])
        return standard(profile(rng)(np.arange(n) / period % 1))
    if kind == 1:
        return np.linspace(-1, 1, n) * rng.normal(0, 2) + rng.normal()
    if kind == 2:  # a rational quadratic is a mixture of length scales
        return standard(sum((smooth(rng, n, between(rng, 3, n)) for _ in range(3)), np.zeros(n)))
    return smooth(rng, n, between(rng, 3, n))


def stores(rng: Rng, clock: Clock) -> Series:
    """Something fills and empties: arrivals that stay for a while, or a thermostat between two levels."""
    n = len(clock.time_ms)
    if rng.uniform() < 0.5:
        rate = np.maximum(0, 1 + season(rng, clock) * rng.uniform(0.2, 1)) * between(rng, 0.3, 60)
        x = recursive(rng.poisson(rate).astype(np.float64), 1 - between(rng, 0.01, 0.5))
    else:
        x = _thermostat(np.abs(rng.normal(1, 0.3, n)), between(rng, 0.03, 0.5), between(rng, 0.03, 0.5))
    return Series(clock.time_ms, standard(x) + between(rng, 0.001, 0.2) * rng.standard_normal(n))


def _thermostat(pace: Floats, up: float, down: float) -> Floats:
    """Rise to 1, fall to 0, and so on."""
    x, last, rises = [], 0.0, True
    for step in pace.tolist():
        last += up * step if rises else -down * step
        rises = last < 1 if rises else last <= 0
        x.append(last)
    return np.array(x)


def prices(rng: Rng, clock: Clock) -> Series:
    """The exponential of a walk, whose steps have a size with memory: GARCH(1,1) (Bollerslev 1986)."""
    n = len(clock.time_ms)
    old, new = rng.uniform(0.8, 0.88), rng.uniform(0.06, 0.11)
    steps, variance = [], 1.0
    for e in noise(rng, n).tolist():
        steps.append(float(np.sqrt(variance)) * e)
        variance = (1 - old - new) + old * variance + new * min(steps[-1] ** 2, 30.0)
    return Series(clock.time_ms, between(rng, 1, 1000) * np.exp(np.cumsum(steps) * between(rng, 0.001, 0.015)))


def mixes(rng: Rng, clock: Clock) -> Series:
    """A weighted mean of two series of other families on one clock (TSMixup: Ansari et al. 2024)."""
    first, second = (_SINGLE[i](rng, clock) for i in rng.choice(len(_SINGLE), 2, replace=False))
    share = rng.uniform(0.2, 0.8)
    return Series(clock.time_ms, share * standard(first.value) + (1 - share) * standard(second.value))


def _plain(rng: Rng, clock: Clock) -> Floats:
    """What is then cut, jumps or has holes."""
    return standard(_PLAIN[rng.integers(len(_PLAIN))](rng, clock).value)


_PLAIN: tuple[Family, ...] = (seasons, seasons, trends, autoregressions, kernels)
_SINGLE: tuple[Family, ...] = (
    seasons, trends, autoregressions, regimes, heteroscedastic, counts, intermittent, level_shifts, spikes, censored,
    kernels, stores, prices,
)  # fmt: skip
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {family.__name__.replace("_", "-"): family for family in (*_SINGLE, opening_hours, missing_events, mixes)}
)


def series(family: str, seed: int, many: int, events: int) -> Iterator[Series]:
    """Yield so many series of a family, each of at most so many events, in units and at a level of its own."""
    for number in range(many):
        rng = np.random.default_rng((seed, crc32(family.encode()), number))
        made = FAMILIES[family](rng, clock(rng, events))
        size = 1.0 if family in ("counts", "intermittent", "prices") else between(rng, 0.1, 1000)
        level = 0.0 if size == 1.0 else rng.normal(0, 5) * size
        yield Series(made.time_ms, made.value * size + level)
