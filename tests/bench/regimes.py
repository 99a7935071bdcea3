"""Synthetic streams whose best forecast is known: seeded regimes, each with its oracle.

The oracle knows how a stream is made and what is in force at its origin; it does not foresee changes. Its forecast is
the conditional mean, and where noise is Gaussian it knows all quantiles. Streams are hourly unless a regime says
otherwise; Gaussian noise is autoregressive, its innovations have deviation 1.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Floats, Ints

Flags = npt.NDArray[np.bool_]
Random = np.random.Generator

BEGIN_MS, HOUR_MS, MINUTE_MS = 1_577_836_800_000, 3_600_000, 60_000
TEN_DAYS_MS = 240 * HOUR_MS  # a step that has no season
SETTLED = 500  # events before any change, and before the forecasts that count


class Stream(NamedTuple):
    """A stream of T events, and what its oracle forecasts at each of them for each of Z horizons."""

    time_ms: Ints  # (T,)
    value: Floats  # (T,)
    mean: Floats  # (T, Z)
    spread: Floats  # (T, Z) Gaussian deviation; NaN where the distribution is another
    changed: Flags  # (T,) events at which something came that the oracle did not foresee
    windows: Mapping[str, Flags]  # (T,) origins that are scored for themselves


class Regime(NamedTuple):
    """How a stream is made, of how many events, and how many of them are one replicate."""

    make: Callable[[Random, int, Ints], Stream]  # from chance, length and horizons (Z,)
    events: int = 4_000
    streams: int = 1
    first: int = SETTLED  # the first event whose forecasts count

    def sample(self, name: str, replicates: int, horizons: Ints) -> list[Stream]:
        """So many streams; the first ones are the same however many there are."""
        seeds = [(crc32(name.encode()), number) for number in range(replicates * self.streams)]
        return [self.make(np.random.default_rng(seed), self.events, horizons) for seed in seeds]


def hours(length: int, step_ms: int = HOUR_MS) -> Ints:
    """(T,) times."""
    return BEGIN_MS + step_ms * np.arange(length, dtype=np.int64)


def autoregressive(random: Random, length: int, phi: float, size: Floats | float = 1.0) -> Floats:
    """(T,) noise whose innovations have deviation `size`; it begins at 0."""
    noise = random.normal(size=length) * size
    for t in range(1, length):
        noise[t] += phi * noise[t - 1]
    return noise


def rough(random: Random, slots: int, step: float) -> Floats:
    """(slots,) a season: a random walk of such steps that comes back to where it began."""
    walk = np.cumsum(random.normal(size=slots) * step)
    walk -= np.arange(1, slots + 1) / slots * walk[-1]
    return np.asarray(walk - walk.mean())


def smooth(random: Random, slots: int, size: float) -> Floats:
    """(slots,) a season of deviation `size`: three harmonics, each half as large as the one before."""
    turn = 2 * np.pi * np.arange(slots) / slots
    waves = sum(random.normal(size=2) @ [np.cos(k * turn), np.sin(k * turn)] / 2 ** (k - 1) for k in (1, 2, 3))
    return np.asarray(waves / np.std(waves) * size)


def switched(random: Random) -> Floats:
    """(288,) a smooth day, and a load of 25 that is switched on and off again once."""
    on, long = random.integers(288), random.integers(36, 144)
    load = 25.0 * ((np.arange(288) - on) % 288 < long)
    return np.asarray(smooth(random, 288, 12) + load - load.mean())


def detailed(random: Random) -> Floats:
    """(1440,) a smooth day, a rough one, and something of each minute's own."""
    return np.asarray(smooth(random, 1440, 20) + rough(random, 1440, 1) + random.normal(size=1440) * 2.7)


def weekly(random: Random) -> Floats:
    """(168,) a load of 60 that is switched off for 49 to 83 hours a week."""
    off, long = random.integers(168), random.integers(49, 84)
    return np.asarray(60.0 * ((np.arange(168) - off) % 168 >= long))


def by_turns(random: Random) -> Floats:
    """A level of 60 and one of 0, each for as many events: 40 to 99."""
    return np.repeat([60.0, 0.0], random.integers(40, 100))


