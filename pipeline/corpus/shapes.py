"""What synthetic series are put together from: noise, recursions, smooth curves and profiles of a cycle.

Each is drawn from a generator and of about unit size.
"""

from collections.abc import Callable

import numpy as np

from pipeline.arrays import Floats, Ints
from pipeline.corpus.clock import DAY_MS, Clock

WAVES = 48  # random Fourier features of a smooth curve
GRID = np.arange(200) / 200  # phases by which a profile is standardised
BURN_IN = 50  # cycles

Rng = np.random.Generator
Profile = Callable[[Floats], Floats]  # phases from 0 to 1 -> values


def standard(x: Floats) -> Floats:
    """Return x with mean 0 and deviation 1; zeros where it is constant."""
    spread = float(x.std())
    return np.asarray((x - x.mean()) / spread if spread > 1e-12 else x * 0.0)


def between(rng: Rng, low: float, high: float) -> float:
    """Draw a positive number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def recursive(x: Floats, a: float, b: float = 0.0) -> Floats:
    """Return y with y_t = x_t + a y_(t-1) + b y_(t-2)."""
    y, last, before = [], 0.0, 0.0
    for value in x.tolist():
        last, before = value + a * last + b * before, last
        y.append(last)
    return np.array(y)


def noise(rng: Rng, n: int) -> Floats:
    """Draw independent values: normal, Laplace, Student's t of 3, or exponential."""
    kinds = (
        lambda: rng.standard_normal(n),
        lambda: rng.laplace(size=n),
        lambda: np.clip(rng.standard_t(3, n), -12, 12),
        lambda: rng.exponential(size=n) - 1,
    )
    return standard(np.asarray(kinds[rng.integers(len(kinds))]()))


def smooth(rng: Rng, n: int, events: float) -> Floats:
    """Draw a Gaussian process of that length scale by random Fourier features (Rahimi and Recht 2007)."""
    turns = rng.standard_normal(WAVES) / events
    waves = np.cos(np.arange(n)[:, None] * turns + rng.uniform(0, 2 * np.pi, WAVES))
    return standard(waves @ rng.standard_normal(WAVES))


def arma(rng: Rng, n: int) -> Floats:
    """Draw white noise, AR(1), an AR(2) that swings, MA, a walk or an ARIMA of order 1 (Box and Jenkins 1970)."""
    e, kind = noise(rng, n), rng.integers(7)
    if kind == 1:
        return standard(recursive(e, 1 - between(rng, 0.003, 0.8)))
    if kind == 2:
        radius, turn = rng.uniform(0.7, 0.995), 2 * np.pi / between(rng, 4, 80)
        return standard(recursive(e, 2 * radius * np.cos(turn), -radius * radius))
    if kind == 3:
        return standard(np.convolve(e, rng.uniform(-1, 1, rng.integers(2, 8)))[:n])
    if kind == 4:
        return standard(np.cumsum(e))
    if kind == 5:
        return standard(recursive(recursive(e, rng.uniform(0.3, 0.97)), 1 - between(rng, 0.001, 0.1)))
    if kind == 6:
        theta = rng.uniform(0.2, 0.95)
        return standard(np.cumsum(e) * (1 - theta) + theta * e)
    return e


def profile(rng: Rng) -> Profile:
    """Draw what a cycle is like: harmonics, bumps, sun, a schedule, two rush hours, or a sawtooth."""
    shape = (_harmonics, _bumps, _sun, _schedule, _rush_hours, _sawtooth)[rng.integers(6)](rng)
    grid = shape(GRID)
    mean, spread = float(grid.mean()), float(grid.std()) + 1e-9
    return lambda phase: (shape(phase) - mean) / spread


def _harmonics(rng: Rng) -> Profile:
    k = np.arange(1, rng.integers(2, 10))
    size, turn = rng.standard_normal(len(k)) / k ** rng.uniform(0.5, 2.5), rng.uniform(0, 2 * np.pi, len(k))
    return lambda phase: np.asarray(np.cos(2 * np.pi * phase[:, None] * k + turn) @ size)


