"""Synthetic series are finite, the same from the same seed, and of each family what defines it."""

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.arrays import Floats
from pipeline.corpus.clock import DAY_MS, Series
from pipeline.corpus.families import FAMILIES, series
from pipeline.corpus.shapes import recursive

MANY, EVENTS = 30, 1500


def step_ms(one: Series) -> int:
    return int(np.median(np.diff(one.time_ms)))


def correlation(x: Floats, lag: int) -> float:
    x = x - x.mean()
    return float((x[lag:] * x[:-lag]).mean() / (x * x).mean()) if 0 < lag < len(x) // 2 and x.std() > 0 else 0.0


def repeats(one: Series) -> float:
    """After a day or a week, once what is slower is taken away; of series that have several."""
    lag = (DAY_MS if step_ms(one) < DAY_MS else 7 * DAY_MS) // step_ms(one)
    changes = one.value[lag // 2 :] - one.value[: -(lag // 2)]
    return correlation(changes, lag)


def goes_one_way(one: Series) -> float:
    """How much of its variance is that of means over a tenth."""
    return float(np.var([part.mean() for part in np.array_split(one.value, 10)]) / one.value.var())


def follows_from_its_past(one: Series) -> float:
    """How much of it a linear regression on its last eight values explains."""
    past = np.stack([one.value[8 - lag : -lag] for lag in range(1, 9)] + [np.ones(len(one.value) - 8)], 1)
    left = one.value[8:] - past @ np.linalg.lstsq(past, one.value[8:], rcond=None)[0]
    return float(1 - left.var() / one.value[8:].var())


def is_not_linear(one: Series) -> float:
    """How much of what a line leaves depends on the value before, in tenths."""
    before, after = one.value[:-1], one.value[1:]
    left = after - np.polyval(np.polyfit(before, after, 1), before)
    tenths = np.searchsorted(np.quantile(before, np.arange(1, 10) / 10), before)
    means = np.array([left[tenths == k].mean() if (tenths == k).any() else 0.0 for k in range(10)])
    return float(means[tenths].var() / left.var())


def changes_in_size(one: Series) -> float:
    """How the size of changes differs from one stretch to another."""
    size = [part.std() for part in np.array_split(np.diff(one.value), 100)]
    return float(np.quantile(size, 0.9) / np.quantile(size, 0.1))


def jumps(one: Series) -> float:
    """The largest change of a mean over 20 events by what is usual."""
    means = np.convolve(one.value, np.ones(20) / 20, "valid")
    changes = np.abs(means[20:] - means[:-20])
    return float(changes.max() / np.median(np.abs(np.diff(one.value))))


def has_outliers(one: Series) -> float:
    """The largest distance from the median by the usual one."""
    off = np.abs(one.value - np.median(one.value))
    return float(off.max() / np.median(off))


def comes_again(one: Series) -> float:
    return 1 - len(np.unique(one.value)) / len(one.value)


def sleeps(one: Series) -> float:
    """The share of the day in which there is nothing."""
    phase = one.time_ms % DAY_MS / DAY_MS
    return float(1 - (phase.max() - phase.min()))


def lacks_events(one: Series) -> float:
    return float((np.diff(one.time_ms) > 1.5 * step_ms(one)).mean())


def has_memory_of_size(one: Series) -> float:
    """How squares of returns are correlated, less what returns are."""
    returns = np.diff(np.log(np.maximum(one.value, 1e-300)))
    return float(np.mean([correlation(returns**2, lag) - abs(correlation(returns, lag)) for lag in range(1, 11)]))


def is_a_number_of_things(one: Series) -> float:
    return float(((one.value >= 0) & (one.value == np.round(one.value))).mean())


DEFINED: dict[str, tuple[Callable[[Series], float], float]] = {
    "seasons": (repeats, 0.3),
    "trends": (goes_one_way, 0.5),
    "autoregressions": (follows_from_its_past, 0.5),
    "regimes": (is_not_linear, 0.02),
    "heteroscedastic": (changes_in_size, 3.0),
    "counts": (is_a_number_of_things, 0.99),
    "intermittent": (lambda one: float((one.value == 0).mean()), 0.6),
    "level-shifts": (jumps, 5.0),
    "spikes": (has_outliers, 8.0),
    "censored": (comes_again, 0.1),
    "kernels": (follows_from_its_past, 0.5),
    "stores": (follows_from_its_past, 0.5),
    "prices": (has_memory_of_size, 0.01),
    "opening-hours": (sleeps, 0.3),
    "missing-events": (lacks_events, 0.03),
    "mixes": (follows_from_its_past, 0.3),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_series_is_finite_in_order_and_the_same_from_the_same_seed(family: str) -> None:
    made, again, other = ([*series(family, seed, 5, EVENTS)] for seed in (1, 1, 2))
    for one, two, three in zip(made, again, other, strict=True):
        assert EVENTS // 2 < len(one.value) == len(one.time_ms) <= EVENTS
        assert np.isfinite(one.value).all()
        assert one.value.std() > 0
        assert (np.diff(one.time_ms) > 0).all()
        assert step_ms(one) >= 60_000
        assert np.array_equal(one.time_ms, two.time_ms)
        assert np.array_equal(one.value, two.value)
        assert not np.array_equal(one.value, three.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_what_defines_it_and_noise_has_not(family: str) -> None:
    measure, least = DEFINED[family]
    made, rng = [*series(family, 0, MANY, EVENTS)], np.random.default_rng(0)
    plain = [
        Series(one.time_ms[0] + step_ms(one) * np.arange(len(one.value)), 10 + rng.standard_normal(len(one.value)))
        for one in made
    ]
    of_noise, found = (float(np.median([measure(one) for one in some])) for some in (plain, made))
    assert of_noise < least < found, f"{found:.3f}, of noise {of_noise:.3f}"


def test_series_of_one_family_differ_and_more_of_them_begin_with_the_same() -> None:
    few, more = ([*series("seasons", 0, many, 200)] for many in (2, 4))
    assert all(np.array_equal(one.value, two.value) for one, two in zip(few, more, strict=False))
    assert not np.array_equal(more[0].value, more[1].value)


def test_a_recursion_is_what_its_equation_says() -> None:
    x = np.random.default_rng(0).standard_normal(50)
    y = recursive(x, 0.5, -0.2)
    np.testing.assert_allclose(y[2:], x[2:] + 0.5 * y[1:-1] - 0.2 * y[:-2])
    np.testing.assert_allclose(y[:2], [x[0], x[1] + 0.5 * x[0]])