def ahead(season: Floats, length: int, horizons: Ints) -> Floats:
    """(T, Z) what a season (slots,) will be."""
    return np.asarray(season[(np.arange(length)[:, None] + horizons) % len(season)])


def blocks(random: Random, length: int, low: int, high: int) -> Flags:
    """(T,) where a new block begins: every `low` to `high` - 1 events, the first of them 500 later."""
    begins = np.zeros(length, bool)
    at = SETTLED + int(random.integers(low, high))
    while at < length:
        begins[at] = True
        at += int(random.integers(low, high))
    return begins


def held(begins: Flags, draw: Callable[[int], float]) -> Floats:
    """(T,) a number of each block, from the block's number."""
    return np.array([draw(k) for k in range(int(begins.sum()) + 1)])[np.cumsum(begins)]


def after(changes: Flags, low: int, high: int) -> Flags:
    """(T,) origins that are `low` <= events < `high` after the last change; the change itself is 0 after."""
    last = np.maximum.accumulate(np.where(changes, np.arange(len(changes)), -1))
    age = np.arange(len(changes)) - last
    return np.asarray((last >= 0) & (age >= low) & (age < high))


def calm(length: int) -> Flags:
    """(T,) nothing changes."""
    return np.zeros(length, bool)


def noisy(
    random: Random, times: Ints, path: Floats, mean: Floats, phi: float, horizons: Ints,
    changed: Flags | None = None, windows: Mapping[str, Flags] | None = None, size: Floats | float = 1.0,
) -> Stream:  # fmt: skip
    """A path (T,) with noise; `mean` (T, Z) is what the path will be as far as the oracle can know."""
    length = len(times)
    noise = autoregressive(random, length, phi, size)
    grown = np.sqrt(sum(phi ** (2 * k) * (k < horizons) for k in range(int(horizons.max()))))  # (Z,)
    spread = np.broadcast_to(np.broadcast_to(size, (length,))[:, None] * grown, mean.shape)
    expected = mean + noise[:, None] * phi**horizons
    return Stream(times, path + noise, expected, spread, calm(length) if changed is None else changed, windows or {})


def seasonal(*parts: Callable[[Random], Floats], phi: float, step_ms: int = HOUR_MS) -> Callable[..., Stream]:
    """Seasons that add up, each repeated for ever."""

    def make(random: Random, length: int, horizons: Ints) -> Stream:
        seasons = [part(random) for part in parts]
        path = sum(np.resize(season, length) for season in seasons)
        mean = sum(ahead(season, length, horizons) for season in seasons)
        return noisy(random, hours(length, step_ms), np.asarray(path), np.asarray(mean), phi, horizons)

    return make


def level_shifts(random: Random, length: int, horizons: Ints) -> Stream:
    """A day, and a level that moves by 20 to 30 and stays for 300 to 500 events."""
    day, begins = smooth(random, 24, 3), blocks(random, length, 300, 500)
    steps = random.uniform(20, 30, length) * random.choice([-1, 1], length) * begins
    level = np.cumsum(steps)
    mean = level[:, None] + ahead(day, length, horizons)
    windows = {f"shift, {low}-{high}": after(begins, low, high) for low, high in ((0, 12), (12, 24), (24, 48))}
    return noisy(random, hours(length), level + np.resize(day, length), mean, 0.5, horizons, begins, windows)


def trends(random: Random, length: int, horizons: Ints) -> Stream:
    """No season; a level, then a trend of 0.4 an event, up or down, then a level, for 400 to 600 events each."""
    begins = blocks(random, length, 400, 600)
    slope = held(begins, lambda k: (k % 2) * 0.4 * random.choice([-1, 1]))
    path = np.cumsum(slope)
    mean = path[:, None] + slope[:, None] * horizons
    starts, stops = begins & (slope != 0), begins & (slope == 0)
    windows = {f"start, {low}-{high}": after(starts, low, high) & (slope != 0) for low, high in ((0, 24), (24, 400))}
    for low, high in ((0, 12), (12, 24), (24, 400)):
        windows[f"stop, {low}-{high}"] = after(stops, low, high) & (slope == 0)
    return noisy(random, hours(length), path, mean, 0.0, horizons, begins, windows)