def _bumps(rng: Rng) -> Profile:
    """Von Mises densities."""
    many = int(rng.integers(1, 5))
    at, narrow, size = rng.uniform(0, 1, many), np.exp(rng.uniform(0, 4.5, many)), rng.normal(0.6, 0.7, many)
    return lambda phase: np.asarray(np.exp(narrow * (np.cos(2 * np.pi * (phase[:, None] - at)) - 1)) @ size)


def _sun(rng: Rng) -> Profile:
    low, noon, power = rng.uniform(-0.4, 0.5), rng.uniform(0.4, 0.6), rng.uniform(0.6, 2)
    return lambda phase: np.maximum(0, np.cos(2 * np.pi * (phase - noon)) - low) ** power


def _schedule(rng: Rng) -> Profile:
    """Some levels, from hour to hour."""
    many = int(rng.integers(2, 7))
    cuts, level = np.sort(rng.uniform(0, 1, many)), rng.standard_normal(many)
    return lambda phase: level[np.searchsorted(cuts, phase) % many]


def _rush_hours(rng: Rng) -> Profile:
    at, size, width = np.sort(rng.uniform(0.15, 0.95, 4)), rng.uniform(0, 1, 4), rng.uniform(0.01, 0.08)

    def shape(phase: Floats) -> Floats:
        peaks = np.exp(-0.5 * ((phase[:, None] - at) / width) ** 2) @ size
        rise, fall = (1 / (1 + np.exp(np.clip((edge - phase) / width, -500, 500))) for edge in (at[0], at[3]))
        return np.asarray(peaks + 0.8 * (rise - fall))

    return shape


def _sawtooth(rng: Rng) -> Profile:
    peak, begin = rng.uniform(0.05, 0.95), rng.uniform()

    def shape(phase: Floats) -> Floats:
        place = (phase + begin) % 1
        return np.where(place < peak, place / peak, (1 - place) / (1 - peak))

    return shape


def season(rng: Rng, clock: Clock) -> Floats:
    """Draw cycles after a profile: other ones on some days of the week, larger and higher ones, holidays."""
    phase, cycle, weekday = clock.phase, clock.cycle, clock.weekday
    x = profile(rng)(phase)
    if clock.cycle_ms == DAY_MS:
        x = _by_weekday(rng, x, phase, weekday)
    many = int(cycle[-1]) + 2
    if rng.uniform() < 0.6:
        size = _by_cycle(rng, many, 0.0) * rng.uniform(0.05, 0.5)
        x = (x - x.min() * (rng.uniform() < 0.5)) * np.exp(size[cycle])
    if rng.uniform() < 0.4:
        level = _by_cycle(rng, many, 0.3) * rng.uniform(0.1, 1)
        x = x + np.interp((clock.time_ms - clock.time_ms[0]) / clock.cycle_ms, np.arange(many), level)
    if rng.uniform() < 0.15:
        holiday = (rng.uniform(size=many) < 0.03)[cycle]
        x = np.where(holiday, x.mean() + 0.3 * (x - x.mean()), x)
    return standard(x)


def _by_weekday(rng: Rng, x: Floats, phase: Floats, weekday: Ints) -> Floats:
    kind = rng.integers(5)
    if kind in (1, 2):
        off = weekday >= 5 if rng.uniform() < 0.7 else weekday == rng.integers(7)
        share, other = rng.uniform(0.3, 1), profile(rng)(phase) + rng.normal(0, 0.5)
        x = np.where(off, (1 - share) * x + share * other, x)
    if kind in (2, 3):
        level = rng.normal(0, 0.4, 7)[weekday]
        x = x * (1 + 0.5 * level) + level
    return x


def _by_cycle(rng: Rng, cycles: int, least: float) -> Floats:
    """One number a cycle, alike from one to the next."""
    return standard(recursive(rng.standard_normal(cycles + BURN_IN), rng.uniform(least, 0.98))[BURN_IN:])