def amplitude(random: Random, length: int, horizons: Ints) -> Stream:
    """A day whose amplitude is 1 to 8, another one every 240 to 480 events."""
    day, begins = smooth(random, 24, 1), blocks(random, length, 240, 480)
    size = held(begins, lambda _: random.uniform(1, 8))
    mean = size[:, None] * ahead(day, length, horizons)
    windows = {f"change, {low}-{high}": after(begins, low, high) for low, high in ((0, 24), (24, 72))}
    return noisy(random, hours(length), size * np.resize(day, length), mean, 0.5, horizons, begins, windows)


def noise_blocks(random: Random, length: int, horizons: Ints) -> Stream:
    """A day; noise is fivefold in every other block of 300 to 500 events."""
    day, begins = smooth(random, 24, 3), blocks(random, length, 300, 500)
    size = held(begins, lambda k: 5.0 if k % 2 else 1.0)
    windows = {"quiet": (size == 1) & (np.arange(length) >= SETTLED), "loud": size > 1}
    mean = ahead(day, length, horizons)
    return noisy(random, hours(length), np.resize(day, length), mean, 0.5, horizons, begins, windows, size)


def outlier_bursts(random: Random, length: int, horizons: Ints) -> Stream:
    """A day; every 60 to 120 events 1 to 3 values in a row are 80 to 140 off, each to a side of its own.

    The oracle sees through them and does not foresee them.
    """
    day, begins = smooth(random, 24, 3), blocks(random, length, 60, 120)
    clean = noisy(random, hours(length), np.resize(day, length), ahead(day, length, horizons), 0.5, horizons)
    long = held(begins, lambda _: float(random.integers(1, 4)))
    off = after(begins, 0, 3) & (np.arange(length) - np.maximum.accumulate(begins * np.arange(length)) < long)
    value = clean.value + off * random.uniform(80, 140, length) * random.choice([-1, 1], length)
    ends = np.concatenate([[False], off[:-1] & ~off[1:]])
    windows = {f"burst, {low}-{high}": after(ends, low, high) & ~off for low, high in ((0, 4), (4, 24), (24, 48))}
    return clean._replace(value=value, changed=off, windows=windows)


def missing(random: Random, length: int, horizons: Ints) -> Stream:
    """A day of which each event is missing by a chance of 0.2. Horizons count events, so their times are random too."""
    whole, phi, there = length * 2, 0.5, 0.8
    day, noise = smooth(random, 24, 3), autoregressive(random, length * 2, phi)
    came = np.flatnonzero(random.random(whole) < there)[:length]
    mean = np.zeros((length, len(horizons)))
    for j, h in enumerate(horizons.tolist()):
        chance = there**h  # that the event is exactly k slots ahead: negative binomial
        for k in range(h, 3 * h + 40):
            mean[:, j] += chance * (day[(came + k) % 24] + phi**k * noise[came])
            chance *= (1 - there) * k / (k + 1 - h)
    value = (np.resize(day, whole) + noise)[came]
    return independent(value, mean)._replace(time_ms=BEGIN_MS + HOUR_MS * came)


def intermittent(random: Random, length: int, horizons: Ints) -> Stream:
    """Demand: nothing at nine events of ten, else 1 and a Poisson number of mean 4."""
    value = np.where(random.random(length) < 0.1, 1.0 + random.poisson(4, length), 0.0)
    return independent(value, np.full((length, len(horizons)), 0.1 * 5))


def levels(random: Random, length: int, horizons: Ints) -> Stream:
    """One of three levels in a row, that of before by a chance of 0.9, else a neighbour's."""
    chances = np.array([[0.9, 0.1, 0.0], [0.05, 0.9, 0.05], [0.0, 0.1, 0.9]])
    sums, at = np.cumsum(chances, axis=1), [1]
    for chance in random.random(length - 1):
        at.append(int(np.searchsorted(sums[at[-1]], chance)))
    mean = np.stack([np.linalg.matrix_power(chances, h)[at] @ np.arange(3.0) for h in horizons.tolist()], axis=1)
    return independent(np.array(at, float), mean)


def above_zero(random: Random, length: int, horizons: Ints) -> Stream:
    """Power of the sun: nothing by night, by day a bow of up to 10 times a clearness that is lognormal."""
    bow, phi, size = np.maximum(0, np.sin(2 * np.pi * (np.arange(24) - 6) / 24)) * 10, 0.9, 0.4
    noise = autoregressive(random, length, phi, size)
    known = phi**horizons
    left = size**2 * (1 - known**2) / (1 - phi**2)  # variance of the noise that is to come
    mean = ahead(bow, length, horizons) * np.exp(noise[:, None] * known + left / 2)
    return independent(np.resize(bow, length) * np.exp(noise), mean)


def meter(reset: bool) -> Callable[..., Stream]:
    """What a meter has counted: a day's shape times exponential demand; `reset`: to 0, every 600 to 900 events."""

    def make(random: Random, length: int, horizons: Ints) -> Stream:
        shape = np.exp(smooth(random, 24, 0.7))
        value = np.cumsum(np.resize(shape, length) * random.exponential(size=length))
        begins = blocks(random, length, 600, 900) if reset else calm(length)
        value -= np.maximum.accumulate(np.where(begins, value, 0))
        more = np.cumsum(ahead(shape, length, np.arange(1, horizons.max() + 1)), axis=1)
        ages = np.arange(length)
        windows = {"age 500-3,000": (ages >= 500) & (ages < 3_000)}
        stream = independent(value, value[:, None] + more[:, horizons - 1])
        return stream._replace(changed=begins, windows=windows)

    return make


def independent(value: Floats, mean: Floats) -> Stream:
    """A stream of hours whose distribution is not Gaussian."""
    return Stream(hours(len(value)), value, mean, np.full_like(mean, np.nan), calm(len(value)), {})


def cold(random: Random, length: int, horizons: Ints) -> Stream:
    """A clean stream from its first event on: a day and autoregressive noise."""
    stream = seasonal(lambda r: smooth(r, 24, r.uniform(1, 5)), phi=0.7)(random, length, horizons)
    age = np.arange(length)
    ages = ((0, 700), (700, 1_300), (1_300, 2_500), (2_500, length))
    return stream._replace(windows={f"age {low:,}-{high:,}": (age >= low) & (age < high) for low, high in ages})


def season(events: int, step_ms: int) -> Regime:
    """A season of so many events."""
    return Regime(seasonal(lambda r: smooth(r, events, 3), phi=0.5, step_ms=step_ms))


REGIMES = {
    "5-minute-day": Regime(seasonal(switched, phi=0.9, step_ms=5 * MINUTE_MS), 25 * 288),
    "rough-5-minute-day": Regime(seasonal(lambda r: rough(r, 288, 2.3), phi=0.9, step_ms=5 * MINUTE_MS), 25 * 288),
    "1-minute-day": Regime(seasonal(detailed, phi=0.9, step_ms=MINUTE_MS), 10 * 1440),
    "day-and-week": Regime(seasonal(lambda r: rough(r, 24, 1.5), lambda r: rough(r, 168, 2), phi=0.5)),
    "season-30": season(30, HOUR_MS),
    "season-37": season(37, HOUR_MS),
    "season-30-no-clock": season(30, TEN_DAYS_MS),
    "season-37-no-clock": season(37, TEN_DAYS_MS),
    "weekly-square": Regime(seasonal(lambda r: smooth(r, 24, 3), weekly, phi=0.5)),
    "level-shifts": Regime(level_shifts),
    "two-levels": Regime(seasonal(lambda r: smooth(r, 24, 3), by_turns, phi=0.5)),
    "trends": Regime(trends),
    "amplitude": Regime(amplitude),
    "noise-blocks": Regime(noise_blocks),
    "outlier-bursts": Regime(outlier_bursts),
    "missing": Regime(missing),
    "intermittent": Regime(intermittent),
    "few-levels": Regime(levels),
    "never-below-0": Regime(above_zero),
    "meter": Regime(meter(reset=False)),
    "meter-resets": Regime(meter(reset=True)),
    "cold": Regime(cold, 3_500, streams=6, first=0),
}
